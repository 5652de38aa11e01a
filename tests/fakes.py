"""In-memory ports, for tests of services; the contract tests run the same cases against these and AWS's."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chalicelib.domain.machines import Machine, MachineState
from chalicelib.domain.notification import Notification
from chalicelib.domain.probes import EdgeAnswer, Heard
from chalicelib.domain.remote import CommandResult, CommandState, RemoteCommand
from chalicelib.errors import CommandRefused, MachineRefused, NotifyFailed, RefusalKind, StoreConflict
from chalicelib.ports import Check, Delete, Key, Measure, Put, Record, Turn, Write


class FakeClock:
    """Epoch seconds that move only when told."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class MemoryStore:
    """`chalicelib.ports.Store` in a dictionary."""

    def __init__(self) -> None:
        self._records: dict[Key, Record] = {}
        self._turns: dict[Key, Turn] = {}
        self._lock = threading.Lock()

    def partition(self, pk: str, after: str = "", limit: int | None = None) -> list[Record]:
        with self._lock:
            found = sorted(
                (one for one in self._records.values() if one.key.pk == pk and one.key.sk > after),
                key=lambda one: one.key.sk,
            )
            return copy.deepcopy(found if limit is None else found[:limit])

    def get(self, key: Key) -> Record | None:
        with self._lock:
            return copy.deepcopy(self._records.get(key))

    def write(self, *writes: Write) -> None:
        with self._lock:
            for one in writes:
                self._expect(one.key, one.version if isinstance(one, Check) else one.expect)
            for one in writes:
                match one:
                    case Put():
                        before = self._records.get(one.key)
                        version = (before.version if before else 0) + 1
                        self._records[one.key] = Record(one.key, version, self._kept(one.data), one.expires_at)
                    case Delete():
                        self._records.pop(one.key, None)
                    case Check():
                        pass

    def add(self, key: Key, amount: int = 1) -> int:
        with self._lock:
            before = self._records.get(key)
            count = int(before.data["n"] if before else 0) + amount
            self._records[key] = Record(key, (before.version if before else 0) + 1, {"n": count})
            return count

    def turn(self, key: Key, now: float, every_s: float) -> Turn:
        with self._lock:
            last = self._turns.get(key)
            if last is not None and abs(now - last.at) < every_s:
                return replace(last, taken=False)
            held = self._records.get(key)
            self._records.setdefault(key, Record(key, 1, {"n": 0}))
            self._turns[key] = Turn(True, now, int(held.data["n"]) if held else 0)
            return self._turns[key]

    @staticmethod
    def _kept(data: Mapping[str, Any]) -> Mapping[str, Any]:
        return copy.deepcopy(data)

    def _expect(self, key: Key, version: int | None) -> None:
        held = self._records.get(key)
        if version is not None and (held.version if held else 0) != version:
            raise StoreConflict(f"{key}: expected {version}, found {held.version if held else 0}")


@dataclass
class FakeMachines:
    """`chalicelib.ports.Machines` with EC2's rules of which state allows what; states move when told."""

    machines: dict[str, Machine] = field(default_factory=dict)
    starts: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)
    forced: list[str] = field(default_factory=list)
    changes: list[tuple[str, str]] = field(default_factory=list)
    refuse_start: MachineRefused | None = None
    no_room: set[tuple[str, str]] = field(default_factory=set)
    """(type, zone) pairs of which AWS has none free."""
    refuse_describe: MachineRefused | None = None
    late: Mapping[str, MachineState] = field(default_factory=dict)
    """What describe says against the truth, as an eventually consistent read does."""

    def describe(self) -> list[Machine]:
        if self.refuse_describe is not None:
            raise self.refuse_describe
        return [
            replace(one, state=self.late.get(one.instance_id, one.state))
            for _, one in sorted(self.machines.items())
            if one.state is not MachineState.TERMINATED
        ]

    def start(self, instance_id: str) -> None:
        self.starts.append(instance_id)
        if self.refuse_start is not None:
            raise self.refuse_start
        machine = self._get(instance_id)
        if machine.state.awake:
            return
        if (machine.type, machine.zone) in self.no_room:
            words = f"We currently do not have sufficient {machine.type} capacity ({machine.zone})."
            raise MachineRefused(RefusalKind.CAPACITY, "InsufficientInstanceCapacity", words)
        if machine.state is not MachineState.STOPPED:
            raise MachineRefused(RefusalKind.STATE, "IncorrectInstanceState", f"it is {machine.state}")
        self.become(instance_id, MachineState.PENDING)

    def change_type(self, instance_id: str, machine_type: str) -> None:
        self.changes.append((instance_id, machine_type))
        if self._get(instance_id).state is not MachineState.STOPPED:
            raise MachineRefused(RefusalKind.STATE, "IncorrectInstanceState", "it is not stopped")
        self.machines[instance_id] = replace(self.machines[instance_id], type=machine_type)

    def stop(self, instance_id: str, force: bool = False) -> None:
        self.stops.append(instance_id)
        if force:
            self.forced.append(instance_id)
        machine = self._get(instance_id)
        if machine.state is MachineState.PENDING:
            raise MachineRefused(RefusalKind.STATE, "IncorrectInstanceState", "it is pending")
        if machine.state is MachineState.RUNNING:
            self.become(instance_id, MachineState.STOPPING)

    def become(self, instance_id: str, state: MachineState) -> None:
        """Move a machine on, as time does."""
        self.machines[instance_id] = replace(self.machines[instance_id], state=state)

    def _get(self, instance_id: str) -> Machine:
        if instance_id not in self.machines:
            raise MachineRefused(RefusalKind.OTHER, "InvalidInstanceID.NotFound", instance_id)
        return self.machines[instance_id]


