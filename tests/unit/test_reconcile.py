"""The pass over fakes: the lock, crashes between its steps, EC2's late reads and refusals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from chalicelib.domain.machines import Machine, MachineState, Role
from chalicelib.errors import MachineRefused, RefusalKind, TooMany
from chalicelib.ports import Put, Record, Write
from chalicelib.services import host_link, sessions, status
from chalicelib.services.context import Context
from chalicelib.services.control import LOCK, load, rules_of
from chalicelib.services.events import Cause
from chalicelib.services.reconcile import LEASE_S
from chalicelib.services.tokens import Principal
from chalicelib.services.tokens import Role as TokenRole
from chalicelib.settings import Settings
from tests.fakes import FakeClock, FakeCommands, FakeMachines, MemoryStore

TICK = Cause("reconcile", "tick")
SPEAKER = Principal("p1", TokenRole.SPEAKER, "anna")
GPU, EDGE = "i-gpu", "i-edge"


class Killed(BaseException):
    """The container is gone: nothing after this line runs, not even a finally that writes."""


@dataclass
class KillableStore(MemoryStore):
    """Dies before the write that `when` picks, and stays dead."""

    when: Callable[[tuple[Write, ...]], bool] = lambda _: False
    dead: bool = False
    queries: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def partition(self, pk: str, after: str = "", limit: int | None = None) -> list[Record]:
        self.queries += 1
        return super().partition(pk, after, limit)

    def write(self, *writes: Write) -> None:
        self.dead = self.dead or self.when(writes)
        if self.dead:
            raise Killed
        super().write(*writes)


@dataclass
class World:
    """A control plane over fakes."""

    clock: FakeClock = field(default_factory=FakeClock)
    store: KillableStore = field(default_factory=KillableStore)
    machines: FakeMachines = field(default_factory=FakeMachines)
    commands: FakeCommands = field(default_factory=FakeCommands)
    settings: Settings = field(default_factory=lambda: Settings("s", "t", "https://edge"))

    def __post_init__(self) -> None:
        for name, role, state in ((GPU, Role.GPU, MachineState.STOPPED), (EDGE, Role.EDGE, MachineState.RUNNING)):
            where = ("g4dn.xlarge", "eu-central-1a", f"10.0.0.{len(name)}")
            self.machines.machines[name] = Machine(name, role, state, *where)
        self.tick()

    @property
    def context(self) -> Context:
        return Context(self.settings, rules_of(self.settings), self.store, self.machines, self.commands, self.clock)

    def tick(self) -> None:
        self.context.wishes_changed(TICK)  # and not `reconcile`: two ticks of one second are one

    def open(self) -> dict[str, Any]:
        return sessions.open_session(self.context, SPEAKER, sessions.Wanted(), None, Cause("anna", "test"))

    def status(self) -> dict[str, Any]:
        return status.status(self.context)

    def ready(self) -> None:
        self.machines.become(GPU, MachineState.RUNNING)
        self.clock.advance(1)
        self.tick()
        self.clock.advance(1)
        host_link.report(self.context, EDGE, {"boot_id": "e", "status": "ready", "upstreams": ["10.0.0.5"]})
        host_link.report(self.context, GPU, {"boot_id": "b", "status": "ready", "max_streams": 2})


@pytest.fixture
def world() -> World:
    return World()


def test_a_pass_with_nothing_to_do_is_one_query_and_one_describe_and_no_write(world: World) -> None:
    world.store.when = lambda _: True  # any write would die
    world.store.queries = 0
    world.clock.advance(60)
    world.tick()
    assert world.store.queries == 1


def test_a_machine_that_was_ready_and_that_no_pass_saw_ready_has_not_failed(world: World) -> None:
    """Its container died, or the table broke, between the report and the pass that it asked for."""
    world.open()
    world.machines.become(GPU, MachineState.RUNNING)
    world.clock.advance(1)
    world.tick()
    host_link.report(world.context, EDGE, {"boot_id": "e", "status": "ready", "upstreams": ["10.0.0.5"]})
    world.store.when = lambda writes: writes[0].key == LOCK
    with pytest.raises(Killed):
        host_link.report(world.context, GPU, {"boot_id": "b", "status": "ready", "max_streams": 2})
    world.store.when, world.store.dead = lambda _: False, False
    assert load(world.store).memories[GPU].ready_at is None
    world.clock.advance(8)
    world.machines.become(GPU, MachineState.STOPPED)
    world.tick()
    assert world.machines.starts == [GPU, GPU], "the session goes on at once"
    assert load(world.store).memories[GPU].failures == 0


def test_whoever_finds_the_lock_held_leaves(world: World) -> None:
    world.store.write(Put(LOCK, {"until": world.clock() + LEASE_S}))
    world.open()
    assert world.machines.starts == []
    world.clock.advance(LEASE_S + 1)
    world.tick()
    assert world.machines.starts == [GPU]


@pytest.mark.parametrize("what", ["session#", "lock"])
def test_a_write_whose_answer_was_lost_meets_itself_when_it_is_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """As DynamoDB's client does by itself: the second sending finds what the first has written."""
    plain, left = world.store.write, [1]

    def write(*writes: Write) -> None:
        plain(*writes)
        if left[0] and isinstance(writes[0], Put) and writes[0].key.sk.startswith(what):
            left[0] -= 1
            plain(*writes)

    monkeypatch.setattr(world.store, "write", write)
    session = world.open()
    assert not left[0], "the second sending was refused"
    assert world.machines.starts == [GPU]
    assert [one.id for one in load(world.store).wishes.sessions] == [session["id"]]
    assert load(world.store).lock_until == 0.0, "released"


