"""A root tree of Debian or Ubuntu for systemd hosts: made once by debootstrap, kept in the user's cache.

The tree is what a cloud image has before anything of ours is installed: systemd, Python with venv, curl. Hosts lie
over it by overlayfs and never write into it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from whisperctl.local.preflight import CannotStart

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "iproute2",
    "python3",
    "python3-venv",
    "ca-certificates",
    "curl",
)
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nsenter": "util-linux",
}


def why_not() -> str | None:
    """Why hosts with systemd cannot run here, with the remedy; None when they can."""
    if os.geteuid() != 0:
        return "hosts with systemd need root"
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        return f"hosts with systemd need {' and '.join(missing)}: apt-get install {' '.join(missing)}"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "hosts with systemd need overlayfs in the kernel"
    return None


def cache_directory(env: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/whisperlive-edge`, ~/.cache by default."""
    base = env.get("XDG_CACHE_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".cache")
    return Path(base) / "whisperlive-edge"


def root_tree(cache: Path) -> Path:
    """The tree for this machine's own release; made on the first call (a minute), whoever asks at the same time."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    name = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
    tree = cache / f"root-{codename}-{name}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            _debootstrap(tree, codename, mirror(codename))
    return tree


# debootstrap mounts within the tree and takes a minute: when we end, it ends, and what it has mounted goes with it.
OWN_NAMESPACES = (
    "setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private", "--pid", "--fork",
    "--kill-child", "--mount-proc", "--",
)  # fmt: skip


def _debootstrap(tree: Path, codename: str, uri: str) -> None:
    part = tree.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    command = [
        *OWN_NAMESPACES,
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        codename,
        str(part),
        uri,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stdout.strip().splitlines() or ["no message"])[-1]
        raise CannotStart(f"debootstrap could not make a root tree from {uri}: {last}")
    shutil.rmtree(part / "var" / "cache" / "apt" / "archives", ignore_errors=True)
    part.rename(tree)


def mirror(codename: str, apt: Path = Path("/etc/apt")) -> str:
    """The archive this machine's own packages come from; raises CannotStart where apt names none."""
    listed = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for path in listed:
        if path.is_file():
            for uri, suites, components in _entries(path):
                if codename in suites and "main" in components:
                    return uri
    raise CannotStart(f"apt's sources under {apt} name no archive of {codename} to make a root tree from.")


def _entries(path: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`(URI, suites, components)` of a one-line or a deb822 file (sources.list(5))."""
    text = path.read_text()
    if path.suffix == ".sources":
        for stanza in text.split("\n\n"):
            fields = {
                name.strip().lower(): value.split()
                for name, colon, value in (line.partition(":") for line in stanza.splitlines() if line[:1] != "#")
                if colon
            }
            if "deb" in fields.get("types", []):
                for uri in fields.get("uris", []):
                    yield uri, fields.get("suites", []), fields.get("components", [])
        return
    for line in text.splitlines():
        words = [word for word in line.partition("#")[0].split() if not (word.startswith("[") or word.endswith("]"))]
        if len(words) > 3 and words[0] == "deb":
            yield words[1], [words[2]], words[3:]
