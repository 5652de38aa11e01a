#!/usr/bin/env python3
"""Say which networks may see the page and stream.

    set_clients.py NETWORK...   let these in: 192.0.2.7, 198.51.100.0/24, 2001:db8::/48, at most 200
    set_clients.py --all        let everybody in
    set_clients.py --show       print the networks in force, one a line

Writes PREFIX/etc/whisperlive-edge/clients.env, which Caddy's unit reads, and has Caddy reload its configuration;
live streams stay. The same networks again change nothing and reload nothing.

Exit codes: 0 done or already so, 64 usage, 65 not a network, 74 not writable, 70 Caddy did not take it (the old list
is put back).
"""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

EX_USAGE, EX_DATA, EX_SOFTWARE, EX_IO = 64, 65, 70, 74
MOST = 200
EVERYBODY = ("0.0.0.0/0", "::/0")
VARIABLE = "EDGE_CLIENTS"
RELOAD = ("systemctl", "reload", "caddy.service")
RELOAD_TIMEOUT_S = 30.0


class ClientsError(Exception):
    """`str(error)` is a sentence; `code` the exit code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def networks(words: Sequence[str]) -> tuple[str, ...]:
    """The networks these words name, in one order and without repeats; raises ClientsError for what is none.

    A network with host bits set (192.0.2.7/24) is refused: one address may be meant, or two hundred.
    """
    if len(words) > MOST:
        raise ClientsError(EX_USAGE, f"{len(words)} networks are more than {MOST}")
    found = set()
    for word in words:
        try:
            found.add(ipaddress.ip_network(word))
        except ValueError as error:
            raise ClientsError(EX_DATA, f"not a network: {word!r} ({error})") from None
    ordered = sorted(found, key=lambda one: (one.version, int(one.network_address), one.prefixlen))
    return tuple(str(one) for one in ordered)


def in_force(text: str) -> tuple[str, ...]:
    """The networks a clients.env lets in; everybody when it says nothing."""
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == VARIABLE:
            return tuple(value.strip().strip('"').split())
    return EVERYBODY


def wanted_text(allowed: Sequence[str]) -> str:
    return f'# Written by set_clients.py; read by caddy.service.\n{VARIABLE}="{" ".join(allowed)}"\n'


def apply(path: Path, allowed: Sequence[str], reload: Callable[[], None]) -> bool:
    """Put the list in force; False when it is already. Raises ClientsError, the old list then being in force."""
    try:
        before = path.read_text() if path.exists() else None
        if in_force(before or "") == tuple(allowed):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, wanted_text(allowed))
    except OSError as error:
        raise ClientsError(EX_IO, f"cannot write {path}: {error.strerror}") from None
    try:
        reload()
    except (OSError, subprocess.SubprocessError) as error:
        if before is None:
            path.unlink()
        else:
            _write(path, before)
        raise ClientsError(EX_SOFTWARE, f"Caddy did not take the list ({error}); the old one stays") from None
    return True


def _write(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".clients.")
    with os.fdopen(handle, "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    Path(name).chmod(0o644)
    Path(name).replace(path)


def reload_caddy() -> None:
    subprocess.run(RELOAD, check=True, capture_output=True, timeout=RELOAD_TIMEOUT_S)


def main(arguments: Sequence[str]) -> int:
    path = Path(f"{os.environ.get('PREFIX', '')}/etc/whisperlive-edge/clients.env")
    try:
        match list(arguments):
            case ["--show"]:
                print("\n".join(in_force(path.read_text() if path.exists() else "")))  # noqa: T201
                return 0
            case ["--all"]:
                allowed: tuple[str, ...] = EVERYBODY
            case ["-h" | "--help"]:
                print(__doc__)  # noqa: T201
                return 0
            case [] | ["--all" | "--show", *_]:
                raise ClientsError(EX_USAGE, "give the networks to let in, or --all, or --show (see --help)")
            case words if any(word.startswith("-") for word in words):
                raise ClientsError(EX_USAGE, "there are no other options than --all, --show and --help")
            case words:
                allowed = networks(words)
        changed = apply(path, allowed, reload_caddy)
    except ClientsError as error:
        print(f"set_clients: {error}", file=sys.stderr)  # noqa: T201
        return error.code
    print(f"{'clients' if changed else 'unchanged'}: {' '.join(allowed)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
