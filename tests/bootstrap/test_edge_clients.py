"""Which networks may see the page and stream: the script on its own, and the real Caddy obeying its file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.bootstrap.edge import BOOTSTRAP, Edge, Gpu, end, reload, start
from tests.waiting import wait_until
from whisperctl.local.dns import HostsFileDns
from whisperctl.local.http import HttpAnswer, HttpServer

SCRIPT = BOOTSTRAP / "set_clients.py"


def run(prefix: Path, *words: str, systemctl: str = "exit 0") -> subprocess.CompletedProcess[str]:
    """The script with a systemctl of the test's own, which notes how it was called."""
    programs = prefix / "bin"
    programs.mkdir(exist_ok=True)
    shim = programs / "systemctl"
    shim.write_text(f'#!/bin/sh\necho "$@" >>{prefix}/systemctl.log\n{systemctl}\n')
    shim.chmod(0o755)
    env = {"PATH": f"{programs}:/usr/bin:/bin", "PREFIX": str(prefix)}
    return subprocess.run([sys.executable, SCRIPT, *words], env=env, capture_output=True, text=True, check=False)


def reloads(prefix: Path) -> list[str]:
    log = prefix / "systemctl.log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_list_is_written_once_and_caddy_told_once(tmp_path: Path) -> None:
    first = run(tmp_path, "198.51.100.0/24", "2001:db8::/48", "192.0.2.7", "192.0.2.7")
    assert (first.returncode, first.stdout) == (0, "clients: 192.0.2.7/32 198.51.100.0/24 2001:db8::/48\n")
    file = tmp_path / "etc/whisperlive-edge/clients.env"
    assert 'EDGE_CLIENTS="192.0.2.7/32 198.51.100.0/24 2001:db8::/48"\n' in file.read_text()
    before = file.stat().st_mtime_ns
    again = run(tmp_path, "2001:db8::/48", "192.0.2.7/32", "198.51.100.0/24")
    assert again.stdout.startswith("unchanged: ")
    assert file.stat().st_mtime_ns == before
    assert reloads(tmp_path) == ["reload caddy.service"]
    assert run(tmp_path, "--show").stdout == "192.0.2.7/32\n198.51.100.0/24\n2001:db8::/48\n"


def test_all_is_the_default_and_can_be_had_back(tmp_path: Path) -> None:
    assert run(tmp_path, "--show").stdout == "0.0.0.0/0\n::/0\n"
    assert run(tmp_path, "--all").stdout == "unchanged: 0.0.0.0/0 ::/0\n"
    run(tmp_path, "192.0.2.7")
    assert run(tmp_path, "--all").stdout == "clients: 0.0.0.0/0 ::/0\n"