def test_a_wish_that_comes_while_the_lock_is_held_is_served_by_the_holder(world: World) -> None:
    """The second requester finds the lock held and returns; nobody ticks afterwards."""
    inside, go_on = threading.Event(), threading.Event()
    plain = world.machines.describe
    held: list[int] = []

    def describe() -> list[Machine]:
        found = plain()
        if threading.current_thread().name == "holder":
            held.append(1)
            if len(held) == 2:  # the second look of the pass: the lock is ours
                inside.set()
                go_on.wait(5)
        return found

    world.machines.describe = describe  # type: ignore[method-assign]
    world.machines.become(EDGE, MachineState.STOPPED)  # something to record, so that the pass takes the lock
    holder = threading.Thread(target=world.tick, name="holder")
    holder.start()
    assert inside.wait(5)
    session = world.open()
    assert world.machines.starts == []
    go_on.set()
    holder.join(5)
    assert world.machines.starts == [GPU]
    assert sessions.look(world.context, SPEAKER, session["id"])["phase"] == "waking.boot"


def test_a_holder_that_froze_past_its_lease_does_nothing_more(world: World) -> None:
    """Frozen between its second look and its first write; meanwhile another pass does the work."""
    plain = world.machines.describe
    looks: list[int] = []

    def describe() -> list[Machine]:
        found = plain()
        looks.append(1)
        if len(looks) == 2:
            world.clock.advance(LEASE_S + 1)
            world.tick()
            assert world.machines.starts == [GPU]
        return found

    world.machines.describe = describe  # type: ignore[method-assign]
    world.open()
    assert world.machines.starts == [GPU]
    assert [one.data["action"] for one in world.store.partition("events")] == ["session.open", "gpu.start"]
    assert load(world.store).lock_until <= world.clock()


def test_twenty_at_once(world: World) -> None:
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: world.open(), range(20)))
    assert world.machines.starts == [GPU]


