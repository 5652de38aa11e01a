"""The pass: observe, decide, lock, observe and decide again, write the intent, act, record, release.

Level-triggered: a pass looks at what is and what is wished, never at what triggered it, so a lost, late or
doubled trigger changes nothing. Every wish is written first, then the wishes' generation is counted up, then a
pass is asked for. Whoever finds the lock held may leave: the holder reads the generation again after releasing,
and a wish whose counting came before that is seen by it.

At most one pass begins a second. It takes a turn at the wishes' counter, which also says up to which wish it sees;
whose wish a turn covers may leave, anybody else waits for the next turn, less than a second, and one of them takes
it for all. A burst of any size is two passes.

AWS calls of a pass with nothing to do: one for the turn, one DynamoDB Query, one DescribeInstances.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import assert_never

from chalicelib.domain.capacity import COOL_DOWN_S, lately, sought_since
from chalicelib.domain.closings import Closing, closings
from chalicelib.domain.ledger import HISTORY as HISTORY_LENGTH
from chalicelib.domain.ledger import Span, Wake
from chalicelib.domain.lifecycle import Action, Decision, decide
from chalicelib.domain.machines import (
    Intent,
    Machine,
    MachineState,
    Memory,
    Observation,
    Refusal,
    Role,
    Shortage,
    View,
)
from chalicelib.domain.memory import RESTART, START, STOP, Recalled, failed, first_ready, recall
from chalicelib.domain.phases import ready_gpus
from chalicelib.domain.places import moved, places
from chalicelib.domain.remote import restart_gpu
from chalicelib.domain.rules import Rules
from chalicelib.domain.wishes import Session
from chalicelib.errors import CommandRefused, MachineRefused, RefusalKind, StoreConflict
from chalicelib.ports import (
    Check,
    Clock,
    Commands,
    Delete,
    Machines,
    Measure,
    Metrics,
    NoMetrics,
    Put,
    Store,
    Unit,
    Write,
)
from chalicelib.services import measures
from chalicelib.services.control import (
    HISTORY,
    KEPT_S,
    LOCK,
    WISHES,
    Control,
    data_of,
    load,
    machine_key,
    report_key,
    session_key,
)
from chalicelib.services.events import Cause, event
from chalicelib.services.notices import Notices, budget_spent, find, notice_writes, span_writes
from chalicelib.telemetry import logger

LEASE_S = 30.0
"""Longer than a request may live (29 s), so that a dead holder is the only one that loses it."""
EVERY_S = 1.0
"""Seconds from the beginning of a pass to that of the next. One that climbs the ladder goes on at once."""
WAITS = 4
"""So often a turn is waited for; then the pass runs without one, for no wish may be lost to a bad clock."""
ROUNDS = 16
"""Passes in one run: for wishes that moved meanwhile, and one for each rung of the capacity ladder."""
LONGEST_S = 18.0
"""No further pass is begun after this long: API Gateway gives up after 29 s."""
BATCH = 80
"""Writes in one transaction; DynamoDB takes 100."""
PAUSE_S = {
    RefusalKind.CAPACITY: COOL_DOWN_S,
    RefusalKind.QUOTA: 900.0,
    RefusalKind.STATE: 5.0,
    RefusalKind.THROTTLED: 10.0,
    RefusalKind.OTHER: 60.0,
}
"""How long a machine is left alone after each kind of refusal, in seconds."""


_NEXT = float("inf")
"""A wish that no turn before covers."""


class _Outcome(Enum):
    """What came of one pass."""

    SETTLED = auto()
    MOVED = auto()
    """Wishes moved meanwhile."""
    CLIMBS = auto()
    """A start was refused for want of capacity, and there is another rung."""


@dataclass(frozen=True)
class _Seen:
    """One observation with what follows from it."""

    now: float
    control: Control
    observation: Observation
    memories: tuple[Memory, ...]
    spans: tuple[Span, ...]
    wakes: tuple[Wake, ...]
    placed: tuple[Session, ...]
    """Sessions whose place is on another host than is written."""
    unwritten: tuple[Write, ...]
    """Events of what happened without a record: acts of passes that died, machines that stopped by themselves."""
    decisions: tuple[Decision, ...]
    closings: tuple[Closing, ...]
    notices: Notices
    rules: Rules
    gone: tuple[str, ...]
    """Machines that EC2 no longer shows."""

    @property
    def acts(self) -> tuple[Decision, ...]:
        return tuple(one for one in self.decisions if one.action is not Action.HOLD)

    @property
    def nothing_to_do(self) -> bool:
        told = self.notices.any(self.control)
        return not (self.memories or self.acts or self.closings or self.gone or self.placed or told)


@dataclass(frozen=True)
class Reconciler:
    """Runs passes. Holds no state of its own; several may run at once, in one process or many."""

    store: Store
    machines: Machines
    commands: Commands
    rules: Rules
    stack_name: str
    clock: Clock
    budget: float = 0.0
    wait: Callable[[float], None] = lambda _seconds: None
    metrics: Metrics = field(default_factory=NoMetrics)

    def run(self, cause: Cause, wish: int | None = None) -> None:
        """One pass, and another whenever the wishes moved meanwhile. Never raises for EC2's or SSM's refusals.

        `wish`: the wishes' generation as the caller counted it; None: whatever a pass of this second sees will do.
        """
        began = self.clock()
        if not self._turn(wish):
            return
        for _ in range(ROUNDS):
            if self.clock() - began > LONGEST_S:
                return
            try:
                outcome = self._pass(cause)
            except StoreConflict:
                continue  # somebody wrote between our read and our write: look again
            except MachineRefused as error:
                # Nothing could be observed; wishes are written, the next tick acts on them.
                logger().warning("EC2 does not answer", extra={"code": error.code, "trigger": cause.trigger})
                return
            match outcome:
                case _Outcome.SETTLED:
                    return
                case _Outcome.MOVED:
                    self._turn(_NEXT)
                case _Outcome.CLIMBS:
                    pass  # the next rung, at once
                case _:
                    assert_never(outcome)

    def _turn(self, wish: float | None) -> bool:
        """Whether to make a pass: False when one that began already sees `wish`."""
        for _ in range(WAITS):
            turn = self.store.turn(WISHES, self.clock(), EVERY_S)
            if turn.taken:
                return True
            if wish is None or turn.upto >= wish:
                return False
            self.wait(min(max(turn.at + EVERY_S - self.clock(), 0.01), EVERY_S))
        return True

    def _pass(self, cause: Cause) -> _Outcome:
        """SETTLED when all wishes known by now are served, or another pass is on to them."""
        seen = self._observe(cause)
        if cause.trigger == "tick":
            self.metrics.emit(*measures.of_now(seen.observation, seen.now))
        if seen.nothing_to_do or seen.control.lock_until > seen.now:
            return _Outcome.SETTLED
        generation = self._lock(seen)
        if generation is None:
            return _Outcome.SETTLED
        lock = Check(LOCK, generation)
        climbs = False
        try:
            seen = self._observe(cause)
            if not seen.nothing_to_do:
                climbs = self._carry_out(seen, cause, lock)
                took = Measure("ReconcileSeconds", round(self.clock() - seen.now, 3), Unit.SECONDS)
                self.metrics.emit(took, *measures.of_wakes(seen.wakes), *measures.of_spans(seen.spans))
        finally:
            self._release(generation)
        if climbs:
            return _Outcome.CLIMBS
        record = self.store.get(WISHES)
        moved = (int(record.data["n"]) if record else 0) != seen.control.generation
        return _Outcome.MOVED if moved else _Outcome.SETTLED

    def _lock(self, seen: _Seen) -> int | None:
        version, held = seen.control.version(LOCK), {"until": seen.now + LEASE_S, "by": secrets.token_hex(8)}
        try:
            self.store.write(Put(LOCK, held, expect=version))
        except StoreConflict:
            # A write that was sent again since its answer was lost meets itself: then the lock is ours.
            record = self.store.get(LOCK)
            return record.version if record is not None and record.data == held else None
        return version + 1

    def _release(self, generation: int) -> None:
        try:
            self.store.write(Put(LOCK, {"until": 0.0}, expect=generation))
        except StoreConflict:
            # The lease ran out and another pass took over; every write of ours since then was refused.
            logger().warning("the reconcile lease was lost", extra={"generation": generation})

    def _observe(self, cause: Cause) -> _Seen:
        control = load(self.store)
        machines = self.machines.describe()
        now = self.clock()
        views: list[View] = []
        spans: list[Span] = []
        unwritten: list[Write] = []
        for machine in machines:
            report = control.reports.get(machine.instance_id)
            recalled = recall(machine, control.memories.get(machine.instance_id), now, report)
            spans += [recalled.span] if recalled.span and machine.role is Role.GPU else []
            unwritten += _unwritten(recalled, control, cause, now) if machine.role is Role.GPU else []
            seen_as = replace(machine, state=recalled.state)
            views.append(View(seen_as, recalled.memory, report))
        observation = Observation.of(views)
        serving = ready_gpus(observation, now)
        wakes: list[Wake] = []
        for view in serving:
            memory, wake = first_ready(view.memory, now)
            wakes += [wake] if wake else []
            at = next(at for at, one in enumerate(views) if one.instance_id == view.instance_id)
            views[at] = replace(view, memory=memory)
        observation = Observation.of(views)
        rules = control.learned(self.rules)
        spent = budget_spent(self.store, control, observation, rules, self.budget, now)
        over = closings(observation, control.wishes, rules, now)
        changed = tuple(one.memory for one in views if control.memories.get(one.instance_id) != one.memory)
        return _Seen(
            now,
            control,
            observation,
            changed,
            tuple(spans),
            tuple(wakes),
            _placed(observation, control, over, now),
            tuple(unwritten),
            decide(observation, control.wishes, rules, now),
            over,
            find(control, observation, rules, now, ready=bool(serving), spent=spent),
            rules,
            tuple(sorted(control.memories.keys() - {machine.instance_id for machine in machines})),
        )

    def _carry_out(self, seen: _Seen, cause: Cause, lock: Check) -> bool:
        """True when a start was refused for want of capacity, so that the next rung is to be tried."""
        memories = {view.instance_id: view.memory for view in (*seen.observation.gpus, *seen.observation.edges)}
        for decision in seen.acts:
            memories[decision.instance_id] = _intended(seen, memories[decision.instance_id], decision)
        self._write_intents(seen, cause, lock, memories)
        acted = [self._act(seen, one, memories[one.instance_id], cause, lock) for one in seen.acts]
        return any(acted)

    def _write_intents(self, seen: _Seen, cause: Cause, lock: Check, memories: dict[str, Memory]) -> None:
        """What was seen, what will be done, and the sessions that are over, before anything is done."""
        control = seen.control
        groups: list[list[Write]] = [[]]
        groups[0] += seen.unwritten
        for session in seen.placed:
            key = session_key(session.id)
            groups[0].append(Put(key, data_of(session), control.version(key), session.max_at + KEPT_S))
        if seen.wakes:
            kept = [*control.wakes, *seen.wakes][-HISTORY_LENGTH:]
            groups[0].append(Put(HISTORY, {"wakes": [data_of(one) for one in kept]}, expect=control.version(HISTORY)))
        groups[0] += span_writes(seen.spans, control, seen.rules, cause, seen.now)
        groups[0] += notice_writes(seen.notices, control, cause, seen.now)
        groups[0] += [Delete(key(one)) for one in seen.gone for key in (machine_key, report_key)]
        for memory in memories.values():
            if memory != control.memories.get(memory.instance_id):
                key = machine_key(memory.instance_id)
                groups[0].append(Put(key, data_of(memory), expect=control.version(key)))
        for decision in seen.acts:
            if decision.action in (Action.DRAIN, Action.CANCEL_DRAIN):
                verb = "gpu.drain" if decision.action is Action.DRAIN else "gpu.resume"
                groups[0].append(event(seen.now, cause, verb, decision.instance_id, decision.reason))
        groups += list(_closing_writes(seen, cause))
        for group in groups:
            for start in range(0, len(group), BATCH):
                self.store.write(lock, *group[start : start + BATCH])

    def _act(self, seen: _Seen, decision: Decision, memory: Memory, cause: Cause, lock: Check) -> bool:
        """Do one thing, then record how it went; True when AWS had no room."""
        key = machine_key(decision.instance_id)
        view = next(one for one in seen.observation.gpus if one.instance_id == decision.instance_id)
        version = seen.control.version(key) + 1
        verb = f"gpu.{decision.action}"
        try:
            match decision.action:
                case Action.START:
                    if decision.type:
                        self.machines.change_type(decision.instance_id, decision.type)
                    self.machines.start(decision.instance_id)
                case Action.STOP:
                    self.machines.stop(decision.instance_id, decision.force)
                case Action.RESTART:
                    self.commands.send(decision.instance_id, restart_gpu(self.stack_name))
                case Action.DRAIN | Action.CANCEL_DRAIN | Action.HOLD:
                    return False  # written with the intents; the host hears of it in its next answer
        except MachineRefused as error:
            refused = _refused(memory, decision, error, self.rules.types, self.clock())
            words = refused.refusal.message if refused.refusal else error.message
            logger().warning("EC2 refused", extra={"code": error.code, "action": verb, "trigger": cause.trigger})
            self.store.write(
                lock,
                Put(key, data_of(refused), expect=version),
                event(self.clock(), cause, f"{verb}_refused", decision.instance_id, words),
            )
            return decision.action is Action.START and error.kind is RefusalKind.CAPACITY
        except CommandRefused as error:
            logger().warning("SSM refused", extra={"code": error.code, "action": verb, "trigger": cause.trigger})
            self.store.write(
                lock,
                Put(key, data_of(replace(memory, intent=None, restarted_at=seen.now)), expect=version),
                event(self.clock(), cause, f"{verb}_refused", decision.instance_id, str(error)),
            )
            return False
        about = {"action": verb, "target": decision.instance_id, "reason": decision.reason, "trigger": cause.trigger}
        logger().info("acted", extra=about)
        done, span = _done(view.machine, memory, decision, seen.now)
        writes: list[Write] = [
            lock,
            Put(key, data_of(done), expect=version),
            event(seen.now, cause, verb, decision.instance_id, decision.reason),
        ]
        if decision.type:
            writes.append(event(seen.now, cause, "gpu.change_type", decision.instance_id, f"to {decision.type}"))
        if span is not None:
            writes += span_writes([span], seen.control, seen.rules, cause, seen.now)
        self.store.write(*writes)
        self.metrics.emit(*measures.of_spans([span] if span is not None else []))
        return False


def _placed(observation: Observation, control: Control, over: Sequence[Closing], now: float) -> tuple[Session, ...]:
    ending = {one.session_id for one in over}
    live = [one for one in control.wishes.live_sessions(now, observation.streaming(now)) if one.id not in ending]
    hosts = places(observation, live, now)
    now_at = ((one, moved(one, hosts[one.id])) for one in live if one.id in hosts)
    return tuple(after for before, after in now_at if after is not before)


def _unwritten(recalled: Recalled, control: Control, cause: Cause, now: float) -> Iterator[Write]:
    """What EC2 shows and no pass has written down."""
    target, late = recalled.memory.instance_id, recalled.late
    if late is not None:
        words = f"{late.reason} (recorded late: the pass that did it was cut off)"
        yield event(now, cause, f"gpu.{late.action}", target, words)
    if recalled.by_itself:
        report = control.reports.get(target)
        count = len(report.streams) if report is not None else 0
        words = "nobody here asked for it" + (f"; {count} streams were on it" if count else "")
        yield event(now, cause, "gpu.stopped_by_itself", target, words)


def _intended(seen: _Seen, memory: Memory, decision: Decision) -> Memory:
    now = seen.now
    match decision.action:
        case Action.START:
            sought = sought_since(seen.observation.gpus, now)
            started = replace(memory, sought_s=0.0 if sought is None else now - sought)
            return replace(started, intent=Intent(START, now, decision.reason))
        case Action.STOP:
            if decision.impaired:
                memory = failed(memory, decision.reason, 0.0, now)
            forced = replace(memory, forced_at=now) if decision.force else memory
            return replace(forced, intent=Intent(STOP, now, decision.reason))
        case Action.RESTART:
            return replace(memory, intent=Intent(RESTART, now, decision.reason))
        case Action.DRAIN:
            return replace(memory, drain=decision.drain)
        case Action.CANCEL_DRAIN:
            return replace(memory, drain=None)
        case Action.HOLD:
            return memory


def _done(machine: Machine, memory: Memory, decision: Decision, now: float) -> tuple[Memory, Span | None]:
    """The memory after EC2 or SSM took the act."""
    if decision.action is Action.RESTART:
        return replace(memory, intent=None, drain=None, restarted_at=now), None
    state = MachineState.PENDING if decision.action is Action.START else MachineState.STOPPING
    entered = recall(replace(machine, state=state), memory, now)
    intent = replace(memory.intent, acted=True) if memory.intent else None
    return replace(entered.memory, intent=intent), entered.span


def _refused(memory: Memory, decision: Decision, error: MachineRefused, types: Sequence[str], now: float) -> Memory:
    if decision.action is not Action.START:
        return replace(memory, intent=None)
    kind = decision.type or memory.type
    words = {
        RefusalKind.CAPACITY: f"AWS has no {kind or 'machine'} free in {memory.zone or 'its zone'}",
        RefusalKind.QUOTA: "the account's quota for this machine type is used up; ask AWS to raise it",
        RefusalKind.STATE: "EC2 cannot start it in its present state yet",
        RefusalKind.THROTTLED: "EC2 asks for a pause",
        RefusalKind.OTHER: f"EC2 refused to start it ({error.code})",
    }[error.kind]
    before = memory.refusal
    sought = before.since if before is not None and lately(before, now) else None
    pause = PAUSE_S[error.kind]
    short = tuple(one for one in memory.short if one.until > now)
    if error.kind is RefusalKind.CAPACITY:
        short = (*short, Shortage(kind, memory.zone, now + pause))
        # The machine waits only when it has no other type left to try.
        lacks = {one.type for one in short}
        pause = pause if lacks >= {*types, kind} else 0.0
    message = f"{words}: {error.message}" if error.message else words
    refusal = Refusal(error.kind.value, message, now, now + pause, now if sought is None else sought)
    return replace(memory, intent=None, refusal=refusal, short=short)


def _closing_writes(seen: _Seen, cause: Cause) -> Iterator[list[Write]]:
    """Each group ends some sessions with their events, small enough for one transaction."""
    group: list[Write] = []
    for closing in seen.closings:
        session = seen.control.session(closing.session_id)
        if session is None:
            continue
        key = session_key(session.id)
        ended = replace(session, ended_at=closing.at, end_reason=closing.reason, end_kind=closing.kind)
        group += [
            Put(key, data_of(ended), seen.control.version(key), max(session.max_at, closing.at) + KEPT_S),
            event(seen.now, cause, "session.close", session.id, closing.reason),
        ]
        if len(group) >= BATCH:
            yield group
            group = []
    if group:
        yield group
