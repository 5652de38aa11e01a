"""The cap on one address's connections, in a network namespace of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.bootstrap.edge import BOOTSTRAP

RULES = BOOTSTRAP / "limits.nft"
CAP = 256

# Runs inside the namespace: opens connections until one is refused and says how many were let in, from one address,
# from a second one at the same time, and from the first again when one of its own has ended.
PROBE = """
import contextlib, socket, sys
server = socket.create_server(("127.0.0.1", 443), backlog=4096)

def dial(source):
    try:
        one = socket.create_connection(("127.0.0.1", 443), timeout=5, source_address=(source, 0))
    except ConnectionRefusedError:
        return None
    return one, server.accept()[0]

held = []
while len(held) < 1000 and (pair := dial("127.0.0.2")):
    held.append(pair)
other = dial("127.0.0.3")
held[0][0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\x01\\0\\0\\0\\0\\0\\0\\0")
held[0][0].close()
again = dial("127.0.0.2")
print(len(held), other is not None, again is not None)
"""


@pytest.fixture(scope="module")
def nft() -> str:
    program = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if not program:
        pytest.skip("nft is not installed (Debian, Ubuntu: apt-get install nftables)")
    if os.geteuid() != 0:
        pytest.skip("only root makes network namespaces")
    return program


def inside(nft: str, *commands: str) -> subprocess.CompletedProcess[str]:
    script = " && ".join(["ip link set lo up", *commands])
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NFT": nft, "RULES": str(RULES), "PROBE": PROBE}
    return subprocess.run(
        ["unshare", "-n", "sh", "-ec", script], env=env | {"PYTHON": sys.executable}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


def test_one_address_is_capped_and_others_are_not(nft: str) -> None:
    done = inside(nft, '"$NFT" -f "$RULES"', 'ulimit -n 4096; "$PYTHON" -c "$PROBE"')
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(CAP), "True", "True"]


def test_loading_twice_leaves_one_table(nft: str) -> None:
    done = inside(nft, '"$NFT" -f "$RULES"', '"$NFT" -f "$RULES"', '"$NFT" list ruleset')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("table inet whisperlive_edge") == 1
    assert done.stdout.count("ct count over") == 2