@dataclass
class FakeCommands:
    """`chalicelib.ports.Commands` that remembers what was sent."""

    sent: list[tuple[str, RemoteCommand]] = field(default_factory=list)
    known: set[str] | None = None
    """Documents that exist; None: all."""
    offline: set[str] = field(default_factory=set)
    """Hosts whose agent is not there."""
    results: dict[str, CommandResult] = field(default_factory=dict)
    """How commands stand, by id; one that is not named here has succeeded."""
    mute: CommandRefused | None = None
    """SSM does not say who is connected."""

    def send(self, instance_id: str, command: RemoteCommand) -> str:
        if self.known is not None and command.document not in self.known:
            raise CommandRefused("InvalidDocument", f"no document {command.document}")
        if instance_id in self.offline:
            raise CommandRefused("InvalidInstanceId", f"{instance_id} is not connected")
        self.sent.append((instance_id, command))
        return f"command-{len(self.sent)}"

    def connected(self, instance_ids: Sequence[str]) -> frozenset[str]:
        if self.mute is not None:
            raise self.mute
        return frozenset(instance_ids) - self.offline

    def result(self, instance_id: str, command_id: str) -> CommandResult | None:
        number = int(command_id.removeprefix("command-"))
        if not 0 < number <= len(self.sent) or self.sent[number - 1][0] != instance_id:
            return None
        return self.results.get(command_id, CommandResult(CommandState.SUCCEEDED, 0, ""))


@dataclass
class FakeArtifacts:
    """`chalicelib.ports.Artifacts` in a dictionary."""

    objects: dict[str, bytes] = field(default_factory=dict)

    def read(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def write(self, key: str, body: bytes) -> None:
        self.objects[key] = body

    def address(self, key: str, seconds: int) -> str:
        return f"https://bucket.example/{key}?for={seconds}"


@dataclass
class FakeNotifier:
    """`chalicelib.ports.Notifier` that remembers what it was told."""

    told: list[Notification] = field(default_factory=list)
    tries: int = 0
    broken: bool = False
    meanwhile: Callable[[], object] = lambda: None
    """What happens while it is telling."""

    def tell(self, message: Notification) -> None:
        self.tries += 1
        self.meanwhile()
        if self.broken:
            raise NotifyFailed("it is broken")
        self.told.append(message)


@dataclass
class FakeMetrics:
    """`chalicelib.ports.Metrics` that keeps what was measured."""

    emitted: list[Measure] = field(default_factory=list)

    def emit(self, *measures: Measure) -> None:
        self.emitted += measures

    def of(self, name: str) -> list[float]:
        return [one.value for one in self.emitted if one.name == name]


SAID = "The bridge over the river was closed for the winter."


@dataclass
class FakeDialler:
    """`chalicelib.ports.Dialler` with an edge and a voice that are as the test says."""

    edge: EdgeAnswer = field(default_factory=lambda: EdgeAnswer("", 0.05, 60.0))
    heard: Heard = field(default_factory=lambda: Heard(SAID, "", 0.1, 0.2, 0.9, 0.6, 1000))
    asked: list[str] = field(default_factory=list)
    spoken: list[tuple[str, str]] = field(default_factory=list)
    """(address, ticket) of each canary."""
    said: str = SAID

    def ask_edge(self, edge_url: str, ca_pem: str | None) -> EdgeAnswer:  # noqa: ARG002  # the port's names
        self.asked.append(edge_url)
        return self.edge

    def speak(self, ws_url: str, ticket: str, ca_pem: str | None, timeout_s: float) -> Heard:  # noqa: ARG002  # as above
        self.spoken.append((ws_url, ticket))
        return self.heard
