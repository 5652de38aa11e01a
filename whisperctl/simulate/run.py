"""The simulation: the real `decide` at every event and tick, machines that take time, nobody real."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from chalicelib.domain.closings import closings
from chalicelib.domain.ledger import BILLING_MINIMUM_S, Wake
from chalicelib.domain.lifecycle import Action, Decision, decide
from chalicelib.domain.linger import lingering
from chalicelib.domain.machines import Drain, Machine, MachineState, Memory, Observation, Report, Role, Stream, View
from chalicelib.domain.rules import Rules
from chalicelib.domain.wishes import Session, Wishes
from whisperctl.simulate.traces import Wanted

TICK_S = 60.0
REPORT_S = 5.0
"""A host's reports come this often, and what is due is done at the next one."""
LEAST_IDLE_S = 60.0
FOREVER_S = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Plant:
    """The machines: how many, and the seconds each step takes."""

    machines: int = 1
    boot_s: float = 60.0
    service_s: float = 20.0
    stop_s: float = 30.0

    @property
    def waking_s(self) -> float:
        return self.boot_s + self.service_s


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trace. Waits in seconds, one a session; intervals awake in epoch seconds."""

    intervals: tuple[tuple[float, float], ...]
    waits: tuple[float, ...]
    cut: int = 0
    """Sessions that ended before their speech did: by the night, or by a stop."""

    @property
    def gpu_s(self) -> float:
        return sum(max(BILLING_MINIMUM_S, over - begun) for begun, over in self.intervals)


@dataclass
class _Gpu:
    name: str
    state: MachineState = MachineState.STOPPED
    due: float | None = None
    since: float | None = None
    ready_at: float | None = None
    streamed_at: float | None = None
    changed_at: float = 0.0
    drain: Drain | None = None
    streams: set[int] = field(default_factory=set)


def simulate(trace: Sequence[Wanted], rules: Rules, plant: Plant, *, learn: bool = False) -> Outcome:
    """Run a trace from its first session until everything sleeps again.

    A session wants the GPU from its start, and speaks for its length from the moment it is served. With `learn`
    the linger follows the gaps seen so far, up to the rules' idle seconds.
    """
    return _Run(trace, rules, plant, learn).outcome()


class _Run:
    def __init__(self, trace: Sequence[Wanted], rules: Rules, plant: Plant, learn: bool) -> None:
        self.trace, self.rules, self.plant, self.learn = trace, rules, plant, learn
        self.gpus = [_Gpu(f"gpu-{number}") for number in range(plant.machines)]
        self.open: dict[int, Session] = {}
        self.ends: list[tuple[float, int]] = []
        self.last: Session | None = None
        self.gaps: list[float] = []
        self.waits: dict[int, float] = {}
        self.intervals: list[tuple[float, float]] = []
        self.cut = 0
        self.now = 0.0
        self.due: float | None = None
        """When a report does what is due next."""

    def outcome(self) -> Outcome:
        waiting = [(one.start, number) for number, one in enumerate(self.trace)]
        heapq.heapify(waiting)
        self.now = tick = waiting[0][0] if waiting else 0.0
        while waiting or self.open or any(gpu.state is not MachineState.STOPPED for gpu in self.gpus):
            awake = self.open or any(gpu.state is not MachineState.STOPPED for gpu in self.gpus)
            moments = [gpu.due for gpu in self.gpus if gpu.due is not None]
            moments += [gpu.ready_at for gpu in self.gpus if gpu.ready_at is not None and gpu.ready_at > self.now]
            moments += [self.ends[0][0]] if self.ends else []
            moments += [waiting[0][0]] if waiting else []
            moments += [tick + TICK_S] if awake else []
            moments += [self.due] if self.due is not None else []
            moments += [gpu.drain.closing_at for gpu in self.gpus if gpu.drain is not None and gpu.streams]
            self.now = max(self.now, min(moments))
            if self.now >= tick + TICK_S:
                tick = self.now
            self._machines()
            self._drains()
            while self.ends and self.ends[0][0] <= self.now:
                self._end(heapq.heappop(self.ends)[1])
            while waiting and waiting[0][0] <= self.now:
                self._begin(heapq.heappop(waiting)[1])
            self._serve()
            self._decide()
        return Outcome(tuple(self.intervals), tuple(self.waits[number] for number in sorted(self.waits)), self.cut)

    def _begin(self, number: int) -> None:
        if not self.open and self.last is not None and self.last.ended_at is not None:
            self.gaps.append(self.now - self.last.ended_at)
        self.open[number] = Session(f"{number}", "p", self.now, self.now, self.now + FOREVER_S)

    def _end(self, number: int) -> None:
        session = self.open.pop(number)
        self.last = replace(session, ended_at=self.now)
        for gpu in self.gpus:
            if number in gpu.streams:
                gpu.streams.discard(number)
                gpu.streamed_at = self.now

    def _drains(self) -> None:
        """Streams that a drain closes: the night cuts them."""
        for gpu in self.gpus:
            if gpu.drain is not None and self.now >= gpu.drain.closing_at:
                for number in sorted(gpu.streams):
                    self._cut(number)

    def _cut(self, number: int) -> None:
        self.cut += 1
        self.ends = [one for one in self.ends if one[1] != number]
        heapq.heapify(self.ends)
        self._end(number)

    def _serve(self) -> None:
        awake = [gpu for gpu in self.gpus if gpu.ready_at is not None and gpu.ready_at <= self.now]
        ready = next((gpu for gpu in awake if gpu.drain is None), None)
        if ready is None:
            return
        for number in self.open:
            if number not in self.waits:
                self.waits[number] = self.now - self.trace[number].start
                ready.streams.add(number)
                heapq.heappush(self.ends, (self.now + self.trace[number].length, number))

    def _machines(self) -> None:
        for gpu in self.gpus:
            if gpu.due is None or gpu.due > self.now:
                continue
            gpu.due, gpu.changed_at = None, self.now
            if gpu.state is MachineState.PENDING:
                gpu.state, gpu.ready_at = MachineState.RUNNING, self.now + self.plant.service_s
            elif gpu.state is MachineState.STOPPING:
                gpu.state = MachineState.STOPPED

    def _decide(self) -> None:
        sessions = [replace(one, heartbeat_at=self.now) for one in self.open.values()]
        wishes = Wishes((*sessions, *([self.last] if self.last else [])))
        rules = self.rules
        if self.learn:
            wake = Wake(self.now, self.plant.boot_s, self.plant.service_s)
            rules = lingering(replace(rules, idle_least_s=LEAST_IDLE_S), self.gaps, (wake,))
        seen = Observation(tuple(self._view(gpu) for gpu in self.gpus))
        for over in closings(seen, wishes, rules, self.now):
            if int(over.session_id) in self.open:  # those who still wait when the night ends them
                self.waits.setdefault(int(over.session_id), self.now - self.trace[int(over.session_id)].start)
                self._cut(int(over.session_id))
        decisions = decide(seen, wishes, rules, self.now)
        for gpu, decision in zip(self.gpus, decisions, strict=True):
            self._act(gpu, decision)
        later = [one.next.at for one in decisions if one.next is not None and one.next.at is not None]
        self.due = min((at + REPORT_S for at in later if at + REPORT_S > self.now), default=None)

    def _act(self, gpu: _Gpu, decision: Decision) -> None:
        if decision.action is Action.START:
            gpu.state, gpu.since, gpu.due = MachineState.PENDING, self.now, self.now + self.plant.boot_s
            gpu.changed_at, gpu.drain = self.now, None
        elif decision.action is Action.DRAIN:
            gpu.drain = decision.drain
        elif decision.action is Action.CANCEL_DRAIN:
            gpu.drain = None
        elif decision.action is Action.STOP and gpu.since is not None:
            self.intervals.append((gpu.since, self.now))
            self.cut += len(gpu.streams)
            gpu.state, gpu.since, gpu.due = MachineState.STOPPING, None, self.now + self.plant.stop_s
            gpu.ready_at = gpu.streamed_at = None
            gpu.changed_at, gpu.drain = self.now, None
            for number in gpu.streams:  # they come back and speak for as long again
                self.ends = [one for one in self.ends if one[1] != number]
                del self.waits[number]
            heapq.heapify(self.ends)
            gpu.streams.clear()

    def _view(self, gpu: _Gpu) -> View:
        machine = Machine(gpu.name, Role.GPU, gpu.state, "", f"zone-{gpu.name}")
        memory = Memory(gpu.name, Role.GPU, gpu.state, gpu.changed_at, awake_since=gpu.since, drain=gpu.drain)
        report = None
        if gpu.state is MachineState.RUNNING and gpu.since is not None:
            ready = gpu.ready_at is not None and gpu.ready_at <= self.now
            streams = tuple(Stream(f"{number}") for number in sorted(gpu.streams))
            status = "ready" if ready else "loading"
            streamed = self.now if streams else gpu.streamed_at
            report = Report(self.now, "b", status, streams=streams, was_ready=ready, streamed_at=streamed)
        return View(machine, memory, report)
