"""The control partition as domain objects: one consistent query is the whole state.

| sort key           | what                                                                    |
|--------------------|-------------------------------------------------------------------------|
| `lock`             | the reconcile lease: holder, until; its version is the generation        |
| `wishes`           | counter: the wishes' generation                                          |
| `machine#ID`       | the engine's memory of a machine                                         |
| `report#ID`        | a host's last report                                                     |
| `session#ID`       | a session, also for a while after its end (so that its ticket is revoked) |
| `booking#ID`       | a booking                                                                |
| `power`            | closed_until and the operator's orders                                   |
| `history`          | the last wakes, for estimates                                            |
| `gaps`             | seconds between the times somebody wanted the GPU, for the linger        |
| `notices`          | what a person was told and still holds                                   |
| `ticket-keys`      | the signing secrets                                                      |
| `probe`            | the last probe, and what was tried because of it                         |
| `probe-wanted`     | when a canary was last asked for, and why                                |
| `rollout#TARGET`   | the rollout at work on the hosts of a kind: at most one, and a wish      |

Other partitions: `tokens` (by SHA-256), `idempotency`, `events`, `ledger`, `rollouts` (by id), `installed` (by host).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from chalicelib.domain.ledger import Span, Wake, lead
from chalicelib.domain.linger import lingering
from chalicelib.domain.machines import (
    Drain,
    DrainKind,
    Intent,
    Machine,
    MachineState,
    Memory,
    Observation,
    Refusal,
    Report,
    Role,
    Shortage,
    Stream,
    View,
)
from chalicelib.domain.memory import effective_state
from chalicelib.domain.night import Night
from chalicelib.domain.phases import Overview, overview
from chalicelib.domain.probes import Layer, LayerName, Verdict
from chalicelib.domain.repair import Health, Repair, RepairKind
from chalicelib.domain.rollout import Rollout, State, Step, StepState
from chalicelib.domain.rules import Rules
from chalicelib.domain.tickets import TicketKey, TicketKeys
from chalicelib.domain.wishes import Booking, Installation, Order, OrderKind, Session, Wishes
from chalicelib.ports import Key, Record, Store
from chalicelib.settings import Settings

CONTROL = "control"
LOCK = Key(CONTROL, "lock")
WISHES = Key(CONTROL, "wishes")
POWER = Key(CONTROL, "power")
HISTORY = Key(CONTROL, "history")
GAPS = Key(CONTROL, "gaps")
TICKET_KEYS = Key(CONTROL, "ticket-keys")
NOTICES = Key(CONTROL, "notices")
PROBE = Key(CONTROL, "probe")
PROBE_WANTED = Key(CONTROL, "probe-wanted")
LEDGER = "ledger"
"""The partition of spans, by their start."""

KEPT_S = 5 * 3600.0
"""How long a finished session or booking stays readable after its own end: with a session's longest life, longer
than a machine's hard maximum, so that the receipt of a time awake can count them."""

T = TypeVar("T")


def machine_key(instance_id: str) -> Key:
    return Key(CONTROL, f"machine#{instance_id}")


def report_key(instance_id: str) -> Key:
    return Key(CONTROL, f"report#{instance_id}")


def session_key(session_id: str) -> Key:
    return Key(CONTROL, f"session#{session_id}")


def booking_key(booking_id: str) -> Key:
    return Key(CONTROL, f"booking#{booking_id}")


def installation_key(target: str) -> Key:
    return Key(CONTROL, f"rollout#{target}")


@dataclass(frozen=True)
class Control:
    """Everything the control partition held at one moment; `versions` are for conditional writes."""

    wishes: Wishes = field(default_factory=Wishes)
    memories: Mapping[str, Memory] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    keys: TicketKeys = field(default_factory=TicketKeys)
    wakes: tuple[Wake, ...] = ()
    gaps: tuple[float, ...] = ()
    notices: tuple[str, ...] = ()
    health: Health = field(default_factory=Health)
    canary_wanted: tuple[float, str] | None = None
    generation: int = 0
    lock_until: float = 0.0
    versions: Mapping[Key, int] = field(default_factory=dict)

    def version(self, key: Key) -> int:
        """The version to expect of `key`: 0 when it was absent."""
        return self.versions.get(key, 0)

    def session(self, session_id: str) -> Session | None:
        return next((one for one in self.wishes.sessions if one.id == session_id), None)

    def observation(self, now: float) -> Observation:
        """What the last pass saw, with the reports that have come since."""
        views = [
            View(_remembered(memory, now), memory, self.reports.get(memory.instance_id))
            for memory in sorted(self.memories.values(), key=lambda one: one.instance_id)
        ]
        return Observation.of(views)

    def overview(self, rules: Rules, now: float) -> Overview:
        """The stack in one glance, without asking EC2."""
        return overview(self.observation(now), self.wishes, self.learned(rules), now)

    def learned(self, rules: Rules) -> Rules:
        """The rules with what history teaches: how early to wake for a booking, how long to linger."""
        return lingering(dataclasses.replace(rules, lead_s=lead(self.wakes)), self.gaps, self.wakes)


def _remembered(memory: Memory, now: float) -> Machine:
    state = effective_state(memory.state, memory.intent, now)
    return Machine(memory.instance_id, memory.role, state, memory.type, memory.zone, memory.private_ip)


