"""The capacity ladder: by example on `ladder`, and whole climbs through the pass on fakes."""

from __future__ import annotations

import pytest

from chalicelib.domain.capacity import COOL_DOWN_S, Rung, ladder, zones_named
from chalicelib.domain.machines import Machine, MachineState, Memory, Refusal, Role, Shortage, View
from chalicelib.errors import MachineRefused, RefusalKind
from chalicelib.services import sessions
from chalicelib.services.control import load
from chalicelib.settings import Settings
from tests.unit.test_reconcile import GPU, SPEAKER, World

NOW = 1_800_000_000.0
ADVICE = (
    "We currently do not have sufficient g4dn.xlarge capacity in the Availability Zone you requested (eu-central-1a)."
    " You can currently get g4dn.xlarge capacity by choosing eu-central-1c, eu-central-1b."
)
TYPES = ("g4dn.xlarge", "g5.xlarge")
STANDBY = "i-standby"


def stopped(name: str, zone: str, refusal: Refusal | None = None, *short: Shortage) -> View:
    machine = Machine(name, Role.GPU, MachineState.STOPPED, "g4dn.xlarge", zone)
    return View(machine, Memory(name, Role.GPU, MachineState.STOPPED, NOW, refusal=refusal, short=short))


def lack(kind: str, zone: str = "a", until: float = NOW + 100) -> Shortage:
    return Shortage(kind, zone, until)


def test_own_type_then_the_others_then_the_standbys() -> None:
    views = [stopped("i-2", "b"), stopped("i-1", "a")]
    assert ladder(views, TYPES, NOW).rungs == (
        Rung("i-1", "g4dn.xlarge"),
        Rung("i-1", "g5.xlarge"),
        Rung("i-2", "g4dn.xlarge"),
        Rung("i-2", "g5.xlarge"),
    )
    assert ladder(views, (), NOW).rungs == (Rung("i-1", "g4dn.xlarge"), Rung("i-2", "g4dn.xlarge"))


def test_a_lack_is_of_a_type_in_a_zone() -> None:
    views = [stopped("i-1", "a", None, lack("g4dn.xlarge")), stopped("i-2", "a"), stopped("i-3", "b")]
    assert ladder(views, ("g4dn.xlarge",), NOW).rungs == (Rung("i-3", "g4dn.xlarge"),)
    assert [one.instance_id for one in ladder(views, ("g4dn.xlarge",), NOW + 101).rungs] == ["i-1", "i-2", "i-3"]


def test_zones_that_aws_names_come_first() -> None:
    assert zones_named(ADVICE) == ("eu-central-1c", "eu-central-1b")
    assert zones_named("no words") == ()
    refusal = Refusal("capacity", ADVICE, NOW - 5, NOW + 100)
    views = [
        stopped("i-1", "eu-central-1a", refusal, lack("g4dn.xlarge", "eu-central-1a")),
        stopped("i-2", "eu-central-1d"),
        stopped("i-3", "eu-central-1c"),
    ]
    assert [one.instance_id for one in ladder(views, (), NOW).rungs] == ["i-3", "i-2"]


def test_a_quota_stops_the_whole_ladder() -> None:
    refusal = Refusal("quota", "quota used up", NOW - 5, NOW + 895)
    steps = ladder([stopped("i-1", "a", refusal), stopped("i-2", "b")], TYPES, NOW)
    assert (steps.rungs, steps.again_at, steps.cause, steps.quota) == ((), NOW + 895, "quota used up", True)


@pytest.fixture
def world() -> World:
    """A GPU in zone a, a standby in zone b, two allowed types."""
    made = World(settings=Settings("s", "t", "https://edge", gpu_types="g4dn.xlarge g5.xlarge"))
    machine = Machine(STANDBY, Role.GPU, MachineState.STOPPED, "g4dn.xlarge", "eu-central-1b", "10.0.0.77")
    made.machines.machines[STANDBY] = machine
    made.tick()
    return made


def actions(world: World) -> list[str]:
    return [str(one.data["action"]) for one in world.store.partition("events")]


def test_another_type_is_taken_at_once(world: World) -> None:
    world.machines.no_room = {("g4dn.xlarge", "eu-central-1a")}
    assert world.open()["phase"] == "waking.boot"
    assert (world.machines.starts, world.machines.changes) == ([GPU, GPU], [(GPU, "g5.xlarge")])
    assert actions(world) == ["session.open", "gpu.start_refused", "gpu.start", "gpu.change_type"]


