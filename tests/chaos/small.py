"""A small world on the pure decisions: two machines, a session and a booking, eight events in every order.

A state is a frozen value: what EC2 knows, what the engine remembers, what people wish. `happened` and `minute` make
the next one of it with `recall`, `decide` and `closings` as a pass uses them, and raise `Violation` where an
invariant breaks. What no decision can depend on any more is forgotten (`_bare`), so that histories which have led to
the same state go on as one. Times are short, so that eight events a minute apart meet everything: idle three
minutes, grace two, hard maximum fifteen, a boot and a stop one each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from chalicelib.domain.capacity import COOL_DOWN_S, EPISODE_S
from chalicelib.domain.closings import closings
from chalicelib.domain.ledger import Span
from chalicelib.domain.lifecycle import Action, Decision, decide
from chalicelib.domain.machines import (
    DrainKind,
    Intent,
    Machine,
    MachineState,
    Memory,
    Observation,
    Report,
    Role,
    Stream,
    View,
)
from chalicelib.domain.memory import START, STOP, first_ready, recall
from chalicelib.domain.night import Night
from chalicelib.domain.phases import ready_gpus
from chalicelib.domain.rules import Rules, admission
from chalicelib.domain.wishes import Booking, Order, OrderKind, Session, Wishes
from chalicelib.errors import MachineRefused, RefusalKind
from chalicelib.services import reconcile
from tests.chaos.fakes import Violation

MINUTE_S = 60.0
RULES = Rules(
    idle_s=180.0,
    night=Night.parse("22:00-06:00 UTC"),
    night_grace_s=120.0,
    hard_max_s=900.0,
    types=("g4dn.xlarge",),
    lead_s=120.0,
)
BEGIN = datetime(2026, 11, 22, 21, 54, tzinfo=UTC).timestamp()
"""Six minutes before the night."""
SERVED_S = 6 * MINUTE_S
"""A machine that stops, a refusal, a pause after a death, a boot: then whoever waits speaks."""
QUIET_MINUTES = 6
LATE_S = 2 * MINUTE_S
"""What is due happens at the next tick; one may be lost to a container that is killed."""
NAMES, ZONES = ("i-0", "i-1"), ("z-a", "z-b")


@dataclass(frozen=True)
class Gpu:
    """The truth about a machine."""

    state: MachineState = MachineState.STOPPED
    due: float = 0.0
    since: float = 0.0
    """When this time awake began."""
    streams: bool = False
    streamed_at: float | None = None


@dataclass
class Walk:
    """What a walk came to."""

    histories: int = 0
    steps: int = 0
    states: list[int] = field(default_factory=list)
    """Different ones after each event."""


@dataclass(frozen=True)
class State:
    """Everything that a future depends on."""

    now: float
    gpus: tuple[Gpu, Gpu]
    memories: tuple[Memory, Memory]
    wishes: Wishes = field(default_factory=Wishes)
    room: bool = True
    """In the first zone."""
    killed: bool = False
    """The pass that acts next dies before it has recorded the act."""
    wanted_at: float = BEGIN
    """When somebody last wanted a GPU."""
    light_at: float = BEGIN
    """When it last was no night, or booked."""
    served_at: float = BEGIN
    """When it last was so that nobody who may speak waited."""


def small() -> State:
    memories = [Memory(name, Role.GPU, MachineState.STOPPED, 0.0, "g4dn.xlarge") for name in NAMES]
    both = [replace(one, zone=zone, private_ip=zone) for one, zone in zip(memories, ZONES, strict=True)]
    return _bare(_pass(State(BEGIN, (Gpu(), Gpu()), (both[0], both[1]))))


def _comes(state: State) -> State:
    if not admission(state.wishes, RULES, state.now).open:
        return state
    session = Session(f"s{state.now:.0f}", "p", state.now, state.now, state.now + 3600)
    return _pass(replace(state, wishes=replace(state.wishes, sessions=(*state.wishes.sessions, session))))


def _leaves(state: State) -> State:
    ended = [one if one.ended_at is not None else replace(one, ended_at=state.now) for one in state.wishes.sessions]
    gpus = [
        gpu if _drained(state, at) is not None else replace(gpu, streams=False) for at, gpu in enumerate(state.gpus)
    ]
    return _pass(replace(state, gpus=(gpus[0], gpus[1]), wishes=replace(state.wishes, sessions=tuple(ended))))


def _booked(state: State) -> State:
    booking = Booking("b", state.now + 180, state.now + 420, state.now, "eve", "booking")
    return _pass(replace(state, wishes=replace(state.wishes, bookings=(booking,))))


def _stopped(state: State) -> State:
    """As `services/power.py` writes it: the order, the end of sessions, and of the booking that runs."""
    now, wishes = state.now, state.wishes
    sessions = [
        replace(one, ended_at=now, end_kind="stop") if one.ended_at is None else one for one in wishes.sessions
    ]
    bookings = [replace(one, ended_at=now) if one.running(now, RULES.lead_s) else one for one in wishes.bookings]
    orders = (Order(OrderKind.STOP, now, "eve"),)
    return _pass(replace(state, wishes=Wishes(tuple(sessions), tuple(bookings), None, orders)))


def _dies(state: State) -> State:
    gpu = state.gpus[0]
    if gpu.state is not MachineState.RUNNING:
        return state
    return _pass(_with(state, 0, replace(gpu, state=MachineState.STOPPING, due=state.now + MINUTE_S, streams=False)))


def _five_minutes(state: State) -> State:
    for _ in range(5):
        state = minute(state)
    return state


EVENTS: dict[str, Callable[[State], State]] = {
    "somebody comes": _comes,
    "all leave": _leaves,
    "booked": _booked,
    "stop": _stopped,
    "the first machine dies": _dies,
    "no room in the first zone": lambda state: replace(state, room=False),
    "killed": lambda state: replace(state, killed=True),
    "five minutes": _five_minutes,
}


def happened(state: State, name: str) -> State:
    """The state a minute after this event."""
    return minute(EVENTS[name](state))


def minute(state: State) -> State:
    """Machines, streams and clients move on, hosts report, the tick comes."""
    now = state.now + MINUTE_S
    state = replace(state, now=now)
    live = tuple(replace(one, heartbeat_at=now) if one.ended_at is None else one for one in state.wishes.sessions)
    state = replace(state, wishes=replace(state.wishes, sessions=live))
    for at in (0, 1):
        state = _with(state, at, _moved(state, at))
    return _bare(_check(_pass(_served(state))))


def _moved(state: State, at: int) -> Gpu:
    gpu = state.gpus[at]
    if gpu.state is MachineState.PENDING and state.now >= gpu.due:
        return replace(gpu, state=MachineState.RUNNING)
    if gpu.state is MachineState.STOPPING and state.now >= gpu.due:
        return replace(gpu, state=MachineState.STOPPED)
    closing = _drained(state, at)
    streams = gpu.streams and not (closing is not None and state.now >= closing)
    return replace(gpu, streams=streams, streamed_at=state.now if gpu.streams else gpu.streamed_at)


def _served(state: State) -> State:
    """Whoever has a session speaks, on a machine that takes streams."""
    free = [
        at for at, gpu in enumerate(state.gpus) if gpu.state is MachineState.RUNNING and _drained(state, at) is None
    ]
    speaks = any(gpu.streams for gpu in state.gpus)
    wants = any(one.ended_at is None for one in state.wishes.sessions)
    if not wants or speaks or not free:
        return state
    return _with(state, free[0], replace(state.gpus[free[0]], streams=True))


def _drained(state: State, at: int) -> float | None:
    drain = state.memories[at].drain
    return None if drain is None else drain.closing_at


def _with(state: State, at: int, gpu: Gpu) -> State:
    return replace(state, gpus=(gpu, state.gpus[1]) if at == 0 else (state.gpus[0], gpu))


def _pass(state: State) -> State:
    """One pass as `services/reconcile.py` makes it, without the lock: here passes never overlap."""
    now, views = state.now, []
    for at, gpu in enumerate(state.gpus):
        machine = Machine(NAMES[at], Role.GPU, gpu.state, "g4dn.xlarge", ZONES[at], ZONES[at])
        recalled = recall(machine, state.memories[at], now)
        _ledger(recalled.span, gpu)
        seen_as = replace(machine, state=recalled.state)
        views.append(View(seen_as, recalled.memory, _report(state, gpu)))
    seen = Observation.of([*views, EDGE])
    over = {one.session_id: one for one in closings(seen, state.wishes, RULES, now)}
    sessions = [
        replace(one, ended_at=over[one.id].at, end_kind=over[one.id].kind) if one.id in over else one
        for one in state.wishes.sessions
    ]
    served = {view.instance_id for view in ready_gpus(seen, now)}
    memories = [first_ready(one.memory, now)[0] if one.instance_id in served else one.memory for one in seen.gpus]
    seen = replace(seen, gpus=tuple(replace(one, memory=memories[at]) for at, one in enumerate(seen.gpus)))
    decisions = decide(seen, state.wishes, RULES, now)
    ended = replace(state.wishes, sessions=tuple(sessions))
    state = replace(state, memories=(memories[0], memories[1]), wishes=ended)
    climbs = False
    for at, decision in enumerate(decisions):
        if decision.action is not Action.HOLD:
            state, refused = _act(state, at, decision)
            climbs = climbs or refused
    return _pass(state) if climbs else state


EDGE = View(
    Machine("e", Role.EDGE, MachineState.RUNNING),
    Memory("e", Role.EDGE, MachineState.RUNNING, 0.0),
    Report(BEGIN, "e", "ready", upstreams=ZONES),
)


def _report(state: State, gpu: Gpu) -> Report | None:
    """What its host says, if it has one; a minute after the boot it is ready."""
    if gpu.state is not MachineState.RUNNING:
        return None
    live = tuple(Stream(one.id) for one in state.wishes.sessions if one.ended_at is None)
    streams = (live or (Stream("left over"),)) if gpu.streams else ()
    return Report(
        state.now, "b", "ready", streams=streams, max_streams=4, streamed_at=gpu.streamed_at, was_ready=True
    )


def _act(state: State, at: int, decision: Decision) -> tuple[State, bool]:
    """What the machine and the engine's memory of it become; True when there was no room."""
    now, gpu, memory = state.now, state.gpus[at], state.memories[at]
    machine = Machine(NAMES[at], Role.GPU, gpu.state, "g4dn.xlarge", ZONES[at], ZONES[at])
    match decision.action:
        case Action.DRAIN | Action.CANCEL_DRAIN:
            return _remember(state, at, replace(memory, drain=decision.drain)), False
        case Action.START:
            if gpu.state is not MachineState.STOPPED:
                raise Violation(f"I5 {NAMES[at]} was started while it was {gpu.state}")
            memory = replace(memory, intent=Intent(START, now, decision.reason))
            if at == 0 and not state.room:
                error = MachineRefused(RefusalKind.CAPACITY, "InsufficientInstanceCapacity", "")
                return _remember(state, at, reconcile._refused(memory, decision, error, RULES.types, now)), True
            state = _with(state, at, Gpu(MachineState.PENDING, now + MINUTE_S, now))
        case Action.STOP:
            if gpu.state is not MachineState.RUNNING:
                raise Violation(f"I5 {NAMES[at]} was stopped while it was {gpu.state}")
            closing = _drained(state, at)
            kind = memory.drain.kind if memory.drain is not None else None
            noticed = kind in (DrainKind.NIGHT, DrainKind.HARD_MAX) and closing is not None and now >= closing
            if gpu.streams and not noticed and now - gpu.since < RULES.hard_max_s:
                raise Violation(f"I1 {NAMES[at]} was stopped under a stream")
            memory = replace(memory, intent=Intent(STOP, now, decision.reason))
            state = _with(state, at, Gpu(MachineState.STOPPING, now + MINUTE_S, gpu.since))
        case Action.RESTART | Action.HOLD:
            raise AssertionError(f"nothing here asks for {decision.action}")
    if state.killed:
        return replace(_remember(state, at, memory), killed=False), False
    memory, span = reconcile._done(machine, memory, decision, now)
    _ledger(span, gpu)
    return _remember(state, at, memory), False