def rules_of(settings: Settings) -> Rules:
    """The settings as the domain wants them."""
    return Rules(
        idle_s=settings.idle_minutes * 60,
        idle_least_s=settings.idle_least_minutes * 60 if settings.idle_learned else None,
        night=Night.parse(settings.night) if settings.night else None,
        night_grace_s=settings.night_grace_minutes * 60,
        hard_max_s=settings.hard_max_minutes * 60,
        types=tuple(settings.gpu_types.replace(",", " ").split()),
        mute_s=settings.boot_max_minutes * 60,
        stuck_s=settings.stop_max_minutes * 60,
        zone=zone_of(settings),
        tickets=settings.require_ticket,
        awake_alert_s=settings.awake_alert_minutes * 60,
    )


def zone_of(settings: Settings) -> tzinfo:
    """TIME_ZONE, else the night's, else UTC."""
    if settings.time_zone:
        return ZoneInfo(settings.time_zone)
    return Night.parse(settings.night).zone if settings.night else UTC


def load(store: Store) -> Control:
    """One consistent query."""
    return parse(store.partition(CONTROL))


def parse(records: Sequence[Record]) -> Control:
    """The records as domain objects; a record of an unknown kind is left alone."""
    named: dict[str, dict[str, Any]] = {kind: {} for kind in READERS}
    single: dict[str, Mapping[str, Any]] = {}
    for record in records:
        kind, _, name = record.key.sk.partition("#")
        if kind in READERS:
            named[kind][name] = READERS[kind](record.data)
        else:
            single[kind] = record.data
    power = single.get("power", {})
    return Control(
        wishes=Wishes(
            tuple(named["session"].values()),
            tuple(named["booking"].values()),
            power.get("closed_until"),
            tuple(_order(one) for one in power.get("orders", ())),
            tuple(named["rollout"].values()),
        ),
        memories=named["machine"],
        reports=named["report"],
        keys=TicketKeys(tuple(_known(TicketKey, one) for one in single.get("ticket-keys", {}).get("keys", ()))),
        wakes=tuple(_known(Wake, one) for one in single.get("history", {}).get("wakes", ())),
        gaps=tuple(float(one) for one in single.get("gaps", {}).get("seconds", ())),
        notices=tuple(single.get("notices", {}).get("keys", ())),
        health=health_from(single.get("probe", {})),
        canary_wanted=(float(wanted["at"]), str(wanted["why"])) if (wanted := single.get("probe-wanted")) else None,
        generation=int(single.get("wishes", {}).get("n", 0)),
        lock_until=float(single.get("lock", {}).get("until", 0.0)),
        versions={record.key: record.version for record in records},
    )


def health_from(data: Mapping[str, Any]) -> Health:
    """What is kept of the last probe."""
    health = _known(Health, data)
    cause = data.get("cause")
    return dataclasses.replace(
        health,
        cause=LayerName(cause) if cause else None,
        layers=tuple(
            dataclasses.replace(_known(Layer, one), name=LayerName(one["name"]), verdict=Verdict(one["verdict"]))
            for one in data.get("layers", ())
        ),
        repairs=tuple(
            dataclasses.replace(_known(Repair, one), kind=RepairKind(one["kind"])) for one in data.get("repairs", ())
        ),
    )


def data_of(value: Any) -> dict[str, Any]:
    """A domain object as JSON values."""
    return dataclasses.asdict(value)


def power_data(wishes: Wishes) -> dict[str, Any]:
    """The `power` record."""
    return {"closed_until": wishes.closed_until, "orders": [data_of(one) for one in wishes.orders]}


def _known(kind: type[T], data: Mapping[str, Any]) -> T:
    # A field written by a newer release is passed over, so that a rollback can read the table.
    names = {one.name for one in dataclasses.fields(kind)}  # type: ignore[arg-type]  # always a dataclass here
    return kind(**{name: value for name, value in data.items() if name in names})


def _maybe(kind: type[T], data: Mapping[str, Any] | None) -> T | None:
    return None if data is None else _known(kind, data)


def _order(data: Mapping[str, Any]) -> Order:
    return dataclasses.replace(_known(Order, data), kind=OrderKind(data["kind"]))


def memory_from(data: Mapping[str, Any]) -> Memory:
    """The engine's memory of a machine."""
    drain = _maybe(Drain, data.get("drain"))
    return dataclasses.replace(
        _known(Memory, data),
        role=Role(data["role"]),
        state=MachineState(data["state"]),
        intent=_maybe(Intent, data.get("intent")),
        drain=None if drain is None else dataclasses.replace(drain, kind=DrainKind(drain.kind)),
        refusal=_maybe(Refusal, data.get("refusal")),
        short=tuple(_known(Shortage, one) for one in data.get("short", ())),
    )


def rollout_from(data: Mapping[str, Any]) -> Rollout:
    """A stored rollout."""
    steps = (_known(Step, one) for one in data.get("steps", ()))
    return dataclasses.replace(
        _known(Rollout, data),
        target=Role(data["target"]),
        state=State(data["state"]),
        hosts=tuple(data.get("hosts", ())),
        steps=tuple(dataclasses.replace(one, state=StepState(one.state)) for one in steps),
    )


def spans_from(records: Sequence[Record]) -> list[Span]:
    """The ledger's times awake."""
    return [_known(Span, one.data) for one in records]


def report_from(data: Mapping[str, Any]) -> Report:
    """A stored report."""
    return dataclasses.replace(
        _known(Report, data),
        models=tuple(data.get("models", ())),
        streams=tuple(_known(Stream, one) for one in data.get("streams", ())),
        upstreams=tuple(data.get("upstreams", ())),
        down=tuple(data.get("down", ())),
    )


READERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "session": lambda data: _known(Session, data),
    "booking": lambda data: _known(Booking, data),
    "rollout": lambda data: _known(Installation, data),
    "machine": memory_from,
    "report": report_from,
}
"""Records of which there may be many, by the kind before the `#` of their sort key."""
