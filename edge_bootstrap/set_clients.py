#!/usr/bin/env python3
"""Say which networks may see the page and stream.

    set_clients.py NETWORK...            let these in: 192.0.2.7, 198.51.100.0/24, 2001:db8::/48, at most 200
    set_clients.py --add LABEL NETWORK   let this one in too; LABEL says whose it is ('-' for none)
    set_clients.py --remove NETWORK      no longer this one
    set_clients.py --all                 let everybody in
    set_clients.py --show                print the networks in force, one a line, each with its label

Writes PREFIX/etc/whisperlive-edge/clients.env, which Caddy's unit reads, and has Caddy reload its configuration;
live streams stay. The same networks again change nothing and reload nothing. The first --add ends "everybody"; the
last network cannot be removed, since an empty list would let nobody or everybody in: say --all for that.

Exit codes: 0 done or already so, 64 usage, 65 not a network, 69 no such network in the list, 70 Caddy did not take it
(the old list is put back), 74 not writable.
"""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

EX_USAGE, EX_DATA, EX_UNAVAILABLE, EX_SOFTWARE, EX_IO = 64, 65, 69, 70, 74
MOST = 200
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,39}")
NO_LABEL = "-"
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


def labels_in(text: str) -> dict[str, str]:
    """Network → label; only of networks that have one."""
    found = (
        line.removeprefix("# label ").partition(" ") for line in text.splitlines() if line.startswith("# label ")
    )
    return {network: label for network, _, label in found if label}


def wanted_text(allowed: Sequence[str], labels: Mapping[str, str] | None = None) -> str:
    named = "".join(f"# label {one} {labels[one]}\n" for one in allowed if labels and one in labels)
    return f'# Written by set_clients.py; read by caddy.service.\n{named}{VARIABLE}="{" ".join(allowed)}"\n'


def added(text: str, label: str, word: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The list with this network, and its labels; raises ClientsError."""
    if label != NO_LABEL and not LABEL.fullmatch(label):
        raise ClientsError(EX_USAGE, "a label holds letters, digits, blanks and . _ @ -, at most 40 of them")
    before = [one for one in in_force(text) if one not in EVERYBODY]
    (network,) = networks([word])
    allowed = networks([*before, network])
    labels = labels_in(text) | ({network: label} if label != NO_LABEL else {})
    return allowed, labels


def removed(text: str, word: str) -> tuple[str, ...]:
    """The list without this network; raises ClientsError where it is not in it, or the last."""
    (network,) = networks([word])
    before = in_force(text)
    if network not in before:
        raise ClientsError(EX_UNAVAILABLE, f"{network} is not in the list")
    if len(before) == 1:
        raise ClientsError(EX_USAGE, f"{network} is the last network of the list; --all lets everybody in")
    return tuple(one for one in before if one != network)


def apply(
    path: Path, allowed: Sequence[str], reload: Callable[[], None], labels: Mapping[str, str] | None = None
) -> bool:
    """Put the list in force; False when it is already. Raises ClientsError, the old list then being in force.

    Labels that are not given are kept for the networks that stay.
    """
    try:
        before = path.read_text() if path.exists() else None
        text = wanted_text(allowed, labels_in(before or "") if labels is None else labels)
        same = in_force(before or "") == tuple(allowed)
        if same and (labels is None or text == before):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text)
    except OSError as error:
        raise ClientsError(EX_IO, f"cannot write {path}: {error.strerror}") from None
    if same:
        return True  # only a label is new; Caddy knows nothing of labels
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
    labels: dict[str, str] | None = None
    try:
        text = path.read_text() if path.exists() else ""
        match list(arguments):
            case ["--show"]:
                named = labels_in(text)
                print("\n".join(f"{one} {named.get(one, '')}".rstrip() for one in in_force(text)))  # noqa: T201
                return 0
            case ["--add", label, word]:
                allowed, labels = added(text, label, word)
            case ["--remove", word]:
                allowed = removed(text, word)
            case ["--all"]:
                allowed = EVERYBODY
            case ["-h" | "--help"]:
                print(__doc__)  # noqa: T201
                return 0
            case [] | ["--all" | "--show" | "--add" | "--remove", *_]:
                raise ClientsError(EX_USAGE, "give the networks to let in, or one of the options of --help")
            case words if any(word.startswith("-") for word in words):
                raise ClientsError(EX_USAGE, "there are no other options than those of --help")
            case words:
                allowed = networks(words)
        changed = apply(path, allowed, reload_caddy, labels)
    except OSError as error:
        print(f"set_clients: cannot read {path}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return EX_IO
    except ClientsError as error:
        print(f"set_clients: {error}", file=sys.stderr)  # noqa: T201
        return error.code
    print(f"{'clients' if changed else 'unchanged'}: {' '.join(allowed)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