def test_one_network_comes_and_goes_with_its_label(tmp_path: Path) -> None:
    assert run(tmp_path, "--add", "office", "198.51.100.0/24").stdout == "clients: 198.51.100.0/24\n", "no longer all"
    assert run(tmp_path, "--add", "-", "192.0.2.7").returncode == 0
    assert run(tmp_path, "--show").stdout == "192.0.2.7/32\n198.51.100.0/24 office\n"
    assert run(tmp_path, "--add", "-", "198.51.100.0/24").stdout.startswith("unchanged"), "the label stays"
    assert len(reloads(tmp_path)) == 2
    assert run(tmp_path, "--add", "main office", "198.51.100.0/24").stdout.startswith("clients: ")
    assert len(reloads(tmp_path)) == 2, "Caddy knows nothing of labels"
    assert run(tmp_path, "--remove", "192.0.2.7").returncode == 0
    assert run(tmp_path, "--show").stdout == "198.51.100.0/24 main office\n"
    last = run(tmp_path, "--remove", "198.51.100.0/24")
    assert (last.returncode, "last network" in last.stderr) == (64, True)
    absent = run(tmp_path, "--remove", "203.0.113.0/24")
    assert (absent.returncode, "is not in the list" in absent.stderr) == (69, True)
    assert run(tmp_path, "--show").stdout == "198.51.100.0/24 main office\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 64),
        (("--add", "office"), 64),
        (("--add", 'a"b', "192.0.2.7"), 64),
        (("--add", "a\nEDGE_TLS=x", "192.0.2.7"), 64),
        (("--add", "office", "192.0.2.7/24"), 65),
        (("--remove",), 64),
        (("--all", "192.0.2.7"), 64),
        (("--everyone",), 64),
        (("192.0.2.7", "-x"), 64),
        (("192.0.2.7/24",), 65),
        (("192.0.2.300",), 65),
        (("example.org",), 65),
        (("192.0.2.7\nEDGE_TLS=x",), 65),
        (("",), 65),
        (tuple(f"10.0.0.{n}" for n in range(201)), 64),
    ],
)
def test_what_is_no_network_changes_nothing(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    done = run(tmp_path, *words)
    assert done.returncode == code
    assert done.stderr.startswith("set_clients: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "etc").exists()
    assert reloads(tmp_path) == []


def test_a_list_caddy_does_not_take_is_taken_back(tmp_path: Path) -> None:
    run(tmp_path, "192.0.2.7")
    file = tmp_path / "etc/whisperlive-edge/clients.env"
    before = file.read_text()
    done = run(tmp_path, "192.0.2.8", systemctl="exit 1")
    assert done.returncode == 70
    assert "the old one stays" in done.stderr
    assert file.read_text() == before


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge that lets 127.0.0.9 in, and so nobody who dials from 127.0.0.1."""
    directory = tmp_path_factory.mktemp("edge")
    gateway = HttpServer(0, lambda _call: HttpAnswer.json(200, {}), "api")
    dns = HostsFileDns(lambda: directory / "etc" / "hosts")
    options = f"resolvers {dns.address}"
    made = start(directory, EDGE_API=gateway.url, EDGE_UPSTREAM_OPTIONS=options, EDGE_CLIENTS="127.0.0.9/32 ::1/128")
    yield made
    end(made)
    dns.close()
    gateway.close()


@pytest.fixture
def gpu(edge: Edge) -> Iterator[Gpu]:
    made = Gpu()
    edge.follow(made)

    def served() -> bool:
        try:
            with edge.dial("/ws/canary") as connection:
                return connection.recv(timeout=5) == made.address
        except InvalidStatus:
            return False

    wait_until(served, 10, "the upstream")
    yield made
    made.close()


def from_address(edge: Edge, address: str, path: str) -> httpx.Response:
    transport = httpx.HTTPTransport(local_address=address, verify=edge.trust())
    with httpx.Client(transport=transport, base_url=edge.url, timeout=10) as client:
        return client.get(path)


def test_a_stranger_sees_no_page_but_health_and_api(edge: Edge) -> None:
    page = from_address(edge, "127.0.0.1", "/")
    assert page.status_code == 403
    assert "address is not among those let in" in page.text
    assert "strict-transport-security" in page.headers
    assert from_address(edge, "127.0.0.1", "/healthz").status_code == 200
    assert from_address(edge, "127.0.0.1", "/api/v1/health").status_code == 200
    assert from_address(edge, "127.0.0.9", "/").status_code == 200


def test_a_stranger_does_not_stream_and_the_canary_does(edge: Edge, gpu: Gpu) -> None:
    with edge.dial("/ws/canary") as connection:
        assert connection.recv(timeout=5) == gpu.address
    with pytest.raises(InvalidStatus) as caught, edge.dial("/ws"):
        pass
    assert caught.value.response.status_code == 403
    with edge.dial("/ws", source="127.0.0.9") as connection:
        assert connection.recv(timeout=5) == gpu.address
    # A page, anybody's, has no business on the canary's way: browsers say where they come from.
    for origin in (edge.url, "https://evil.example"):
        with pytest.raises(InvalidStatus) as caught, edge.dial("/ws/canary", origin=origin):
            pass
        assert caught.value.response.status_code == 403


def test_a_new_list_leaves_live_streams_alone(edge: Edge, gpu: Gpu) -> None:
    with edge.dial("/ws", source="127.0.0.9") as live:
        assert live.recv(timeout=5) == gpu.address
        try:
            reload(edge, EDGE_CLIENTS="127.0.0.1/32")
            assert from_address(edge, "127.0.0.1", "/").status_code == 200
            assert from_address(edge, "127.0.0.9", "/").status_code == 403
            live.send("still here")
            assert live.recv(timeout=5) == "still here"
        finally:
            reload(edge)


def test_with_tickets_off_there_is_no_way_around_the_list(tmp_path: Path) -> None:
    dns = HostsFileDns(lambda: tmp_path / "etc" / "hosts")
    edge = start(
        tmp_path,
        EDGE_UPSTREAM_OPTIONS=f"resolvers {dns.address}",
        EDGE_CLIENTS="127.0.0.9/32",
        EDGE_OPEN_STREAMS="on",
    )
    try:
        wait_until(lambda: from_address(edge, "127.0.0.9", "/").status_code == 200, 10, "the edge")
        for path in ("/ws/canary", "/ws", "/"):
            with pytest.raises(InvalidStatus) as caught, edge.dial(path, offered=()):
                pass
            assert caught.value.response.status_code == 403, path
    finally:
        end(edge)
        dns.close()
