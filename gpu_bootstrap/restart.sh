#!/usr/bin/env bash
# Restart the transcription service of this GPU host; its streams get their last words and close code 1012 first.
set -euo pipefail
exec systemctl restart whisperlive.service
