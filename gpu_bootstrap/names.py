"""Models' short names: `tiny.en` is the name of the folder, and what a client may call Systran's conversion of it."""

from __future__ import annotations

import re

HUB_PREFIXES = ("Systran/faster-whisper-", "mobiuslabsgmbh/faster-whisper-")
ALIASES = {"large": "large-v3", "turbo": "large-v3-turbo"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A short name, and that of its folder."""


def short_name(model: str) -> str:
    """`Systran/faster-whisper-tiny.en` → `tiny.en`, `turbo` → `large-v3-turbo`; short names stay."""
    for prefix in HUB_PREFIXES:
        model = model.removeprefix(prefix)
    return ALIASES.get(model, model)