def _ledger(span: Span | None, gpu: Gpu) -> None:
    if span is not None and abs(span.started_at - gpu.since) >= MINUTE_S:
        raise Violation(f"I8 awake since {gpu.since:.0f}, the ledger says {span.started_at:.0f}")


def _remember(state: State, at: int, memory: Memory) -> State:
    both = (memory, state.memories[1]) if at == 0 else (state.memories[0], memory)
    return replace(state, memories=both)


def _check(state: State) -> State:
    """I2, I3 and I4; the state with the moments noted from which they count."""
    now, wishes = state.now, state.wishes
    streams = any(gpu.streams for gpu in state.gpus)
    live = [one for one in wishes.sessions if one.ended_at is None]
    booked = wishes.booked(now, RULES.lead_s) is not None
    wanted = now if streams or live or booked else state.wanted_at
    light = now if booked or RULES.night is None or RULES.night.at(now) is None else state.light_at
    for gpu in state.gpus:
        if not gpu.state.awake:
            continue
        if now - wanted > RULES.idle_s + LATE_S:
            raise Violation(f"I2 it runs, and nobody has wanted it for {now - wanted:.0f} s")
        if now - gpu.since > RULES.hard_max_s + LATE_S:
            raise Violation("I2 it runs past its hard maximum")
        if now - light > RULES.night_grace_s + LATE_S + MINUTE_S:
            raise Violation("I4 it runs in the night")
    waits = live and not streams and admission(wishes, RULES, now).open
    served = state.served_at if waits else now
    if now - served > SERVED_S:
        raise Violation(f"I3 somebody has waited for {now - served:.0f} s")
    return replace(state, wanted_at=wanted, light_at=light, served_at=served)


