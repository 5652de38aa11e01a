"""What CloudFormation is given, named by what it is: a second `up` of the same checkout finds nothing to change."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whisperctl import packaging
from whisperctl.packaging import ROOT, SHIPS

KEPT = 3
"""How many packages stay in the cache."""
SHORT = 16


@dataclass(frozen=True, slots=True)
class Package:
    """The Lambdas' archive on this machine and the template that is to name it."""

    archive: Path
    sha256: str
    template: dict[str, Any]

    @property
    def code_key(self) -> str:
        """The archive's object in the bucket of packages."""
        return f"packages/{self.sha256[:SHORT]}.zip"

    def template_text(self, bucket: str) -> str:
        """The template whose functions lie in this bucket; the same text for the same input."""
        template = json.loads(json.dumps(self.template))
        for function in packaging.functions(template).values():
            function["Properties"]["CodeUri"] = {"Bucket": bucket, "Key": self.code_key}
        return json.dumps(template, sort_keys=True, separators=(",", ":"))


def template_key(text: str) -> str:
    """The template's object in the bucket of packages."""
    return f"packages/{hashlib.sha256(text.encode()).hexdigest()[:SHORT]}.json"


def build(cache: Path | None = None, root: Path = ROOT) -> Package:
    """Package the checkout, or take it from the cache where the same one was packaged before."""
    folder = (cache or cache_directory()) / fingerprint(root)
    if not (folder / packaging.TEMPLATE).is_file():
        _fill(folder, root)
    archive = folder / packaging.ARCHIVE
    with archive.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    return Package(archive, sha256, json.loads((folder / packaging.TEMPLATE).read_text()))


def fingerprint(root: Path = ROOT) -> str:
    """Names what goes into a package: every file of ours, and the Python and Chalice that pack it."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {importlib.metadata.version('chalice')}".encode())
    skipped = {"__pycache__", "deployments", "deployed"}
    for name in (*SHIPS, "whisperctl/packaging.py"):
        place = root / name
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and not skipped & set(path.parts) and path.suffix != ".pyc":
                digest.update(f"\n{path.relative_to(root)} ".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:24]


def cache_directory() -> Path:
    """Where packages are kept: XDG_CACHE_HOME, else ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisperctl" / "packages"


def _fill(folder: Path, root: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".package-", dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        packaging.build(made, "prod", root)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / packaging.TEMPLATE).is_file():
                raise  # else another run was first
    others = sorted(folder.parent.glob("[0-9a-f]*"), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in others[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
