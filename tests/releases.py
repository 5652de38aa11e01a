"""Small releases for tests: real manifests and real steps, with scripts that stand in for a long installation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalicelib.services.releases import canonical
from whisperctl.releases.archive import archive

ROOT = Path(__file__).resolve().parent.parent
RUNNER = archive(ROOT / "gpu_bootstrap")
"""release.py, as SSM's document fetches it."""

INSTALL = """\
#!/usr/bin/env bash
# What every installer owes: stage beside what serves, activate by the symlink, say so when it fails.
set -euo pipefail
verb=$1 dir=$2
home=$(dirname "$(dirname "$dir")")
case $verb in
    stage)
        echo "staging ${*:3}"
        {stage}
        mkdir -p "$dir/venv"
        ;;
    activate)
        echo "activating, settings changed: ${SETTINGS_CHANGED:-no}"
        if [ "$(readlink "$home/current" 2>/dev/null)" != "releases/$(basename "$dir")" ]; then
            ln -sfn "releases/$(basename "$dir")" "$home/.current"
            mv -T "$home/.current" "$home/current"
            {restart}
        fi
        {activate}
        ;;
esac
"""
CHECK = """\
#!/usr/bin/env bash
set -euo pipefail
echo "check of $1"
{check}
"""


def scripts(stage: str = ":", activate: str = ":", check: str = ":", restart: str = ":") -> dict[str, bytes]:
    """bootstrap/ of a small release; each argument is a line of shell that runs in that step."""
    install = INSTALL.replace("{stage}", stage).replace("{activate}", activate).replace("{restart}", restart)
    return {
        "bootstrap/install.sh": install.encode(),
        "bootstrap/check.sh": CHECK.replace("{check}", check).encode(),
        "bootstrap/release.pyz": RUNNER,
    }


def manifest_of(files: Mapping[str, bytes], target: str = "gpu", **more: str) -> dict[str, Any]:
    """The manifest of these files; a file's kind is the first part of its path."""
    kinds = {"models": "model"}
    listed = [
        {
            "kind": kinds.get(path.split("/")[0], path.split("/")[0]),
            "path": path,
            "key": f"files/{hashlib.sha256(content).hexdigest()}",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        }
        for path, content in sorted(files.items())
    ]
    return {"target": target, **more, "files": listed}


def sha256_of(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(manifest)).hexdigest()
