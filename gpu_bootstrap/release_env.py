#!/usr/bin/env python3
"""What a release says to its services: `release_env.py DIR PROFILE` prints the lines of DIR/release.env.

The model served is the manifest's `model`, or the only one there is. Each model must be there as a whole, and its
model.bin be what the manifest says. Exit codes: 0, 65 with a sentence about what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EX_DATA = 65
HOME = "/opt/whisperlive/current"
NEEDED = ("model.bin", "config.json", "tokenizer.json")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


class NotComplete(Exception):
    """The release cannot be installed; the message says why."""


def lines(directory: Path, profile: str) -> list[str]:
    """KEY=VALUE lines; raises NotComplete."""
    manifest = read_manifest(directory)
    hashes = {str(one.get("path")): str(one.get("sha256")) for one in manifest.get("files", [])}
    models = sorted(path.name for path in (directory / "models").glob("*") if path.is_dir())
    for model in models:
        check(directory, model, hashes.get(f"models/{model}/model.bin"))
    model = str(manifest.get("model") or (models[0] if len(models) == 1 else ""))
    if model not in models or not NAME.fullmatch(model):
        raise NotComplete(f"the manifest's model is {model!r}, under models/ are: {', '.join(models) or 'none'}")
    found = [
        f"WHISPER_MODEL={model}",
        f"WHISPER_MODELS_PATH={HOME}/models",
        f"WHISPER_MODEL_PATH={HOME}/models/{model}",
        f"WHISPER_RELEASE={directory.name}",
        f"WHISPER_DEVICE={profile}",
        f"LINK_RELEASE={directory.name}",
    ]
    if sha256 := hashes.get(f"models/{model}/model.bin"):
        found.append(f"WHISPER_MODEL_SHA256={sha256}")
    return found


def read_manifest(directory: Path) -> Mapping[str, Any]:
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NotComplete(f"{directory / 'manifest.json'} cannot be read: {error}") from None
    if not isinstance(manifest, dict):
        raise NotComplete(f"{directory / 'manifest.json'} is no JSON object")
    return manifest


def check(directory: Path, model: str, sha256: str | None) -> None:
    """The model is whole and, where the manifest knows its hash, the right one."""
    folder = directory / "models" / model
    for name in NEEDED:
        if not (folder / name).is_file():
            raise NotComplete(f"{folder / name} is missing")
    if sha256 is not None:
        with (folder / "model.bin").open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != sha256:
            raise NotComplete(f"{folder / 'model.bin'} is corrupt: sha256 {found[:12]}…, expected {sha256[:12]}…")


def main(arguments: list[str]) -> int:
    try:
        print("\n".join(lines(Path(arguments[0]), arguments[1])))  # noqa: T201 - its output
    except NotComplete as error:
        print(f"release: {error}", file=sys.stderr)  # noqa: T201 - for the person who installs
        return EX_DATA
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
