"""Random histories of the whole engine with faults: Hypothesis looks for one that breaks an invariant.

`make test` runs a few, `make chaos` 10,000 of them in parts (`tests/chaos/__main__.py`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import ClassVar
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chalicelib.domain.machines import MachineState
from tests.chaos.fakes import QUOTA, THROTTLED
from tests.chaos.world import World

HISTORIES = 25


class Ids:
    """In place of `secrets.token_hex`: a history that is played again has the same ids, in no order of their own."""

    def __init__(self) -> None:
        self._made = 0

    def __call__(self, size: int) -> str:
        self._made += 1
        return hashlib.sha256(str(self._made).encode()).hexdigest()[: 2 * size]


DURATIONS = st.sampled_from([5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 800.0])
PICK = st.integers(0, 7)


def _stop_sticks(world: World, pick: int) -> None:
    name = world.gpus[pick % len(world.gpus)]
    if world.state(name) is MachineState.STOPPING:
        world.stuck.add(name)
        world.excuse()


def _falls_silent(world: World, pick: int) -> None:
    hosts = list(world.hosts.values())
    if hosts:
        hosts[pick % len(hosts)].silent = True


def _triggers_are_lost(world: World, *, ticks: bool) -> None:
    world.ticks_lost = world.ticks_lost or ticks
    world.events_lost = True
    world.excuse()


def _every_lambda_fails(world: World) -> None:
    world.down = True
    world.excuse()


def _no_room(world: World, types: tuple[str, ...], zones: str) -> None:
    world.ec2.no_room = {(kind, f"z-{zone}") for kind in types for zone in zones}
    world.excuse()


def _ec2_refuses(world: World, *, describe: bool) -> None:
    if describe:
        world.ec2.refuse_describe = THROTTLED
    else:
        world.ec2.refuse_start = QUOTA
    world.excuse()


TROUBLES: dict[str, Callable[[World, int], None]] = {
    "no room for the first type in one zone": lambda world, _: _no_room(world, ("g4dn.xlarge",), "a"),
    "no room in one zone": lambda world, _: _no_room(world, ("g4dn.xlarge", "g5.xlarge"), "a"),
    "no room at all": lambda world, _: _no_room(world, ("g4dn.xlarge", "g5.xlarge"), "ab"),
    "quota": lambda world, _: _ec2_refuses(world, describe=False),
    "throttled": lambda world, _: _ec2_refuses(world, describe=True),
    "a machine dies": lambda world, pick: world.dies(world.gpus[pick % len(world.gpus)]),
    "a machine dies unseen": lambda world, pick: world.perishes(world.gpus[pick % len(world.gpus)]),
    "a stop sticks": _stop_sticks,
    "a host falls silent": _falls_silent,
    "streams do not end by themselves": lambda world, _: setattr(world, "stubborn", True),
    "events are lost": lambda world, _: _triggers_are_lost(world, ticks=False),
    "triggers are lost": lambda world, _: _triggers_are_lost(world, ticks=True),
    "every Lambda fails": lambda world, _: _every_lambda_fails(world),
}
"""Those that last do so until all is well again: at once after `after`, or at the end of the history."""


class Histories(RuleBasedStateMachine):
    """What people do and what goes wrong, in any order."""

    world: World
    tally: ClassVar[Counter[str]] = Counter()
    """What all histories of this process came to."""

    @initialize(gpus=st.integers(1, 3), hour=st.sampled_from([0.0, 5.5, 9.0, 12.0, 20.5, 21.8, 23.0]))
    def begin(self, gpus: int, hour: float) -> None:
        self.ids = patch("secrets.token_hex", Ids())
        self.ids.start()
        self.world = World(gpus, hour)

    @rule(seconds=DURATIONS)
    def time_goes_by(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=DURATIONS)
    def somebody_comes(self, seconds: float) -> None:
        self.world.open()
        self.world.advance(seconds)

    @rule(seconds=DURATIONS, after=DURATIONS)
    def somebody_comes_and_goes(self, seconds: float, after: float) -> None:
        sid = self.world.open()
        self.world.advance(seconds)
        if sid is not None:
            self.world.close(sid)
        self.world.advance(after)

    @precondition(lambda self: self.world.clients)
    @rule(pick=PICK, says_so=st.booleans(), after=DURATIONS)
    def somebody_leaves(self, pick: int, says_so: bool, after: float) -> None:
        names = sorted(self.world.clients)
        name = names[pick % len(names)]
        if says_so:
            self.world.close(name)
        else:
            self.world.clients[name] = False
        self.world.advance(after)

    @rule(minutes=st.sampled_from([1.0, 10.0, 60.0]), after=DURATIONS)
    def the_operator_starts(self, minutes: float, after: float) -> None:
        self.world.start(minutes)
        self.world.advance(after)

    @rule(force=st.booleans(), closed=st.sampled_from([None, None, 900.0]), after=DURATIONS)
    def the_operator_stops(self, force: bool, closed: float | None, after: float) -> None:
        self.world.stop(force=force, closed_s=closed)
        self.world.advance(after)

    @rule(ahead=st.sampled_from([0.0, 300.0, 2000.0]), length=st.sampled_from([60.0, 1200.0]), weekly=st.booleans())
    def the_operator_books(self, ahead: float, length: float, weekly: bool) -> None:
        self.world.book(ahead, length, weekly)

    @rule(trouble=st.sampled_from(sorted(TROUBLES)), pick=PICK, after=DURATIONS, passes=st.booleans())
    def something_goes_wrong(self, trouble: str, pick: int, after: float, passes: bool) -> None:
        TROUBLES[trouble](self.world, pick)
        self.world.advance(after)
        if passes:
            self.world.calm()

    @rule(pick=PICK)
    def a_container_is_killed(self, pick: int) -> None:
        self.world.kill_at(pick)

    @rule(looks=st.integers(0, 2))
    def a_second_pass_runs(self, looks: int) -> None:
        self.world.concur(looks)

    def teardown(self) -> None:
        if not hasattr(self, "ids"):
            return  # it ended before it began
        try:
            self.world.finish()
        finally:
            self.ids.stop()
        ec2 = self.world.ec2
        self.tally.update(histories=1, starts=len(ec2.starts), stops=len(ec2.stops), steps=self.world.steps)


def looked_for(histories: int) -> settings:
    """So many histories of up to 15 events each."""
    return settings(
        max_examples=histories,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


Histories.TestCase.settings = looked_for(HISTORIES)
TestHistories = Histories.TestCase
