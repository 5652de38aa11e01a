"""This host: where things lie, and the few ways in which they change."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import EX_BUSY, ReleaseError

HOMES = {"gpu": "opt/whisperlive", "edge": "opt/edge"}
PACKAGES = {"gpu": "gpu_bootstrap", "edge": "edge_bootstrap"}
"""The name under which a release's bootstrap/ is found by Python and by the SSM documents."""
LOCK_S = 10.0


@dataclass(frozen=True)
class State:
    """`good` passed its check; `previous` was good before it; `pending` is or was on trial."""

    good: str | None = None
    previous: str | None = None
    pending: str | None = None
    settings_changed: bool = False


class Host:
    """Where things lie on this host, and the few ways in which they change."""

    def __init__(self, target: str, prefix: str, say: Callable[[str], None]) -> None:
        self.target = target
        self.home = Path(prefix or "/") / HOMES[target]
        self.settings = Path(prefix or "/") / "etc" / "whisperlive-edge" / "host.env"
        self.releases = self.home / "releases"
        self.say = say
        self._lock: tuple[int, ...] = ()

    def directory(self, release: str) -> Path:
        return self.releases / release

    def current(self) -> str | None:
        """The release that `current` names."""
        try:
            return (self.home / "current").readlink().name
        except OSError:
            return None

    def complete(self, release: str | None) -> bool:
        return release is not None and (self.directory(release) / "manifest.json").is_file()

    def state(self) -> State:
        try:
            held = json.loads((self.home / "state.json").read_text())
        except (FileNotFoundError, ValueError):
            held = {}
        names = {key: held.get(key) for key in ("good", "previous", "pending")}
        return State(**names, settings_changed=bool(held.get("settings_changed")))

    def keep(self, state: State) -> None:
        if state != self.state():
            write_whole(self.home / "state.json", json.dumps(vars(state), indent=1) + "\n", 0o644)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes this host meanwhile; ReleaseError 75 after LOCK_S."""
        self.releases.mkdir(parents=True, exist_ok=True)
        with (self.home / ".release.lock").open("a") as file:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ReleaseError(EX_BUSY, "another release step is at work on this host") from None
                    time.sleep(0.2)
            self._lock = (file.fileno(),)
            yield

    def script(self, release: str, name: str, *arguments: str, **environment: str) -> int:
        """Run a script of a release's bootstrap; its output is ours. The exit code."""
        directory = self.directory(release)
        program = directory / "bootstrap" / name
        sys.stdout.flush()
        try:
            return subprocess.run(
                ["bash", str(program), *arguments],
                cwd=directory,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                pass_fds=self._lock,  # a script that outlives us still holds the lock
                check=False,
            ).returncode
        except OSError as error:
            print(f"{program} does not run: {error.strerror}", file=sys.stderr)  # noqa: T201
            return 127


def write_whole(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all, also when the power fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def sha256_of(path: Path) -> str | None:
    """The hash of a file, None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
