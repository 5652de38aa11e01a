"""Probes on the embedded cloud: one layer is broken at a time, and each time the right one is named.

What is found stands in docs/probes.md; PROBES_TABLE=write (make probes) writes it there anew, else it is compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.app import breaking
from tests.app.breaking import Host, breakable, forget_probes
from tests.app.lifecycle import Log
from tests.stack import Stack, whisperctl
from tests.waiting import wait_until

# By `make probes`: it breaks the hosts of its stack, and takes four minutes.
pytestmark = [pytest.mark.timeout(300), pytest.mark.endurance]

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "probes.md"
BEGIN, END = "<!-- table of broken layers -->\n", "<!-- end of the table -->\n"
ROWS: dict[str, str] = {}
LATER_S = 300
"""By then every agent should be connected."""


@pytest.fixture(scope="module")
def hosts(stack: Stack) -> Iterator[tuple[Host, Host]]:
    """A GPU that is ready and a stack that is green, on hosts that can be broken."""
    stack.faults()
    stack.asleep()
    with breakable(stack) as made:
        stack.call("POST", "/v1/gpu/start", body={"minutes": 240}).raise_for_status()
        stack.wait_phase("ready", 120)
        stack.faults(ticks={"lost": True})
        later(stack, LATER_S)
        forget_probes(stack)
        green = ask(stack)
        assert green["ok"], green
        yield made
        stack.faults()
        stack.asleep()


@pytest.fixture(autouse=True)
def afresh(stack: Stack, hosts: tuple[Host, Host]) -> None:  # noqa: ARG001  # the hosts come first
    """No fault but that ticks come when the test lets them come, and no probe yet."""
    stack.faults(ticks={"lost": True})
    forget_probes(stack)


def later(stack: Stack, seconds: float) -> None:
    """Let time pass, and the hosts report again: after a jump of the clock their last word is old."""
    stack.advance(seconds)
    then = stack.status()["now"]

    def heard() -> bool:
        status = stack.status()
        return all(str(status[name]["reported_at"] or "") > then for name in ("gpu", "edge"))

    wait_until(heard, 75, "reports of both hosts", every=0.2)


def ask(stack: Stack) -> dict[str, Any]:
    answer = stack.call("POST", "/v1/probe")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def looked(stack: Stack, *, until: Callable[[dict[str, Any]], bool], ticks: int = 2) -> dict[str, Any]:
    """The kept probe after at most so many minutes' looks, without anybody asking."""
    for _ in range(ticks):
        before = when(stack)
        stack.invoke("probe")
        wait_until(lambda old=before: when(stack) != old, 40, "a look", every=0.2)  # type: ignore[misc]
        found = stack.status()["last_probe"]
        if until(found):
            return dict(found)
    raise AssertionError(f"not within {ticks} ticks: {json.dumps(found)}")


def when(stack: Stack) -> str | None:
    """When the last probe that was kept was made."""
    return str((stack.status()["last_probe"] or {}).get("at"))


def assert_named(found: dict[str, Any], layer: str, detail: str, remedy: str) -> dict[str, Any]:
    assert (found["ok"], found["cause"]) == (False, layer), json.dumps(found)
    names = [one["name"] for one in found["layers"]]
    named = found["layers"][names.index(layer)]
    assert detail in named["detail"], named
    assert remedy in (named["remedy"] or ""), named
    assert {one["verdict"] for one in found["layers"][names.index(layer) + 1 :]} <= {"not_reached"}
    return dict(named)


def row(what: str, named: dict[str, Any]) -> None:
    """Keep a line of the table, without what differs from run to run."""
    said = re.sub(r"\bi-[0-9a-f]+", "i-…", named["detail"])
    said = re.sub(r"\b127(\.\d+){3}", "10.…", said)
    said = re.sub(r"/\S*/run/", "/…/", said)
    said = re.sub(r"localhost:\d+", "EDGE:443", said)
    ROWS[what] = f"| {what} | `{named['name']}` | {said} | {named['remedy']} |"


def agent_offline(stack: Stack) -> AbstractContextManager[None]:
    return faulty(stack, agent={"offline": True})


def commands_fail(stack: Stack) -> AbstractContextManager[None]:
    return faulty(stack, commands=[{"document": "*", "status": "Failed", "output": "no space left on device"}])


@contextlib.contextmanager
def faulty(stack: Stack, **faults: Any) -> Iterator[None]:
    stack.faults(ticks={"lost": True}, **faults)
    try:
        yield
    finally:
        stack.faults(ticks={"lost": True})


BREAKS: list[tuple[str, Callable[[Stack, Host, Host, Path], AbstractContextManager[None]], str, str, str]] = [
    ("the edge is down", lambda _s, _g, edge, _d: breaking.edge_down(edge), "edge", "timed out", "restart edge"),
    (
        "the edge's certificate expired",
        lambda _s, _g, edge, at: breaking.expired_certificate(edge, at),
        "certificate",
        "certificate has expired",
        "renewed",
    ),
    (
        "the ticket's secret was rotated on one side",
        lambda _s, gpu, _e, _d: breaking.other_keys(gpu),
        "upgrade",
        "4401",
        "ticket keys",
    ),
    ("a host's SSM agent is offline", lambda stack, *_: agent_offline(stack), "agent", "not connected", "agent"),
    ("SSM commands fail", lambda stack, *_: commands_fail(stack), "agent", "no space left", "disk"),
]


@pytest.mark.parametrize(("what", "broken", "layer", "detail", "remedy"), BREAKS, ids=[one[0] for one in BREAKS])
def test_the_broken_layer_is_named(
    stack: Stack,
    hosts: tuple[Host, Host],
    tmp_path: Path,
    what: str,
    broken: Callable[[Stack, Host, Host, Path], AbstractContextManager[None]],
    layer: str,
    detail: str,
    remedy: str,
) -> None:
    with broken(stack, *hosts, tmp_path):
        assert_named(looked(stack, until=lambda one: one["cause"] == layer), layer, detail, remedy)
        row(what, assert_named(ask(stack), layer, detail, remedy))


