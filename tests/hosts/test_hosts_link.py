"""The host link on real hosts: drains and keys arrive, the operator's commands need no port, silence powers off."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.hosts.conftest import Installed
from tests.hosts.streams import awake, close_session, is_known, open_session, open_stream
from tests.hosts.world import World
from tests.stack import ROOT, whisperctl
from tests.waiting import wait_until
from tests.wss import SHORT, Heard, dial, handshake, listen, said, word_error_rate

pytestmark = pytest.mark.timeout(600)
REPORT_S = 5.0
"""Between two reports of a host that is awake."""
CONTROL = "/run/whisperlive/control.json"
DEADMAN_S = 6.0


def up(installed: Installed) -> World:
    """The world, its GPU host awake and ready."""
    awake(installed.world)
    return installed.world


def ctl(world: World, *arguments: str, timeout: float = 120) -> str:
    run = whisperctl(*arguments, "--state-dir", str(world.stack.state_dir), timeout=timeout)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def kids(world: World) -> set[str]:
    """The keys that the GPU host knows."""
    return {key["kid"] for key in json.loads(world.must(world.gpu, f"cat {CONTROL}"))["ticket_keys"]}


def run_of_service(world: World) -> str:
    """Another one after each restart."""
    return world.must(world.gpu, "systemctl show -P InvocationID whisperlive")


@pytest.mark.endurance
def test_a_restart_is_announced_to_the_speaker_within_two_reports(installed: Installed) -> None:
    world = up(installed)
    run = run_of_service(world)
    with open_stream(world) as live:
        wait_until(lambda: is_known(world, live), 15, "the stream's report", every=0.2)
        asked = time.monotonic()
        ctl(world, "restart", "gpu")
        notice = live.wait_for("NOTICE", 2 * REPORT_S + 5)
        took = live.moment_of("NOTICE") - asked
        sys.stdout.write(f"from `whisperctl restart gpu` to the speaker's NOTICE: {took:.1f} s\n")
        assert took <= 2 * REPORT_S
        assert notice["closing_at"]
        live.speak()
        live.wait_closed()
    assert (live.heard.close_code, word_error_rate(said(SHORT), live.heard.text()) <= 0.15) == (1012, True)
    wait_until(
        lambda: world.must(world.gpu, "systemctl show -P InvocationID whisperlive") != run,
        60,
        "the restart",
        every=0.3,
    )
    world.stack.wait_phase("ready", 60)


@pytest.mark.endurance
def test_keys_are_rotated_while_a_stream_lives(installed: Installed) -> None:
    world = up(installed)
    session = open_session(world)
    with open_stream(world, session) as live:
        before = kids(world)
        new = json.loads(ctl(world, "token", "rotate-keys", "--json"))["kid"]
        wait_until(lambda: kids(world) == before | {new}, 2 * REPORT_S + 5, "the new key", every=0.2)
        # By now nobody signs with it; when all hosts know it, it signs, and what the old one signed is good still.
        early = open_session(world)
        assert kid_of(early["ticket"]) in before
        world.stack.advance(31)
        wait_until(lambda: world.stack.phase() == "ready", 30, "a report after the jump", every=0.2)
        later = open_session(world)
        assert kid_of(later["ticket"]) == new
        for one in (early, later):
            with open_stream(world, one) as other:
                other.finish()
                assert other.heard.close_code == 1000
            close_session(world, one)
        only = json.loads(ctl(world, "token", "rotate-keys", "--drop", "--json"))["kid"]
        wait_until(lambda: kids(world) == {only}, 2 * REPORT_S + 5, "the older keys to be gone", every=0.2)
        assert live.is_open, "its ticket opens nothing more, and it lives"
        live.finish()
    assert live.heard.close_code == 1000
    assert word_error_rate(said(SHORT), live.heard.text()) <= 0.15
    assert refusal(world, session)[0] == 4401
    close_session(world, session)


def kid_of(ticket: str) -> str:
    import jwt

    return str(jwt.get_unverified_header(ticket)["kid"])


def refusal(world: World, session: dict[str, Any]) -> tuple[int | None, str]:
    """How a connection with this ticket is closed."""
    heard = Heard()
    try:
        with dial(session["ws_url"], session["ticket"], world.stack.ca_cert) as connection:
            connection.send(handshake())
            listen(connection, heard)
    except ConnectionClosed as closed:
        return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd is not None else (1006, "")
    return heard.close_code, heard.close_reason


def test_the_operators_commands_reach_both_hosts_and_no_port_is_open_for_them(installed: Installed) -> None:
    world = up(installed)
    for target, unit, host in (("gpu", "whisperlive", world.gpu), ("edge", "caddy", world.edge)):
        lines = ctl(world, "logs", target, "--lines", "5").splitlines()
        assert 0 < len(lines) <= 5
        told = json.loads(ctl(world, "logs", target, "--unit", "link", "--lines", "3", "--json"))
        assert (told["instance_id"], told["unit"], len(told["lines"]) > 0) == (host, "link", True)
        assert any("link." in line for line in told["lines"])
        inside = shell(world, target, "hostname; id -u; systemctl is-active " + unit)
        assert inside.split()[-3:] == [host, "0", "active"]

    caddy = world.must(world.edge, "systemctl show -P MainPID caddy")
    assert ctl(world, "restart", "edge") == f"{world.edge} restarted Caddy\n"
    assert world.must(world.edge, "systemctl show -P MainPID caddy") != caddy

    listening = {host: ports(world, host) for host in (world.gpu, world.edge)}
    assert listening == {
        world.gpu: {("*", 9090), ("127.0.0.1", 9091)},
        world.edge: {("*", 80), ("*", 443), ("127.0.0.1", 2019)},
    }
    for host in (world.gpu, world.edge):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((world.address(host), 22), timeout=5)


def shell(world: World, target: str, script: str) -> str:
    """`whisperctl shell`, typed into."""
    arguments = ("shell", target, "--state-dir", str(world.stack.state_dir))
    run = subprocess.run(
        [sys.executable, "-m", "whisperctl", *arguments],
        input=f"{script}\nexit\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def ports(world: World, host: str) -> set[tuple[str, int]]:
    """TCP ports that are listened on, with the address; all addresses are *."""
    found = set()
    for line in world.must(host, "ss -Hltn").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        found.add((re.sub(r"^(0\.0\.0\.0|\[::\]|\*)$", "*", address), int(port)))
    return found


def answered_at(world: World) -> float:
    """When the control plane last answered the GPU host; CLOCK_MONOTONIC is the same on all hosts of a machine."""
    return float(json.loads(world.must(world.gpu, "cat /run/whisperlive/deadman.json"))["answered_at"] or 0.0)


@pytest.mark.endurance
def test_a_host_that_nobody_answers_powers_itself_off_but_not_under_a_stream(installed: Installed) -> None:
    world = up(installed)
    gateway = world.bridge_address
    # In /run, so that the next boot has its usual minutes.
    override = "/run/systemd/system/whisperlive-link.service.d"
    minutes = f"[Service]\\nEnvironment=LINK_DEADMAN_MINUTES={DEADMAN_S / 60}\\n"
    world.must(
        world.gpu, f"mkdir -p {override} && printf '{minutes}' >{override}/test.conf && systemctl daemon-reload"
    )
    stops = len(world.stack.calls("StopInstances"))
    try:
        session = open_session(world)
        with open_stream(world, session) as live:
            asked_at = time.monotonic()
            world.must(world.gpu, "systemctl restart whisperlive-link")
            wait_until(lambda: answered_at(world) > asked_at, 20, "an answer", every=0.2)
            # The host alone no longer reaches the control plane; the edge and the stream are as they were.
            world.must(world.gpu, f"ip route add blackhole {gateway}/32")
            enough = DEADMAN_S + 3
            wait_until(lambda: time.monotonic() - answered_at(world) > enough, 60, "its minutes and more", every=0.3)
            assert live.is_open
            assert world.state(world.gpu) == "running"
            live.finish()
            ended = time.monotonic()
        assert live.heard.close_code == 1000
        assert word_error_rate(said(SHORT), live.heard.text()) <= 0.15
        # Or its wish would start the host again as soon as it is off.
        close_session(world, session)
        wait_until(lambda: world.state(world.gpu) == "stopped", 60, "the host to be off", every=0.2)
        assert time.monotonic() - ended >= DEADMAN_S - 1, "its minutes count from the last stream"
        assert world.machine(world.gpu)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
        assert len(world.stack.calls("StopInstances")) == stops, "nobody asked EC2"
    finally:
        awake(world)
        again = f"rm -rf {override}; systemctl daemon-reload; systemctl restart whisperlive-link"
        world.must(world.gpu, f"ip route del blackhole {gateway}/32 2>/dev/null; {again}")
