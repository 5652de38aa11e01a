"""An archive for asking for help: what was found, what the API and the hosts say, and nothing that opens a door."""

from __future__ import annotations

import io
import json
import platform
import re
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whisperctl.errors import UsageError

PRIVATE = r"10\.|127\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|0\.0\.0\.0"
PUBLIC = rf"(?<![\d.])(?!{PRIVATE})(?:\d{{1,3}}\.){{3}}\d{{1,3}}(?![\d.])"
REDACTIONS = (
    (r"wle_[A-Za-z0-9_-]{8,}", "<token>"),
    (r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", "<ticket>"),
    (r"(?i)(bearer[ ,]+)[^\s\"',]{6,}", r"\1<token>"),
    (r"(?i)(\"?(?:secret|password|token|ticket|authorization|api_?key)\"?\s*[:=]\s*\"?)[^\s\",}]{4,}", r"\1<secret>"),
    (r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b", "<access-key>"),
    (r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"]+", r"\1<signature>"),
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", "<private-key>"),
    (r"https://hooks\.[^\s\"]+", "<webhook>"),
    (r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b", "<e-mail>"),
    (r"\b\d{12}\b", "<account>"),
    (PUBLIC, "<address>"),
)
"""Pattern, what stands there instead. Private addresses stay: they tell the way through the stack, and no more."""


def redacted(text: str, secrets: Mapping[str, str] | None = None) -> str:
    """The text without the `secrets` (value → what stands for it), and without what looks like one."""
    for value, name in (secrets or {}).items():
        if len(value) >= 6:
            text = text.replace(value, f"<{name}>")
    for pattern, instead in REDACTIONS:
        text = re.sub(pattern, instead, text, flags=re.DOTALL)
    return text


def write(path: Path, files: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
    """A .tar.gz for its owner only; values that are no text become JSON. UsageError when it cannot be written."""
    about = {"made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "python": platform.python_version()}
    try:
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        with tarfile.open(path, "w:gz") as archive:
            for name, content in {"about.json": {**about, "system": sys.platform}, **files}.items():
                text = content if isinstance(content, str) else json.dumps(content, indent=2, default=str) + "\n"
                data = redacted(text, secrets).encode()
                entry = tarfile.TarInfo(f"whisperctl-doctor/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise UsageError(f"--bundle {path}: {error.strerror}") from None