def test_killed_between_intent_and_act(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intent is there, EC2 was never asked: believed for a moment, then EC2's word counts."""
    with monkeypatch.context() as patch:
        patch.setattr(world.machines, "start", _killed)
        with pytest.raises(Killed):
            world.open()
    assert world.machines.starts == []
    world.clock.advance(60)
    world.tick()
    assert world.machines.starts == [GPU]


def _killed(*_: object) -> None:
    raise Killed


def test_killed_between_act_and_record(world: World) -> None:
    """EC2 has started it; the next pass reads that back from the intent and from EC2 and starts nothing."""
    world.store.when = lambda _: bool(world.machines.starts)
    with pytest.raises(Killed):
        world.open()
    world.store.dead, world.store.when = False, lambda _: False
    assert world.machines.starts == [GPU]
    begun = world.clock()
    world.clock.advance(60)
    world.tick()
    assert world.machines.starts == [GPU]
    assert world.status()["phase"] == "waking.boot"
    memory = load(world.store).memories[GPU]
    assert (memory.intent, memory.awake_since) == (None, begun)
    told = [one.data for one in world.store.partition("events") if one.data["action"] == "gpu.start"]
    assert len(told) == 1
    assert "one session is open" in told[0]["reason"]
    assert "recorded late" in told[0]["reason"]


def test_a_late_read_of_ec2_starts_nothing_twice(world: World) -> None:
    world.open()
    world.machines.late = {GPU: MachineState.STOPPED}
    world.clock.advance(20)
    world.tick()
    assert world.machines.starts == [GPU]
    assert world.status()["phase"] == "waking.boot"
    world.clock.advance(60)  # no consistency takes that long: it did stop
    world.tick()
    assert world.machines.starts == [GPU]
    assert "stopped by itself" in world.status()["reason"]
    world.clock.advance(61)
    world.tick()
    assert world.machines.starts == [GPU, GPU]


@pytest.mark.parametrize(
    ("kind", "code", "pause", "words"),
    [
        (RefusalKind.CAPACITY, "InsufficientInstanceCapacity", 180, "no g4dn.xlarge free in eu-central-1a"),
        (RefusalKind.QUOTA, "VcpuLimitExceeded", 900, "quota"),
        (RefusalKind.THROTTLED, "RequestLimitExceeded", 10, "pause"),
        (RefusalKind.STATE, "IncorrectInstanceState", 5, "present state"),
    ],
)
def test_a_refused_start_is_a_visible_cause_and_tried_again(
    world: World, kind: RefusalKind, code: str, pause: float, words: str
) -> None:
    world.machines.refuse_start = MachineRefused(kind, code, "use eu-central-1b")
    session = world.open()
    assert session["phase"] == "waking.capacity"
    shown = world.status()
    assert words in shown["reason"]
    assert "eu-central-1b" in shown["reason"]
    assert shown["next"]["action"] == "start"
    for _ in range(int(pause - 1)):
        world.clock.advance(1)
        sessions.heartbeat(world.context, SPEAKER, session["id"], {})
    world.tick()
    assert len(world.machines.starts) == 1
    world.machines.refuse_start = None
    world.clock.advance(2)
    world.tick()
    assert len(world.machines.starts) == 2
    assert world.status()["phase"] == "waking.boot"


def test_ec2_not_answering_is_no_error_for_the_caller(world: World) -> None:
    world.machines.refuse_describe = MachineRefused(RefusalKind.THROTTLED, "RequestLimitExceeded", "slow down")
    session = world.open()
    assert session["phase"] == "waking.capacity"
    world.machines.refuse_describe = None
    world.tick()
    assert world.machines.starts == [GPU]


def test_waking_is_learned_and_estimated(world: World) -> None:
    assert world.open()["eta_seconds"] is None
    world.clock.advance(30)
    world.ready()
    wake = load(world.store).wakes[0]
    assert (wake.boot_s, wake.service_s) == (31.0, 1.0)


def test_places_go_to_the_oldest_and_move_up(world: World) -> None:
    opened = []
    for _ in range(3):
        opened.append(world.open())
        world.clock.advance(1)
    world.ready()
    looked = [sessions.look(world.context, SPEAKER, one["id"]) for one in opened]
    assert [one["place"] for one in looked] == ["reserved", "reserved", "waiting"]
    assert [bool(one["ticket"]) for one in looked] == [True, True, False]
    sessions.close(world.context, SPEAKER, opened[0]["id"], TICK)
    assert sessions.look(world.context, SPEAKER, opened[2]["id"])["place"] == "reserved"
    answer = host_link.report(world.context, GPU, {"boot_id": "b", "status": "ready", "max_streams": 2})
    assert answer["revoked"] == [opened[0]["id"]]


def test_a_machine_that_is_gone_is_forgotten(world: World) -> None:
    world.machines.become(GPU, MachineState.TERMINATED)
    world.tick()
    assert GPU not in load(world.store).memories
    assert world.status()["phase"] == "failed"
    assert "tagged" in world.status()["reason"]


def events(world: World) -> list[tuple[str, str]]:
    return [(one.data["action"], one.data["reason"]) for one in world.store.partition("events")]


def test_a_machine_that_stopped_by_itself_is_told(world: World) -> None:
    session = world.open()
    world.ready()
    streams = [{"sid": session["id"]}]
    ready = {"boot_id": "b", "status": "ready", "max_streams": 2, "streams": streams}
    host_link.report(world.context, GPU, ready)
    world.machines.become(GPU, MachineState.STOPPING)
    world.tick()
    assert ("gpu.stopped_by_itself", "nobody here asked for it; 1 streams were on it") in events(world)
    world.tick()
    assert len([one for one in events(world) if one[0] == "gpu.stopped_by_itself"]) == 1


def test_a_session_is_told_of_its_next_host_by_its_epoch_and_of_the_gap_by_a_notice(world: World) -> None:
    session = world.open()
    assert session["upstream_epoch"] == 0
    world.ready()

    def look() -> dict[str, Any]:
        return sessions.look(world.context, SPEAKER, session["id"])

    assert (look()["upstream_epoch"], look()["notice"]) == (1, None)
    assert load(world.store).session(session["id"]).host == f"{GPU}/b"  # type: ignore[union-attr]
    world.machines.become(GPU, MachineState.STOPPING)
    world.clock.advance(1)
    world.tick()
    assert (look()["upstream_epoch"], look()["place"], look()["ticket"]) == (1, "waiting", None)
    assert look()["notice"] == "The GPU that served this session is gone; it goes on as soon as one is ready again."
    world.machines.become(GPU, MachineState.STOPPED)
    world.tick()
    assert world.machines.starts == [GPU, GPU]
    world.machines.become(GPU, MachineState.RUNNING)
    world.clock.advance(30)
    world.tick()
    world.clock.advance(1)
    host_link.report(world.context, EDGE, {"boot_id": "e", "status": "ready", "upstreams": ["10.0.0.5"]})
    host_link.report(world.context, GPU, {"boot_id": "b2", "status": "ready", "max_streams": 2})
    assert (look()["upstream_epoch"], look()["place"], look()["notice"]) == (2, "reserved", None)


def test_a_cut_off_gpu_is_found_out_by_the_edges_report_and_not_by_the_tick(world: World) -> None:
    where = ("g4dn.xlarge", "eu-central-1b", "10.0.0.9")
    world.machines.machines["i-two"] = Machine("i-two", Role.GPU, MachineState.STOPPED, *where)
    world.open()
    world.ready()
    edge = {"boot_id": "e", "status": "ready", "upstreams": ["10.0.0.5"]}
    started = []
    for _ in range(4):
        world.clock.advance(5)
        host_link.report(world.context, EDGE, {**edge, "gpus_down": ["10.0.0.5"]})
        started.append(list(world.machines.starts))
    assert started == [[GPU], [GPU], [GPU, "i-two"], [GPU, "i-two"]]
    assert [one for one in events(world) if one[0] == "gpu.lost"] == [
        ("gpu.lost", "it has not reported since 08:00 UTC, and the edge cannot connect to it")
    ]
    assert world.status()["phase"] == "waking.boot"
    assert world.machines.stops == []


def test_one_token_has_so_many_sessions_and_others_have_theirs(world: World) -> None:
    world.settings = Settings("s", "t", "https://edge", sessions_per_token=2)
    first, _ = world.open(), world.open()
    with pytest.raises(TooMany, match="has 2 sessions open, the most it may have"):
        world.open()
    other = Principal("p2", TokenRole.SPEAKER, "ben")
    sessions.open_session(world.context, other, sessions.Wanted(), None, TICK)
    sessions.close(world.context, SPEAKER, first["id"], TICK)
    world.open()