def _bare(state: State) -> State:
    """The state without what no decision can depend on any more."""
    now, wishes = state.now, state.wishes
    live = tuple(one for one in wishes.sessions if one.ended_at is None)
    over = [one for one in wishes.sessions if one.ended_at is not None and now - one.ended_at <= 2 * RULES.idle_s]
    latest = max(over, key=lambda one: one.ended_at or 0.0, default=None)
    kept = (*live, *([latest] if latest is not None else []))
    bookings = tuple(one for one in wishes.bookings if now - one.until() <= 2 * RULES.idle_s)
    awake_since = [one.awake_since for one in state.memories if one.awake_since is not None]
    orders = tuple(one for one in wishes.orders if any(one.at >= since for since in awake_since))
    memories = [_bare_memory(one, now) for one in state.memories]
    gpus = [gpu if gpu.state is not MachineState.STOPPED else Gpu() for gpu in state.gpus]
    return replace(
        state,
        wishes=Wishes(kept, bookings, None, orders),
        memories=(memories[0], memories[1]),
        gpus=(gpus[0], gpus[1]),
        wanted_at=max(state.wanted_at, now - 2 * RULES.hard_max_s),
        light_at=max(state.light_at, now - 2 * RULES.hard_max_s),
    )


def _bare_memory(memory: Memory, now: float) -> Memory:
    refusal = memory.refusal
    if refusal is not None and now >= refusal.until and now - refusal.at > COOL_DOWN_S + EPISODE_S:
        memory = replace(memory, refusal=None)
    if memory.state is MachineState.STOPPED and memory.intent is None:
        memory = replace(memory, state_since=0.0, sought_s=0.0)
    intent = None if memory.intent is None else replace(memory.intent, reason="")
    return replace(memory, short=tuple(one for one in memory.short if one.until > now), intent=intent)


