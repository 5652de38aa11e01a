"""What breaks the real chain under the page: the network, the GPU's service, the edge, the control plane."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from playwright.sync_api import expect

from tests.browser.chain import Run
from tests.stack import Stack

Fault = Callable[[Run], None]


def cut(seconds: float) -> Fault:
    """Nobody can be reached for so long: neither page nor API nor stream."""

    def fault(run: Run) -> None:
        run.network.down()
        expect(run.page.get_by_test_id("phase")).to_have_text("Connecting again")
        run.hold(seconds)
        run.returned_at.append(run.network.up())
        expect(run.page.get_by_test_id("phase")).to_have_text("Listening", timeout=15_000)

    return fault


def cut_twice(run: Run) -> None:
    for _ in range(2):
        cut(1.5)(run)


def cut_without_api(run: Run) -> None:
    """The control plane answers nothing but errors meanwhile: the ticket in hand must do."""
    run.stack.faults(throttling=[{"service": "dynamodb"}])
    try:
        cut(5)(run)
        assert run.stack.call("GET", "/v1/status").status_code >= 500, "the API must have been down all the time"
    finally:
        run.stack.faults()


def restart_gpu(run: Run) -> None:
    log = run.stack.state_dir / "hosts" / run.stack.gpu_instance_id / "var/log/whisperlive.log"
    asked = time.time()
    run.stack.call("POST", "/v1/gpu/restart", body={"force": True}).raise_for_status()
    run.until(lambda: _ready_since(log, asked), 60, "the service to come back")
    run.returned_at.append(_ready_since(log, asked) or 0)
    expect(run.page.get_by_test_id("phase")).to_have_text("Listening", timeout=15_000)
    run.until(lambda: len(run.connections) > 1, 15, "another connection")


def reload_edge(run: Run) -> None:
    """As the unit's ExecReload does; live streams stay."""
    pid = _caddy(run.stack)
    arguments = (Path("/proc") / str(pid) / "cmdline").read_text().split("\0")
    entries = (Path("/proc") / str(pid) / "environ").read_text().split("\0")
    environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    caddy, config = arguments[0], arguments[arguments.index("--config") + 1]
    subprocess.run(
        [caddy, "reload", "--config", config, "--adapter", "caddyfile", "--force",
         "--address", environment["EDGE_ADMIN"]],
        env=environment, check=True, capture_output=True, timeout=30,
    )  # fmt: skip


def restart_edge(run: Run) -> None:
    os.kill(_caddy(run.stack), signal.SIGTERM)
    expect(run.page.get_by_test_id("phase")).to_have_text("Connecting again", timeout=15_000)
    run.until(lambda: _serves(run.stack), 30, "the edge to come back")
    run.returned_at.append(time.time())
    expect(run.page.get_by_test_id("phase")).to_have_text("Listening", timeout=15_000)


def nothing(run: Run) -> None:
    """Undisturbed."""


def _ready_since(log: Path, since: float) -> float | None:
    """When the launcher said that it serves, if it did after `since`."""
    found = None
    for line in log.read_text(errors="replace").splitlines():
        if '"launcher.ready"' in line:
            at = datetime.datetime.fromisoformat(json.loads(line)["at"]).timestamp()
            found = at if at > since else found
    return found


def _caddy(stack: Stack) -> int:
    """The process that is this stack's edge."""
    wanted = str(stack.state_dir).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:  # it ended while we looked
            continue
        if b"\0run\0--config\0" in line and wanted in line and b"EDGE_ADMIN=" in environment:
            return int(entry.name)
    raise AssertionError("no Caddy of this stack runs")


def _serves(stack: Stack) -> bool:
    try:
        with stack.http() as client:
            return client.get(f"{stack.edge_url}/healthz").status_code == 200
    except httpx.TransportError:
        return False
