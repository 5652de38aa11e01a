"""`whisperctl init`, `up` and `destroy` as an operator runs them, in an empty account on this machine.

The cache that they find holds small wheels and a small Caddy: what a release carries is no matter here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stack import ROOT
from whisperctl.deployment.package import cache_directory as packages
from whisperctl.releases import sources

LONGEST_S = 200.0


@dataclass
class Operator:
    """Somebody at a shell in `folder`, with an account's endpoint and a cache of their own."""

    endpoint: str
    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._fill_cache(self.folder / "cache")
        model = self.folder / "model"
        model.mkdir(exist_ok=True)
        (model / "model.bin").write_bytes(b"model")

    def _fill_cache(self, cache: Path) -> None:
        held = cache / "whisperctl"
        held.mkdir(parents=True, exist_ok=True)
        if packages().is_dir():
            shutil.copytree(packages(), held / "packages", dirs_exist_ok=True)
        lock = (ROOT / "gpu_bootstrap" / "lock-cpu.txt").read_text()
        wheels = sources.folder_of(lock, "x86_64", "3.12", held / "wheels")
        caddy = sources.folder_of(sources.caddy_lock(ROOT), "aarch64", "3.11", held / "wheels")
        for path in (wheels / "small-1-py3-none-any.whl", caddy / "caddy"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"small")

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        return kept | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "operator",
            "AWS_SECRET_ACCESS_KEY": "operator",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }

    def run(self, line: str, *, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """`whisperctl LINE` with what was typed; a traceback is a failure of the test whatever came of it."""
        ran = subprocess.run(
            [sys.executable, "-m", "whisperctl", *line.split()],
            cwd=self.folder,
            env=self.environment | environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        assert "Traceback" not in ran.stderr, ran.stderr
        assert "fault of whisperctl itself" not in ran.stderr, ran.stderr
        return ran

    def done(self, line: str, **more: str) -> str:
        """What the command printed on stdout; it must have ended with 0."""
        ran = self.run(line, **more)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def told(self, line: str) -> Any:
        """What the command said with --json, which is one document and nothing else."""
        return json.loads(self.done(f"{line} --json"))

    def clear(self) -> None:
        """No file of settings, nothing kept."""
        for path in (*self.folder.glob("*.json"), *self.folder.glob("*.pem")):
            path.unlink()
        for path in self.folder.glob("*-kept-*"):
            shutil.rmtree(path)