def orders(events: Sequence[str], first: Callable[[], State] = small) -> Walk:
    """Every order of the events, each a minute after the one before, and what follows until all is quiet."""
    level: dict[tuple[frozenset[str], State], tuple[int, tuple[str, ...]]]
    level = {(frozenset(events), first()): (1, ())}
    walk = Walk()
    for _ in events:
        following: dict[tuple[frozenset[str], State], tuple[int, tuple[str, ...]]] = {}
        for (left, state), (count, names) in level.items():
            for name in sorted(left):
                told = (*names, name)
                key = (left - {name}, _told(told, happened, state, name))
                known, by = following.get(key, (0, told))
                following[key] = (known + count, by)
                walk.steps += 1
        level = following
        walk.states.append(len(level))
    walk.histories = sum(count for count, _ in level.values())
    ends = {state: names for (_, state), (_, names) in level.items()}
    for _ in range(QUIET_MINUTES):
        ends = {_told(names, minute, replace(state, room=True)): names for state, names in ends.items()}
        walk.steps += len(ends)
    for state, names in ends.items():
        if any(gpu.state.awake for gpu in state.gpus) and not state.wishes.live_sessions(state.now):
            raise Violation(f"{' / '.join(names)}: I2 it still runs")
    return walk


def _told(names: tuple[str, ...], step: Callable[..., State], *of: State | str) -> State:
    """The step; a violation tells the whole history that led to it."""
    try:
        return step(*of)
    except Violation as broken:
        raise Violation(f"{broken} after: {' / '.join(names)}") from broken
