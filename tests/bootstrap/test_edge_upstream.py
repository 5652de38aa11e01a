"""`set-upstream.sh`: the hosts file follows, nothing else changes, and bad input is refused with a code."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "edge_bootstrap" / "set-upstream.sh"
MARK = "# whisperlive-edge upstream"


def run(prefix: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "PREFIX": str(prefix)}
    return subprocess.run([str(SCRIPT), *arguments], env=env, capture_output=True, text=True, timeout=30, check=False)


def hosts(prefix: Path) -> Path:
    return prefix / "etc" / "hosts"


def test_it_keeps_what_others_wrote_and_replaces_its_own(tmp_path: Path) -> None:
    hosts(tmp_path).parent.mkdir()
    hosts(tmp_path).write_text("127.0.0.1 localhost\n10.0.0.1 printer # ours\n")
    assert run(tmp_path, "10.0.1.5", "10.0.1.4").stdout == "upstreams: 10.0.1.4 10.0.1.5\n"
    assert hosts(tmp_path).read_text() == (
        "127.0.0.1 localhost\n10.0.0.1 printer # ours\n"
        f"10.0.1.4 gpu.whisperlive.internal {MARK}\n10.0.1.5 gpu.whisperlive.internal {MARK}\n"
    )
    assert run(tmp_path, "10.0.1.6").returncode == 0
    assert run(tmp_path, "--show").stdout == "10.0.1.6\n"
    assert run(tmp_path, "--none").returncode == 0
    assert hosts(tmp_path).read_text() == "127.0.0.1 localhost\n10.0.0.1 printer # ours\n"
    assert hosts(tmp_path).stat().st_mode & 0o777 == 0o644


def test_the_same_set_in_another_order_changes_nothing(tmp_path: Path) -> None:
    run(tmp_path, "10.0.1.4", "10.0.1.5")
    before = hosts(tmp_path).stat()
    again = run(tmp_path, "10.0.1.5", "10.0.1.4", "10.0.1.4")
    assert (again.returncode, again.stdout) == (0, "unchanged: 10.0.1.4 10.0.1.5\n")
    after = hosts(tmp_path).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert run(tmp_path, "--none").stdout == "upstreams: none\n"
    assert run(tmp_path, "--none").stdout == "unchanged: none\n"


@pytest.mark.parametrize(
    "address",
    [
        "10.0.1",
        "10.0.1.256",
        "010.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "gpu",
        "10.0.1.5 evil",
        "10.0.1.5;id",
        "$(id)",
        "10.0.1.5\n1.2.3.4 bank.example",
        "",
    ],
)
def test_what_is_no_address_is_refused_and_nothing_written(tmp_path: Path, address: str) -> None:
    run(tmp_path, "10.0.1.4")
    before = hosts(tmp_path).read_text()
    refused = run(tmp_path, "10.0.1.5", address)
    assert refused.returncode == 65
    assert "not an IPv4 address" in refused.stderr
    assert hosts(tmp_path).read_text() == before


@pytest.mark.parametrize("arguments", [(), ("--nope",), ("--show", "x"), ("--none", "10.0.0.1"), ("10.0.0.1",) * 17])
def test_wrong_use(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    wrong = run(tmp_path, *arguments)
    assert wrong.returncode == 64
    assert wrong.stderr
    assert not hosts(tmp_path).exists()


def test_a_place_it_cannot_write_to(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file, not a directory")
    refused = run(tmp_path, "10.0.1.5")
    assert refused.returncode == 74
    assert "set-upstream: " in refused.stderr


def test_runs_at_once_leave_one_whole_answer(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        codes = list(threads.map(lambda last: run(tmp_path, f"10.0.1.{last}", "10.0.2.1").returncode, range(1, 9)))
    assert set(codes) == {0}
    shown = run(tmp_path, "--show").stdout.split()
    assert len(shown) == 2
    assert shown[1] == "10.0.2.1"
    assert not list(hosts(tmp_path).parent.glob(".hosts.*"))


def test_it_lints_clean() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
