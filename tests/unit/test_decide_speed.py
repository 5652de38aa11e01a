"""A big pool and many wishes are decided in the blink of an eye: a pass runs inside a request."""

from __future__ import annotations

import time

from chalicelib.domain.lifecycle import decide
from chalicelib.domain.machines import Machine, MachineState, Memory, Observation, Report, Role, Stream, View
from chalicelib.domain.night import Night
from chalicelib.domain.rules import Rules
from chalicelib.domain.wishes import Booking, Session, Wishes

NOW = 1_800_000_000.0
MOST_S = 0.010
ROUNDS = 15


def machine(number: int) -> View:
    state = (MachineState.RUNNING, MachineState.STOPPED, MachineState.PENDING)[number % 3]
    name, awake = f"i-{number:03}", NOW - 3600 if state.awake else None
    report = Report(NOW - 2, "b", "ready", streams=(Stream(f"s-{number}"),), was_ready=True)
    memory = Memory(name, Role.GPU, state, NOW - 3600, "g4dn.xlarge", f"z-{number % 4}", awake_since=awake)
    return View(Machine(name, Role.GPU, state, "g4dn.xlarge", f"z-{number % 4}"), memory, report)


def wishes() -> Wishes:
    sessions = tuple(Session(f"s-{n}", "p", NOW - n, NOW - 5, NOW + 20_000) for n in range(400))
    over = tuple(Session(f"o-{n}", "p", NOW - 9000, NOW - 8000, NOW, ended_at=NOW - n) for n in range(200))
    once = tuple(Booking(f"b-{n}", NOW + n * 600, NOW + n * 600 + 3600, 0.0, "eve", "booking") for n in range(200))
    begun = [NOW - 9e6 + n * 3000 for n in range(200)]
    weekly = tuple(
        Booking(f"w-{n}", at, at + 3600, 0.0, "eve", "booking", zone="Europe/Berlin") for n, at in enumerate(begun)
    )
    return Wishes((*sessions, *over), (*once, *weekly))


def test_a_hundred_machines_and_a_thousand_wishes_in_under_ten_milliseconds() -> None:
    observation = Observation(tuple(machine(number) for number in range(100)))
    wanted = wishes()
    rules = Rules(night=Night.parse("22:00-06:00 Europe/Berlin"), types=("g4dn.xlarge", "g5.xlarge"))
    assert len(wanted.sessions) + len(wanted.bookings) == 1000
    took = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        assert len(decide(observation, wanted, rules, NOW)) == 100
        took.append(time.process_time() - begun)
    # The fastest of the rounds: what the code takes, not what else runs on this machine.
    assert min(took) < MOST_S, sorted(took)
