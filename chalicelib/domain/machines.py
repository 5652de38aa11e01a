"""What is known of the hosts: EC2's view, their own reports, and what the engine remembers about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from chalicelib.domain.wishes import Evidence

REPORT_FRESH_S = 20.0
"""Four reports of an awake host; an older one says nothing about now."""

CUT_OFF_S = 12.0
"""Two reports of an awake host and a little: so long without one, while the edge cannot connect to it either, and
a GPU is given up for now."""

SILENT_S = 120.0
"""After this long without a report a GPU that was ready counts as failed."""


class Role(StrEnum):
    """The tag whisperlive-edge:role."""

    GPU = "gpu"
    EDGE = "edge"


class MachineState(StrEnum):
    """EC2's instance states."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"

    @property
    def awake(self) -> bool:
        """Whether EC2 bills it as on, or is about to."""
        return self in (MachineState.PENDING, MachineState.RUNNING)


@dataclass(frozen=True)
class Machine:
    """One instance as DescribeInstances shows it."""

    instance_id: str
    role: Role
    state: MachineState
    type: str = ""
    zone: str = ""
    private_ip: str | None = None
    launched_at: float | None = None


@dataclass(frozen=True)
class Stream:
    """One live connection: seconds since it began and since its last audio frame, as of the report."""

    sid: str
    since: float = 0.0
    last_audio_s: float = 0.0


@dataclass(frozen=True)
class Report:
    """A host's last report. GPU hosts fill the first half, the edge the last four."""

    received_at: float
    boot_id: str = ""
    status: str = ""
    release: str | None = None
    model: str | None = None
    models: tuple[str, ...] = ()
    device: str | None = None
    streams: tuple[Stream, ...] = ()
    max_streams: int = 0
    decode_s_p50: float | None = None
    decoded_at: float | None = None
    """When the last decode ended, whoever spoke."""
    disk_free: float | None = None
    cause: str | None = None
    streamed_at: float | None = None
    """When a report last had a stream in it; kept by the receiver, for the linger."""
    was_ready: bool = False
    """Whether this boot has ever reported ready; kept by the receiver."""
    upstreams: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    """Of the GPU hosts that are awake, those that take no connection of this edge."""
    ca_pem: str | None = None
    cert_days: float | None = None
    cert_life_days: float | None = None

    def fresh(self, now: float) -> bool:
        """Whether it speaks of now."""
        return now - self.received_at <= REPORT_FRESH_S

    @property
    def takes_streams(self) -> bool:
        """Whether a GPU host says that it serves: loading, draining and failed ones refuse new streams."""
        return self.status == "ready"


@dataclass(frozen=True)
class Intent:
    """An act written down before it is done. `acted` is set once AWS took it."""

    action: str
    at: float
    reason: str = ""
    acted: bool = False


class DrainKind(StrEnum):
    """Why a host drains, which also says what follows."""

    STOP = "stop"
    RESTART = "restart"
    NIGHT = "night"
    HARD_MAX = "hard_max"


@dataclass(frozen=True)
class Drain:
    """A drain announced to a host: streams end at `closing_at`, then the machine stops or restarts."""

    kind: DrainKind
    since: float
    closing_at: float
    reason: str


@dataclass(frozen=True)
class Refusal:
    """EC2 refused the last start; this machine is not tried again before `until`."""

    kind: str
    message: str
    at: float
    until: float
    since: float | None = None
    """When the first refusal of this waking came."""


@dataclass(frozen=True)
class Shortage:
    """AWS had no machine of this type in this zone; it is not asked for one again before `until`."""

    type: str
    zone: str
    until: float


@dataclass(frozen=True)
class Memory:
    """What the engine remembers of one machine between passes."""

    instance_id: str
    role: Role
    state: MachineState
    state_since: float
    type: str = ""
    zone: str = ""
    private_ip: str | None = None
    awake_since: float | None = None
    """When this time awake began: the start call, or EC2's launch time where somebody else started it."""
    running_at: float | None = None
    ready_at: float | None = None
    intent: Intent | None = None
    drain: Drain | None = None
    refusal: Refusal | None = None
    short: tuple[Shortage, ...] = ()
    failures: int = 0
    """Times awake in a row that ended without a ready, and without anybody having asked for the end."""
    sought_s: float = 0.0
    """How long capacity was sought before the start that this time awake began with."""
    forced_at: float | None = None
    """When it was last stopped by force because it was stuck."""
    restarted_at: float | None = None
    fell_at: float | None = None
    """When it last left a time awake without having been asked to."""


