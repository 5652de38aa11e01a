#!/usr/bin/env bash
# Read what the service is about to need into the page cache, while Python starts: imports alone would wait for the
# disk file by file, and the model is read only after them.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
exec find venv/lib bootstrap "models/${WHISPER_MODEL:?}" -type f \
    \( -name '*.so*' -o -name '*.pyc' -o -name model.bin \) -exec cat {} + >/dev/null
