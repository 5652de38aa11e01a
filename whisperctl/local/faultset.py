"""What can go wrong, as data: the sets that `POST /_standin/faults` takes, parsed or refused with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

COMMAND_STATUSES = ("Failed", "TimedOut", "Lost")
STACK_ACTIONS = ("create", "update", "delete", "hold")
POWER_ENDS = ("lost", "failed", "off")
ALL = "*"


class BadFaults(ValueError):
    """What was posted is not a set of faults; the message says which part, in one sentence."""


@dataclass(frozen=True, slots=True)
class NoCapacity:
    type: str = ALL
    zone: str = ALL


@dataclass(slots=True)
class Throttling:
    service: str
    operation: str = ALL
    times: int | None = None
    """How many calls are refused still; None: all."""


@dataclass(slots=True)
class Impaired:
    instance: str = ALL
    times: int | None = None
    """How many starts are struck still; None: all."""


@dataclass(frozen=True, slots=True)
class Stuck:
    instance: str = ALL


@dataclass(frozen=True, slots=True)
class Stale:
    seconds: float = 0.0


@dataclass(slots=True)
class KilledLambda:
    after: str
    times: int = 1
    """How many invocations still end after this operation."""


@dataclass(frozen=True, slots=True)
class PowerEnd:
    instance: str
    how: str = "lost"


@dataclass(frozen=True, slots=True)
class AgentFault:
    delay_s: float = 0.0
    offline: bool = False


@dataclass(frozen=True, slots=True)
class EventFault:
    lost: bool = False
    doubled: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TickFault:
    lost: bool = False


@dataclass(frozen=True, slots=True)
class CommandFault:
    document: str = ALL
    status: str = "Failed"
    exit_code: int = 1
    output: str = ""
    comment: str = ALL
    """A glob on the command's comment, which begins with the step of a release."""


@dataclass(slots=True)
class StackFault:
    resource: str
    on: str = "create"
    reason: str = "refused by a fault"
    times: int | None = None
    """How many refusals are still to come; None: all."""


@dataclass(frozen=True, slots=True)
class FaultSet:
    """One posted set; `whisperctl.local.faults` says what each does."""

    capacity: tuple[NoCapacity, ...] = ()
    quota: bool = False
    throttling: tuple[Throttling, ...] = ()
    impaired: tuple[Impaired, ...] = ()
    stuck: tuple[Stuck, ...] = ()
    stale: Stale = field(default_factory=Stale)
    power: tuple[PowerEnd, ...] = ()
    lambdas: tuple[KilledLambda, ...] = ()
    agent: AgentFault = field(default_factory=AgentFault)
    events: EventFault = field(default_factory=EventFault)
    ticks: TickFault = field(default_factory=TickFault)
    commands: tuple[CommandFault, ...] = ()
    stacks: tuple[StackFault, ...] = ()


PARSERS: dict[str, Callable[[Any], Any]] = {
    "capacity": lambda v: _many("capacity", v, NoCapacity, {"type": str, "zone": str}),
    "quota": lambda v: _typed("quota", v, bool),
    "throttling": lambda v: _many("throttling", v, Throttling, {"service": str, "operation": str, "times": int}),
    "impaired": lambda v: _many("impaired", v, Impaired, {"instance": str, "times": int}),
    "stuck": lambda v: _many("stuck", v, Stuck, {"instance": str}),
    "stale": lambda v: _one("stale", v, Stale, {"seconds": float}),
    "power": lambda v: _many("power", v, PowerEnd, {"instance": str, "how": str}),
    "lambdas": lambda v: _many("lambdas", v, KilledLambda, {"after": str, "times": int}),
    "agent": lambda v: _one("agent", v, AgentFault, {"delay_s": float, "offline": bool}),
    "events": lambda v: _one("events", v, EventFault, {"lost": bool, "doubled": bool, "delay_s": float}),
    "ticks": lambda v: _one("ticks", v, TickFault, {"lost": bool}),
    "commands": lambda v: _many(
        "commands",
        v,
        CommandFault,
        {"document": str, "status": str, "exit_code": int, "output": str, "comment": str},
    ),
    "stacks": lambda v: _many(
        "stacks", v, StackFault, {"resource": str, "on": str, "reason": str, "times": int}
    ),
}


def parse(posted: Any) -> FaultSet:
    """A fault set from parsed JSON; raises BadFaults with a sentence."""
    if not isinstance(posted, dict):
        raise BadFaults("Faults are a JSON object; {} clears them.")
    unknown = sorted(posted.keys() - PARSERS.keys())
    if unknown:
        raise BadFaults(f"No such fault: {', '.join(unknown)}; known are {', '.join(sorted(PARSERS))}.")
    parsed = FaultSet(**{name: PARSERS[name](value) for name, value in posted.items()})
    for fault in parsed.commands:
        if fault.status not in COMMAND_STATUSES:
            raise BadFaults(f"commands.status is one of {', '.join(COMMAND_STATUSES)}, not {fault.status!r}.")
    for one in parsed.stacks:
        if one.on not in STACK_ACTIONS:
            raise BadFaults(f"stacks.on is one of {', '.join(STACK_ACTIONS)}, not {one.on!r}.")
    for end in parsed.power:
        if end.how not in POWER_ENDS:
            raise BadFaults(f"power.how is one of {', '.join(POWER_ENDS)}, not {end.how!r}.")
    if min(parsed.agent.delay_s, parsed.events.delay_s, parsed.stale.seconds) < 0:
        raise BadFaults("A delay_s or seconds cannot be negative.")
    counts = [one.times for faults in (parsed.throttling, parsed.impaired, parsed.lambdas) for one in faults]
    counts += [one.times for one in parsed.stacks]
    if any(times is not None and times < 0 for times in counts):
        raise BadFaults("times cannot be negative.")
    return parsed


def _many(name: str, value: Any, kind: Callable[..., Any], fields: dict[str, type]) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise BadFaults(f"{name} is a list of objects.")
    return tuple(_one(name, item, kind, fields) for item in value)


def _one(name: str, value: Any, kind: Callable[..., Any], fields: dict[str, type]) -> Any:
    if not isinstance(value, dict):
        raise BadFaults(f"{name} holds objects, not {value!r}.")
    unknown = sorted(value.keys() - fields.keys())
    if unknown:
        raise BadFaults(f"{name} has no {', '.join(unknown)}; known are {', '.join(fields)}.")
    given = {field: _typed(f"{name}.{field}", item, fields[field]) for field, item in value.items()}
    try:
        return kind(**given)
    except TypeError:
        raise BadFaults(f"{name} needs {next(iter(fields))}.") from None


def _typed(name: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        words = {bool: "true or false", str: "a string", int: "a whole number", float: "a number of seconds"}
        raise BadFaults(f"{name} is {words[kind]}, not {value!r}.")
    return value
