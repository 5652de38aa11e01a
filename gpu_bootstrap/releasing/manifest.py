"""What a release is, and what a host may be told: checked before anything is done with it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import EX_DATA, ReleaseError

SHA = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_VALUE = re.compile(r"[^\x00-\x1f\x7f\"'\\$`]{0,1000}")


@dataclass(frozen=True)
class File:
    """One file of a release: its path in the release's directory, its key in the plan, its hash and bytes."""

    kind: str
    path: str
    key: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a release is; `data` as it was read."""

    data: Mapping[str, Any]
    files: tuple[File, ...]

    @property
    def profile(self) -> str:
        return str(self.data.get("profile", ""))


def canonical(manifest: Mapping[str, Any]) -> bytes:
    """The bytes whose sha256 names the release: JSON, keys sorted, no blanks, ASCII."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def manifest_of(data: Any, target: str, sha256: str) -> Manifest:
    """The manifest, checked: its hash, its target, and that no path leaves the release. ReleaseError 65."""
    if not isinstance(data, dict) or not isinstance(data.get("files"), list):
        raise ReleaseError(EX_DATA, "the manifest is not an object with a list of files")
    found = hashlib.sha256(canonical(data)).hexdigest()
    if found != sha256:
        raise ReleaseError(EX_DATA, f"the manifest's sha256 is {found[:16]}…, not {sha256[:16]}…")
    if data.get("target") != target:
        raise ReleaseError(EX_DATA, f"the release is for {data.get('target')!r}, this host is {target!r}")
    files = tuple(_file(one) for one in data["files"])
    paths = [one.path for one in files]
    if len(set(paths)) != len(paths):
        raise ReleaseError(EX_DATA, "the manifest names a path twice")
    return Manifest(data, files)


def _file(data: Any) -> File:
    try:
        file = File(str(data["kind"]), data["path"], data["key"], data["sha256"], data["size"])
        fits = _PATH.fullmatch(file.path) and SHA.fullmatch(file.sha256) and isinstance(file.key, str)
        fits = fits and isinstance(file.size, int) and file.size >= 0
    except (KeyError, TypeError):
        fits = None
    if not fits:
        raise ReleaseError(EX_DATA, f"an entry of the manifest is not one: {str(data)[:200]}")
    return file


def settings_text(settings: Any) -> str:
    """host.env: KEY=VALUE lines, sorted; ReleaseError 65 names the one that is not fit."""
    if not isinstance(settings, dict):
        raise ReleaseError(EX_DATA, "the plan's settings are not an object")
    for key, value in settings.items():
        if not (_KEY.fullmatch(str(key)) and isinstance(value, str) and _VALUE.fullmatch(value)):
            raise ReleaseError(EX_DATA, f"the setting {str(key)[:64]!r} is not a KEY=VALUE that host.env can hold")
    return "".join(f"{key}={settings[key]}\n" for key in sorted(settings))
