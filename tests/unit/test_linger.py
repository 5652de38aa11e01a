"""The learned linger in the engine: what counts as a gap, what it teaches, and what a person is told."""

from __future__ import annotations

import pytest

from chalicelib.domain.ledger import Wake
from chalicelib.domain.linger import ENOUGH, REMEMBERED, gap_before, lingering
from chalicelib.domain.machines import Machine, MachineState, Role
from chalicelib.domain.rules import Rules
from chalicelib.domain.wishes import Booking, Session, Wishes
from chalicelib.services import host_link, sessions, status
from chalicelib.services.context import Context
from chalicelib.services.control import GAPS, KEPT_S, load, rules_of
from chalicelib.services.events import Cause
from chalicelib.services.tokens import Principal
from chalicelib.services.tokens import Role as TokenRole
from chalicelib.settings import Settings
from tests.fakes import FakeClock, FakeCommands, FakeMachines, MemoryStore

ANNA = Principal("p1", TokenRole.SPEAKER, "anna")
CAUSE = Cause("somebody", "test")
RULES = Rules(idle_s=600, idle_least_s=60)
WAKES = (Wake(0, 60, 20),) * 5


def session(start: float, end: float | None = None) -> Session:
    return Session("s", "p", start, start, start + 3600, ended_at=end)


@pytest.mark.parametrize(
    ("wishes", "first", "gap"),
    [
        (Wishes((session(0, 700),)), False, 300),
        (Wishes((session(0, 700), session(800, 900))), False, 100),
        (Wishes((session(900),)), False, None),
        (Wishes((session(100),)), False, 720),  # it fell silent: its end is its deadline
        (Wishes((), (Booking("b", 0, 950, 0, "eve"),)), False, 50),
        (Wishes((), (Booking("b", 0, 2000, 0, "eve"),)), False, None),
        (Wishes(), False, KEPT_S),
        (Wishes(), True, None),
    ],
)
def test_a_gap_is_the_time_that_nobody_wanted_the_gpu(wishes: Wishes, first: bool, gap: float | None) -> None:
    assert gap_before(wishes, 1000, KEPT_S, first=first) == gap


def test_what_is_learned_stays_between_the_bounds_and_says_why() -> None:
    short = lingering(RULES, [120.0] * 40 + [9000.0] * 10, WAKES)
    assert (short.idle_s, short.idle_because) == (120, "80 % of the last 50 gaps were shorter")
    assert lingering(RULES, [9000.0] * 50, WAKES).idle_s == 60
    assert lingering(RULES, [30.0] * 50, WAKES).idle_s == 60
    assert lingering(RULES, [120.0] * (ENOUGH - 1), WAKES) == RULES
    fixed = Rules(idle_s=600)
    assert lingering(fixed, [120.0] * 50, WAKES) == fixed
    assert lingering(Rules(idle_s=30, idle_least_s=60), [120.0] * 50, WAKES).idle_s == 30
    # A longer waking makes lingering worth more.
    slow = (Wake(0, 120, 30),) * 5
    assert lingering(RULES, [599.0] * 50, slow).idle_s == 599
    assert lingering(RULES, [599.0] * 50, WAKES).idle_s == 60


def test_the_engine_learns_tells_and_stops_by_it() -> None:
    clock, ec2 = FakeClock(), FakeMachines()
    ec2.machines["i-gpu"] = Machine("i-gpu", Role.GPU, MachineState.STOPPED, "g4dn.xlarge", "z", "10.0.0.1")
    ec2.machines["i-edge"] = Machine("i-edge", Role.EDGE, MachineState.RUNNING, "t3.medium", "z", "10.0.1.1")
    settings = Settings("s", "t", "https://edge")
    context = Context(settings, rules_of(settings), MemoryStore(), ec2, FakeCommands(), clock, clock.advance)
    body = {"boot_id": "b", "status": "ready", "max_streams": 4, "streams": []}

    def pass_by(seconds: float) -> None:
        until = clock() + seconds
        while clock() < until:
            clock.advance(5)
            started = load(context.store).memories["i-gpu"].awake_since
            if ec2.machines["i-gpu"].state is MachineState.PENDING and started and clock() >= started + 90:
                ec2.become("i-gpu", MachineState.RUNNING)
            if ec2.machines["i-gpu"].state is MachineState.STOPPING:
                ec2.become("i-gpu", MachineState.STOPPED)
            if ec2.machines["i-gpu"].state is MachineState.RUNNING:
                host_link.report(context, "i-gpu", body)
            edge = {"boot_id": "e", "status": "ready", "upstreams": ["10.0.0.1"]}
            host_link.report(context, "i-edge", edge)

    def speak() -> None:
        opened = sessions.open_session(context, ANNA, sessions.Wanted(), None, CAUSE)
        pass_by(120)
        sessions.close(context, ANNA, opened["id"], CAUSE)

    context.reconcile(CAUSE)
    for gap in [100.0] * ENOUGH + [2000.0]:
        speak()
        pass_by(gap)
    speak()
    gaps = load(context.store).gaps
    assert len(gaps) == ENOUGH + 1
    assert gaps[0] == pytest.approx(100, abs=10)
    assert gaps[-1] == pytest.approx(2000, abs=10)
    pass_by(10)
    told = status.status(context)
    assert "it lingers 1.7 minutes: 89 % of the last 9 gaps were shorter" in told["reason"], told["reason"]
    pass_by(75)
    assert ec2.machines["i-gpu"].state.awake
    pass_by(30)
    assert not ec2.machines["i-gpu"].state.awake


def test_history_is_bounded() -> None:
    clock = FakeClock()
    settings = Settings("s", "t", "https://edge")
    context = Context(
        settings, rules_of(settings), MemoryStore(), FakeMachines(), FakeCommands(), clock, clock.advance
    )
    for _ in range(REMEMBERED + 20):
        opened = sessions.open_session(context, ANNA, sessions.Wanted(), None, CAUSE)
        clock.advance(5)
        sessions.close(context, ANNA, opened["id"], CAUSE)
        clock.advance(60)
    kept = context.store.get(GAPS)
    assert kept is not None
    assert len(kept.data["seconds"]) == REMEMBERED
