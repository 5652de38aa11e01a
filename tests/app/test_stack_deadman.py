"""The dead man's switch on the embedded cloud: a GPU that nobody can stop any more stops itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.test_stack_chain import close_session, ready_session
from tests.stack import Stack, start_stack
from tests.waiting import wait_until
from tests.wss import TRAIN, Heard, dial, frames_of, handshake, listen, pcm

DEADMAN_S = 6.0
BROKEN: dict[str, Any] = {"throttling": [{"service": "dynamodb"}]}
"""Every call of every Lambda fails."""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose hosts wait a tenth of a minute for an answer."""
    state: Path = tmp_path_factory.mktemp("deadman")
    with start_stack(state, "--deadman-minutes", str(DEADMAN_S / 60)) as running:
        yield running


def processes(stack: Stack) -> str:
    return (stack.state_dir / "processes.json").read_text()


def test_broken_lambdas_cannot_burn_money(short: Stack) -> None:
    session = ready_session(short)
    close_session(short, session)
    stops = len(short.calls("StopInstances"))
    short.faults(**BROKEN)
    assert short.call("GET", "/v1/status").status_code >= 500, "the control plane is broken indeed"
    wait_until(lambda: "whisperlive" not in processes(short), 60, "the GPU host to be off")
    assert len(short.calls("StopInstances")) == stops, "nobody asked EC2"
    log = (short.state_dir / "hosts" / short.gpu_instance_id / "var" / "log" / "link.log").read_text()
    assert "deadman.power_off" in log
    short.faults()
    short.wait_phase("asleep", 60)
    costs = short.call("GET", "/v1/costs?period=day").json()
    assert costs["spans"][-1]["end"], "the time awake is in the ledger, though nobody saw its end"


def test_it_holds_while_somebody_speaks(short: Stack) -> None:
    session = ready_session(short)
    with dial(session["ws_url"], session["ticket"], short.ca_cert) as connection:
        connection.send(handshake())
        heard = listen(connection, Heard(), until="SERVER_READY")
        short.faults(**BROKEN)
        log = short.state_dir / "hosts" / short.gpu_instance_id / "var" / "log" / "link.log"

        def troubled() -> bool:
            return "link.trouble" in log.read_text().rpartition("link.started")[2]

        wait_until(troubled, 30, "the link to hear no answer")
        for frame in frames_of(pcm(TRAIN)):
            connection.send(frame)
        memory = log.parents[2] / "run" / "whisperlive" / "deadman.json"
        wait_until(lambda: _silent_for(memory) > DEADMAN_S, 60, "more than the time without an answer")
        assert "whisperlive" in processes(short)
        connection.send(b"END_OF_AUDIO")
        listen(connection, heard)
    assert heard.statuses()[-1] == "END"
    wait_until(lambda: "whisperlive" not in processes(short), 60, "the GPU host to be off when it is over")
    short.faults()
    close_session(short, session)
    short.asleep()


def _silent_for(memory: Path) -> float:
    answered = json.loads(memory.read_text())["answered_at"]
    return time.clock_gettime(time.CLOCK_MONOTONIC) - float(answered)


def test_past_the_hard_maximum_it_goes_whatever_ec2_takes(short: Stack) -> None:
    """The control plane answers, and cannot stop it."""
    close_session(short, ready_session(short))
    short.faults(throttling=[{"service": "ec2", "operation": "StopInstances"}])
    short.advance(12 * 3600 + 300)
    wait_until(lambda: "whisperlive" not in processes(short), 60, "the GPU host to be off")
    short.faults()
    short.wait_phase("asleep", 60)