def test_a_throttled_table_is_named_by_the_refusal_itself(stack: Stack) -> None:
    with faulty(stack, throttling=[{"service": "dynamodb"}]):
        refused = stack.call("POST", "/v1/probe")
        assert refused.status_code == 503
        problem = refused.json()
        assert (problem["cause"], "DynamoDB" in problem["remedy"]) == ("table", True)
        assert stack.call("GET", "/v1/status").status_code == 503, "nothing is green without it"
        run = whisperctl("probe", "--state-dir", str(stack.state_dir))
        assert run.returncode == 1
        assert run.stderr.startswith("whisperctl: table: The table does not answer")
    row("DynamoDB throttles", {"name": "table", "detail": problem["detail"], "remedy": problem["remedy"]})


def test_an_edge_that_forwards_wrongly_is_named_and_told_again(stack: Stack, hosts: tuple[Host, Host]) -> None:
    _, edge = hosts
    log = Log(stack)
    with breaking.wrong_upstream(edge):
        wait_until(lambda: stack.status()["edge"]["upstreams"] == [breaking.WRONG], 20, "the edge to report it")
        later(stack, 70)  # past the time in which an edge may not have heard yet
        words = ("upstream", f"forwards to {breaking.WRONG}", "whisperctl refresh")
        row("the edge forwards to a wrong address", assert_named(ask(stack), *words))
        later(stack, 60)
        assert_named(looked(stack, until=lambda one: one["cause"] == "upstream", ticks=1), *words)
        wait_until(lambda: len(log.events("edge.refresh")) == 1, 20, "the edge to be told again")
        assert len(log.events("repair.refresh")) == 1
        # Before the clock jumps: a command that is not delivered within its 30 seconds is lost.
        wait_until(lambda: stack.status()["edge"]["upstreams"] != [breaking.WRONG], 20, "the edge to follow")
        later(stack, 60)
        looked(stack, until=lambda one: bool(one["ok"]))


def test_a_model_that_cannot_be_read_is_named(stack: Stack, hosts: tuple[Host, Host]) -> None:
    gpu, _ = hosts
    words = ("report", "cannot be read", "deploy")
    with breaking.no_model(stack, gpu):
        wait_until(lambda: stack.status()["phase"] == "failed", 40, "the host to say so", every=0.2)
        # Its service is started again and again, and loads for a moment each time.
        assert_named(looked(stack, until=lambda one: one["cause"] == "report", ticks=2), *words)
        found = wait_until(lambda: (now := ask(stack))["cause"] and now, 20, "a cause")
        row("the model cannot be read", assert_named(found, *words))
    wait_until(lambda: stack.phase() == "ready", 60, "the service to be well again", every=0.2)


HUNG = ("ready", "no SERVER_READY", "whisperctl restart gpu")


def test_a_hung_server_is_mended_once_and_a_second_time_is_a_persons(stack: Stack, hosts: tuple[Host, Host]) -> None:
    gpu, _ = hosts
    log = Log(stack)
    gpu.ask("hang")
    before = gpu.pid("whisperlive")
    looked(stack, until=lambda one: one["cause"] == "ready", ticks=1)
    assert not log.events("repair.restart"), "once may be chance"
    later(stack, 60)
    looked(stack, until=lambda one: one["failing_since"] < one["at"], ticks=1)
    wait_until(lambda: log.events("repair.restart"), 20, "the restart")
    wait_until(lambda: stack.phase() == "ready" and gpu.pid("whisperlive") != before, 90, "it to serve", every=0.2)
    later(stack, 60)
    healed = looked(stack, until=lambda one: bool(one["ok"]))
    assert [one["kind"] for one in healed["repairs"]] == ["restart"]
    gpu.ask("hang")
    later(stack, 900)
    looked(stack, until=lambda one: one["cause"] == "ready", ticks=1)
    later(stack, 60)
    looked(stack, until=lambda one: one["failing_since"] < one["at"], ticks=1)
    stack.invoke("tick")
    told = wait_until(lambda: log.events("probe.failed"), 20, "somebody to be told")
    assert "tried in vain: restart at" in told[0]["reason"]
    assert len(log.events("repair.restart")) == 1, "no more is tried"
    breaking.restart(stack)
    wait_until(lambda: stack.phase() == "ready" and ask(stack)["ok"], 90, "an operator's restart", every=0.5)


def test_a_hung_server_is_named(stack: Stack, hosts: tuple[Host, Host]) -> None:
    """WhisperLive hangs on a lock and looks alive: its port takes connections, its health is fine."""
    gpu, _ = hosts
    gpu.ask("hang")
    row("WhisperLive hangs on a lock, and its health is fine", assert_named(ask(stack), *HUNG))
    assert stack.phase() == "ready", "nothing else notices"


def test_the_table_in_the_docs_is_what_was_found() -> None:
    text = DOCUMENT.read_text()
    head, rest = text.split(BEGIN)
    told, tail = rest.split(END)
    lines = {one.split("|")[1].strip(): one for one in told.splitlines() if one.startswith("| ")}
    if os.environ.get("PROBES_TABLE") == "write":
        table = ["| what is broken | cause | what the probe says | remedy |", "|---|---|---|---|", *ROWS.values()]
        DOCUMENT.write_text(head + BEGIN + "\n".join(table) + "\n" + END + tail)
        return
    assert len(lines) == 10, "nine ways to break it, and a head"
    for what, line in ROWS.items():
        assert lines[what] == line
