"""What the services need of the world, as small protocols. Adapters in `aws/`, fakes in `tests/fakes.py`;
one contract test runs against both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from chalicelib.domain.machines import Machine
from chalicelib.domain.notification import Notification
from chalicelib.domain.probes import EdgeAnswer, Heard
from chalicelib.domain.remote import CommandResult, RemoteCommand

Clock = Callable[[], float]
"""Epoch seconds."""


@dataclass(frozen=True)
class Key:
    """Where a record lies: partition and sort key."""

    pk: str
    sk: str


@dataclass(frozen=True)
class Record:
    """One record as read. `version` grows by one with each write, beginning at 1."""

    key: Key
    version: int
    data: Mapping[str, Any]
    expires_at: float | None = None


@dataclass(frozen=True)
class Put:
    """Write `data` (JSON values). `expect`: None any, 0 must be absent, n must have version n."""

    key: Key
    data: Mapping[str, Any]
    expect: int | None = None
    expires_at: float | None = None


@dataclass(frozen=True)
class Delete:
    """Remove a record; one that is not there counts as removed, unless a version is expected."""

    key: Key
    expect: int | None = None


@dataclass(frozen=True)
class Check:
    """Write nothing, but let the transaction fail unless the record has this version."""

    key: Key
    version: int


Write = Put | Delete | Check


@dataclass(frozen=True)
class Turn:
    """What came of asking for a turn. When `taken` is False, `at` and `upto` are those of the turn before."""

    taken: bool
    at: float
    """When it was taken, epoch seconds."""
    upto: int
    """What the counter stood at by then: whoever reads from then on sees all that was counted."""


class Store(Protocol):
    """Versioned records in partitions. Expired records may still be returned: callers compare times."""

    def partition(self, pk: str, after: str = "", limit: int | None = None) -> list[Record]:
        """A consistent read of a partition in the order of sort keys, only those greater than `after`."""
        ...

    def get(self, key: Key) -> Record | None:
        """A consistent read of one record."""
        ...

    def write(self, *writes: Write) -> None:
        """All or nothing, at most 100; StoreConflict when an expectation does not hold."""
        ...

    def add(self, key: Key, amount: int = 1) -> int:
        """Count up atomically without conflicts; return the new count. The record's data is {"n": count}."""
        ...

    def turn(self, key: Key, now: float, every_s: float) -> Turn:
        """Take a turn at a counter, unless one was taken within `every_s` before `now` (epoch seconds); atomic."""
        ...


class Machines(Protocol):
    """The stack's machines, found by tag. Nothing untagged is ever seen or touched."""

    def describe(self) -> list[Machine]:
        """All of them in one call; MachineRefused when EC2 does not answer."""
        ...

    def start(self, instance_id: str) -> None:
        """Start once, without a retry inside; MachineRefused says which kind of no."""
        ...

    def change_type(self, instance_id: str, machine_type: str) -> None:
        """Give a stopped machine another type; MachineRefused (kind STATE) when it is not stopped."""
        ...

    def stop(self, instance_id: str, force: bool = False) -> None:
        """Stop; MachineRefused says which kind of no."""
        ...


class Commands(Protocol):
    """Remote execution on a host."""

    def send(self, instance_id: str, command: RemoteCommand) -> str:
        """Hand a command over; return its id without waiting. CommandRefused when SSM does not take it."""
        ...

    def connected(self, instance_ids: Sequence[str]) -> frozenset[str]:
        """Of these hosts, those whose agent SSM hears from now; one call. CommandRefused when SSM does not answer."""
        ...

    def result(self, instance_id: str, command_id: str) -> CommandResult | None:
        """How a command stands; None when SSM does not know it (yet). CommandRefused when SSM does not answer."""
        ...


class Artifacts(Protocol):
    """The stack's bucket: releases, plans of rollouts, full outputs of commands."""

    def read(self, key: str) -> bytes | None:
        """An object's bytes, None when there is none; Unavailable when the bucket does not answer."""
        ...

    def write(self, key: str, body: bytes) -> None:
        """Put an object there; Unavailable when the bucket does not answer."""
        ...

    def address(self, key: str, seconds: int) -> str:
        """An URL by which anybody may GET the object for so long; makes no call, and asks not whether it is there."""
        ...


class Notifier(Protocol):
    """A channel by which people are told."""

    def tell(self, message: Notification) -> None:
        """Hand it over, within seconds; NotifyFailed when the channel does not take it."""
        ...


class Unit(StrEnum):
    """CloudWatch's names of units."""

    COUNT = "Count"
    SECONDS = "Seconds"


@dataclass(frozen=True)
class Measure:
    """One value of a metric; `dimension` (name, value) makes it one of several under the same name."""

    name: str
    value: float
    unit: Unit = Unit.COUNT
    dimension: tuple[str, str] | None = None


class Metrics(Protocol):
    """Where measures go."""

    def emit(self, *measures: Measure) -> None:
        """Take them; no call is waited for, and nothing is raised."""
        ...


class NoMetrics:
    """For whoever measures nothing."""

    def emit(self, *measures: Measure) -> None:
        """Forget them."""


class Dialler(Protocol):
    """The edge as a stranger reaches it, its certificate checked. Never raises for what the edge may do."""

    def ask_edge(self, edge_url: str, ca_pem: str | None) -> EdgeAnswer:
        """GET /healthz; `ca_pem`: the edge's own authority, beside the system's."""
        ...

    def speak(self, ws_url: str, ticket: str, ca_pem: str | None, timeout_s: float) -> Heard:
        """Three seconds of speech, and what comes back within `timeout_s`."""
        ...

    @property
    def said(self) -> str:
        """The words of that speech."""
        ...
