"""Files, and the log."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

from .errors import LinkError


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by this user only: a reader sees the old text or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
            file.write(text)
        part.replace(path)
    except OSError as error:
        raise LinkError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def log(event: str, **fields: object) -> None:
    """One JSON line on stderr; never a key."""
    line = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
    print(json.dumps(line, default=str), file=sys.stderr, flush=True)  # noqa: T201 - this file's whole log
