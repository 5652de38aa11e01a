"""The manifest: a release is what its files are, so the same input has the same name on any machine.

No time, owner, mode or place of a file goes into it: paths within the release, bytes, and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.services.releases import canonical

NAME_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Source:
    """A file on this machine and where it goes: `kind` bootstrap, wheels, model, site or caddy."""

    kind: str
    path: str
    file: Path


@dataclass(frozen=True, slots=True)
class Built:
    """A release ready to be uploaded; `files` are its objects by key, each once."""

    target: str
    name: str
    sha256: str
    manifest: Mapping[str, Any]
    files: Mapping[str, Path]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(int(one["size"]) for one in self.manifest["files"])


def build(target: str, sources: Iterable[Source], **facts: str) -> Built:
    """Hash the files; `facts` (profile, model) stand in the manifest too."""
    listed: list[dict[str, Any]] = []
    files: dict[str, Path] = {}
    for source in sorted(sources, key=lambda one: one.path):
        with source.file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        key = f"files/{sha256}"
        files[key] = source.file
        size = source.file.stat().st_size
        listed.append({"kind": source.kind, "path": source.path, "key": key, "sha256": sha256, "size": size})
    manifest = {"target": target, **facts, "files": listed}
    sha256 = hashlib.sha256(canonical(manifest)).hexdigest()
    return Built(target, sha256[:NAME_LENGTH], sha256, manifest, files)
