"""Random histories of the whole engine with faults: Hypothesis looks for one that breaks an invariant.

`make chaos` runs 10,000 of them (CHAOS_HISTORIES sets another number); `make test` a few.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from chalicelib.domain.machines import MachineState
from tests.chaos.world import QUOTA, THROTTLED, World

HISTORIES = int(os.environ.get("CHAOS_HISTORIES", "25"))
DURATIONS = st.sampled_from([5.0, 10.0, 30.0, 60.0, 120.0, 200.0, 400.0, 700.0, 1500.0])
PICK = st.integers(0, 7)


class Histories(RuleBasedStateMachine):
    """What people do and what goes wrong, in any order."""

    world: World

    @initialize(gpus=st.integers(1, 3), hour=st.sampled_from([0.0, 5.5, 9.0, 12.0, 20.5, 21.8, 23.0]))
    def begin(self, gpus: int, hour: float) -> None:
        self.world = World(gpus, hour)

    @rule(seconds=DURATIONS)
    def time_goes_by(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=DURATIONS)
    def somebody_comes(self, seconds: float) -> None:
        self.world.open()
        self.world.advance(seconds)

    @precondition(lambda self: self.world.clients)
    @rule(pick=PICK)
    def somebody_leaves(self, pick: int) -> None:
        names = sorted(self.world.clients)
        self.world.close(names[pick % len(names)])

    @precondition(lambda self: self.world.clients)
    @rule(pick=PICK)
    def a_client_vanishes(self, pick: int) -> None:
        names = sorted(self.world.clients)
        self.world.clients[names[pick % len(names)]] = False

    @rule(minutes=st.sampled_from([1.0, 10.0, 60.0]))
    def the_operator_starts(self, minutes: float) -> None:
        self.world.start(minutes)

    @rule(force=st.booleans(), closed=st.sampled_from([None, None, 900.0]))
    def the_operator_stops(self, force: bool, closed: float | None) -> None:
        self.world.stop(force=force, closed_s=closed)

    @rule(ahead=st.sampled_from([0.0, 300.0, 2000.0]), length=st.sampled_from([60.0, 1200.0]), weekly=st.booleans())
    def the_operator_books(self, ahead: float, length: float, weekly: bool) -> None:
        self.world.book(ahead, length, weekly)

    @rule(types=st.sampled_from([("g4dn.xlarge",), ("g4dn.xlarge", "g5.xlarge")]), zones=st.sampled_from(["a", "ab"]))
    def no_room(self, types: tuple[str, ...], zones: str) -> None:
        self.world.ec2.no_room = {(kind, f"z-{zone}") for kind in types for zone in zones}
        self.world.excuse()

    @rule(describe=st.booleans())
    def ec2_refuses(self, describe: bool) -> None:
        if describe:
            self.world.ec2.refuse_describe = THROTTLED
        else:
            self.world.ec2.refuse_start = QUOTA
        self.world.excuse()

    @rule(pick=PICK)
    def a_machine_dies(self, pick: int) -> None:
        self.world.dies(self.world.gpus[pick % len(self.world.gpus)])

    @rule(pick=PICK)
    def a_stop_sticks(self, pick: int) -> None:
        name = self.world.gpus[pick % len(self.world.gpus)]
        if self.world.state(name) is MachineState.STOPPING:
            self.world.stuck.add(name)
            self.world.excuse()

    @precondition(lambda self: self.world.hosts)
    @rule(pick=PICK)
    def a_host_falls_silent(self, pick: int) -> None:
        hosts = list(self.world.hosts.values())
        hosts[pick % len(hosts)].silent = True

    @rule()
    def streams_do_not_end_by_themselves(self) -> None:
        self.world.stubborn = True

    @rule(ticks=st.booleans())
    def triggers_are_lost(self, ticks: bool) -> None:
        self.world.ticks_lost = self.world.ticks_lost or ticks
        self.world.events_lost = True
        self.world.excuse()

    @rule()
    def every_lambda_fails(self) -> None:
        self.world.down = True
        self.world.excuse()

    @rule(writes=st.integers(0, 6))
    def a_container_is_killed(self, writes: int) -> None:
        self.world.kill_at(writes)

    @rule(looks=st.integers(0, 2))
    def a_second_pass_runs(self, looks: int) -> None:
        self.world.concur(looks)

    @rule()
    def all_is_well_again(self) -> None:
        self.world.calm()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


Histories.TestCase.settings = settings(
    max_examples=HISTORIES,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=(Phase.generate,) if os.environ.get("CHAOS_NO_SHRINK") else tuple(Phase),
)
TestHistories = Histories.TestCase