def test_the_standby_is_taken_when_its_zone_alone_has_room(world: World) -> None:
    world.machines.no_room = {(one, "eu-central-1a") for one in TYPES}
    assert world.open()["phase"] == "waking.boot"
    assert world.machines.starts == [GPU, GPU, STANDBY]
    assert world.machines.machines[STANDBY].state is MachineState.PENDING


def test_nowhere_room_is_told_once_and_climbed_again_after_the_cool_down(world: World) -> None:
    world.machines.no_room = {(one, zone) for one in TYPES for zone in ("eu-central-1a", "eu-central-1b")}
    session = world.open()
    assert session["phase"] == "waking.capacity"
    assert world.machines.starts == [GPU, GPU, STANDBY, STANDBY]
    shown = world.status()
    assert "AWS has no" in shown["reason"]
    assert shown["next"]["action"] == "start"
    assert actions(world).count("gpu.no_capacity") == 1
    for _ in range(7):
        world.clock.advance(60)
        sessions.heartbeat(world.context, SPEAKER, session["id"], {})
        world.tick()
    assert len(world.machines.starts) == 4 * (1 + int(7 * 60 // COOL_DOWN_S))
    assert actions(world).count("gpu.no_capacity") == 1
    world.machines.no_room = set()
    world.clock.advance(120)
    sessions.heartbeat(world.context, SPEAKER, session["id"], {})
    world.tick()
    assert sessions.look(world.context, SPEAKER, session["id"])["phase"] == "waking.boot"
    world.tick()
    assert load(world.store).notices == ()
    woken = next(one for one in load(world.store).memories.values() if one.state is MachineState.PENDING)
    assert woken.sought_s == 9 * 60


def test_a_quota_is_no_reason_to_climb(world: World) -> None:
    world.machines.refuse_start = MachineRefused(RefusalKind.QUOTA, "VcpuLimitExceeded", "limit of 4")
    world.open()
    assert world.machines.starts == [GPU]
    world.clock.advance(170)
    world.tick()
    assert world.machines.starts == [GPU]
    assert "quota" in world.status()["reason"]
    assert actions(world).count("gpu.quota") == 1


def test_a_gpu_that_dies_under_a_wish_is_replaced_at_once(world: World) -> None:
    world.open()
    world.ready()
    world.machines.become(GPU, MachineState.STOPPING)
    world.tick()
    assert world.machines.starts == [GPU, STANDBY]


def test_a_machine_that_runs_and_never_reports_is_stopped_and_started_once_then_paused(world: World) -> None:
    del world.machines.machines[STANDBY]
    session = world.open()
    for expected in (1, 2):
        world.machines.become(GPU, MachineState.RUNNING)
        for _ in range(7):
            world.tick()
            world.clock.advance(60)
            sessions.heartbeat(world.context, SPEAKER, session["id"], {})
        world.tick()
        assert len(world.machines.stops) == expected
        world.machines.become(GPU, MachineState.STOPPED)
        world.tick()
        assert len(world.machines.starts) == 2
    assert actions(world).count("gpu.failing") == 1
    assert "never reported" in world.status()["reason"]
    world.clock.advance(170)
    sessions.heartbeat(world.context, SPEAKER, session["id"], {})
    world.tick()
    assert len(world.machines.starts) == 2


def test_a_stop_that_sticks_is_forced_once_in_a_while(world: World) -> None:
    world.machines.become(GPU, MachineState.STOPPING)
    for _ in range(15):
        world.tick()
        world.clock.advance(60)
    assert world.machines.forced == [GPU]
    world.clock.advance(600)
    world.tick()
    assert world.machines.forced == [GPU, GPU]


def test_a_machine_that_falls_silent_lets_the_standby_serve(world: World) -> None:
    session = world.open()
    world.ready()
    for _ in range(4):
        world.clock.advance(60)
        sessions.heartbeat(world.context, SPEAKER, session["id"], {})
        world.tick()
    assert world.machines.starts == [GPU, STANDBY]
    assert world.machines.stops == []  # nobody can say that nobody speaks through the silent one