@dataclass(frozen=True)
class View:
    """One machine with all that is known about it."""

    machine: Machine
    memory: Memory
    report: Report | None = None
    unreachable_at: float | None = None
    """When an edge last reported that it takes no connection; None when the edge's latest word is another."""

    @property
    def instance_id(self) -> str:
        return self.machine.instance_id

    def current(self) -> Report | None:
        """The last report, if it belongs to this time awake and not to one before."""
        since = self.memory.awake_since
        if self.report is None or since is None or self.report.received_at <= since:
            return None
        return self.report

    def fresh(self, now: float) -> Report | None:
        """The last report, if it speaks of now."""
        report = self.current()
        return report if report is not None and report.fresh(now) else None

    def evidence(self, now: float) -> Evidence:
        """What the host link says about streams."""
        report = self.fresh(now)
        if report is None:
            return Evidence.IDLE if self.dead(now) else Evidence.UNKNOWN
        return Evidence.ACTIVE if report.streams else Evidence.IDLE

    def never_served(self) -> bool:
        """Awake, but never once ready: no ticket was given out for it, so nobody can stream."""
        report = self.current()
        return report is None or not (report.was_ready or report.streams)

    def silent(self, now: float) -> bool:
        """Whether it has reported in this time awake and stopped doing so."""
        report = self.current()
        return self.cut_off(now) or (report is not None and now - report.received_at > SILENT_S)

    def cut_off(self, now: float) -> bool:
        """Whether two witnesses say that it is gone: its own silence, and an edge that cannot connect to it."""
        report = self.current()
        if report is None or self.unreachable_at is None or now - self.unreachable_at > REPORT_FRESH_S:
            return False
        return report.received_at < self.unreachable_at and now - report.received_at > CUT_OFF_S

    def dead(self, now: float) -> bool:
        """Cut off for so long that nothing can live there: nobody but the edge can stream to it."""
        report = self.current()
        return self.cut_off(now) and report is not None and now - report.received_at > SILENT_S

    def mute_since(self) -> float | None:
        """Since when it runs without having reported once; None when it has, or does not run."""
        if self.machine.state is not MachineState.RUNNING or self.current() is not None:
            return None
        return self.memory.running_at if self.memory.running_at is not None else self.memory.awake_since

    def streams(self) -> tuple[Stream, ...]:
        """The streams of the last report of this time awake, fresh or not."""
        report = self.current()
        return report.streams if report else ()


@dataclass(frozen=True)
class Observation:
    """Everything that was seen in one pass."""

    gpus: tuple[View, ...] = ()
    edges: tuple[View, ...] = ()

    @classmethod
    def of(cls, views: Iterable[View]) -> Observation:
        """Sort the views by role, and give each GPU what the edges say of it."""
        seen = list(views)
        edges = tuple(view for view in seen if view.machine.role is Role.EDGE)
        gpus = tuple(_with_witness(view, edges) for view in seen if view.machine.role is Role.GPU)
        return cls(gpus, edges)

    def streaming(self, now: float) -> frozenset[str]:
        """The sids that streamed when their host was last heard in this time awake.

        A host that fell silent leaves its streams standing: unknown counts as active, and a session is bounded
        by its max_at. One that is dead leaves none.
        """
        return frozenset(
            stream.sid
            for view in self.gpus
            if view.machine.state is MachineState.RUNNING and not view.dead(now)
            for stream in view.streams()
        )


def _with_witness(view: View, edges: tuple[View, ...]) -> View:
    at = _unreachable(view, edges)
    return view if at == view.unreachable_at else replace(view, unreachable_at=at)


def _unreachable(view: View, edges: tuple[View, ...]) -> float | None:
    """When the edges last said that it takes no connection; None where one says it does."""
    reports = [edge.report for edge in edges if edge.report is not None]
    if not reports or not all(view.machine.private_ip in one.down for one in reports):
        return None
    return max(one.received_at for one in reports)
