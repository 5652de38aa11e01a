"""At most one pass a second, whoever asks, and no wish is lost by it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from chalicelib.domain.machines import Machine, MachineState, Role
from chalicelib.services import host_link, power, sessions
from chalicelib.services.context import Context
from chalicelib.services.control import load, rules_of
from chalicelib.services.events import Cause
from chalicelib.services.tokens import Principal
from chalicelib.services.tokens import Role as TokenRole
from chalicelib.settings import Settings
from tests.fakes import FakeClock, FakeCommands, FakeMachines, MemoryStore

ANNA = Principal("p1", TokenRole.SPEAKER, "anna")
EVE = Principal("p2", TokenRole.OPERATOR, "eve")
CAUSE = Cause("somebody", "test")


@dataclass
class Ec2(FakeMachines):
    """Writes down when it was looked at; a look takes a tenth of a second."""

    looks: list[float] = field(default_factory=list)

    def describe(self) -> list[Machine]:
        self.looks.append(time.monotonic())
        time.sleep(0.1)  # EC2's answer time, no waiting for a condition
        return super().describe()


def stack(ec2: FakeMachines, clock: FakeClock | None = None) -> Context:
    ec2.machines["i-gpu"] = Machine("i-gpu", Role.GPU, MachineState.STOPPED, "g4dn.xlarge", "z", "10.0.0.1")
    settings = Settings("s", "t", "https://edge")
    ports = (MemoryStore(), ec2, FakeCommands())
    if clock is None:
        return Context(settings, rules_of(settings), *ports, time.time, time.sleep)
    return Context(settings, rules_of(settings), *ports, clock, clock.advance)


def test_fifty_requests_at_once_are_a_few_passes() -> None:
    ec2 = Ec2()
    context = stack(ec2)
    context.reconcile(CAUSE)
    gate = threading.Barrier(50)
    took: list[float] = []

    def ask(_: int) -> None:
        gate.wait()
        began = time.monotonic()
        sessions.open_session(context, ANNA, sessions.Wanted(), None, CAUSE)
        took.append(time.monotonic() - began)

    began = time.monotonic()
    ec2.looks.clear()
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(ask, range(50)))
    lasted = time.monotonic() - began
    assert ec2.starts == ["i-gpu"], "started, and once"
    assert len(load(context.store).wishes.live_sessions(time.time())) == 50
    # A pass looks twice when it acts: before and after the lock.
    assert len(ec2.looks) <= 2 * (lasted + 1), (len(ec2.looks), lasted)
    assert len(ec2.looks) <= 6, ec2.looks
    assert max(took) < 2, "I9: acted on within two seconds"


def test_a_wish_that_a_turn_covers_waits_for_nobody_and_another_for_less_than_a_second() -> None:
    clock = FakeClock()
    ec2 = FakeMachines()
    context = stack(ec2, clock)
    context.reconcile(CAUSE)
    begun = clock()
    context.reconcile(CAUSE)
    assert clock() == begun, "a tick of the same second leaves at once"
    clock.advance(0.3)
    sessions.open_session(context, ANNA, sessions.Wanted(), None, CAUSE)
    assert ec2.starts == ["i-gpu"]
    assert 0.99 <= clock() - begun <= 1.02, "the wish took the next turn"
    clock.advance(5)
    begun = clock()
    power.stop(context, EVE, force=True, closed_until=None, reason="", cause=CAUSE)
    assert clock() == begun, "and after a quiet second nobody waits"


def test_a_clock_that_stands_still_or_runs_back_loses_no_wish() -> None:
    clock = FakeClock()
    ec2 = FakeMachines()
    settings = Settings("s", "t", "https://edge")
    ec2.machines["i-gpu"] = Machine("i-gpu", Role.GPU, MachineState.STOPPED, "g4dn.xlarge", "z", "10.0.0.1")
    context = Context(settings, rules_of(settings), MemoryStore(), ec2, FakeCommands(), clock)
    context.reconcile(CAUSE)
    sessions.open_session(context, ANNA, sessions.Wanted(), None, CAUSE)
    assert ec2.starts == ["i-gpu"]
    clock.advance(-3600)
    power.stop(context, EVE, force=True, closed_until=None, reason="", cause=CAUSE)
    assert [one.kind for one in load(context.store).wishes.orders] == ["stop"]


def test_while_a_host_reports_no_tick_is_needed() -> None:
    """The linger ends at a report, though every tick is lost."""
    clock = FakeClock()
    ec2 = FakeMachines()
    context = stack(ec2, clock)
    context.reconcile(CAUSE)
    session = sessions.open_session(context, ANNA, sessions.Wanted(), None, CAUSE)
    ec2.become("i-gpu", MachineState.RUNNING)
    body = {"boot_id": "b", "status": "ready", "max_streams": 4, "streams": []}
    host_link.report(context, "i-gpu", body)
    clock.advance(5)
    sessions.close(context, ANNA, session["id"], CAUSE)
    ended = clock()
    while not ec2.stops:
        clock.advance(5)
        host_link.report(context, "i-gpu", body)
        assert clock() < ended + context.rules.idle_s + 10
    assert clock() >= ended + context.rules.idle_s
