"""What a history runs on: a store that dies when told, an EC2 that another pass may interrupt, a host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chalicelib.domain.machines import Machine, MachineState
from chalicelib.errors import MachineRefused, RefusalKind
from chalicelib.ports import Key, Record, Write
from chalicelib.services import control
from gpu_bootstrap.hostlink.deadman import Vitals
from tests.fakes import FakeMachines, MemoryStore

if TYPE_CHECKING:
    from tests.chaos.world import World

QUOTA = MachineRefused(RefusalKind.QUOTA, "VcpuLimitExceeded", "limit")
THROTTLED = MachineRefused(RefusalKind.THROTTLED, "RequestLimitExceeded", "slow down")


class Violation(AssertionError):
    """An invariant is broken; the message begins with its name."""


class Killed(BaseException):
    """The container that ran this pass is gone."""


@dataclass
class Host:
    """What runs on a GPU machine that is up."""

    boot_id: str
    ready_at: float
    streams: set[str] = field(default_factory=set)
    silent: bool = False
    closing_at: float | None = None
    reported_at: float = float("-inf")
    told: tuple[str, frozenset[str]] = ("", frozenset())
    vitals: Vitals = field(default_factory=lambda: Vitals("", 0.0))

    def status(self, now: float) -> str:
        if self.closing_at is not None:
            return "draining"
        return "ready" if now >= self.ready_at else "loading"


class Store(MemoryStore):
    """Dies before a write when told. Nobody changes what he reads, so nothing is copied: histories are long."""

    def __init__(self) -> None:
        super().__init__()
        self.kill_in: int | None = None
        self.count = 0

    def __deepcopy__(self, memo: object) -> Store:
        twin = Store()
        twin._turns = dict(self._turns)
        twin._records, twin.count, twin.kill_in = dict(self._records), self.count, self.kill_in
        return twin

    @staticmethod
    def _kept(data: Mapping[str, Any]) -> Mapping[str, Any]:
        return data

    def partition(self, pk: str, after: str = "", limit: int | None = None) -> list[Record]:
        found = [one for one in self._records.values() if one.key.pk == pk and one.key.sk > after]
        return sorted(found, key=lambda one: one.key.sk)[:limit]

    def get(self, key: Key) -> Record | None:
        return self._records.get(key)

    def add(self, key: Key, amount: int = 1) -> int:
        self.count += 1
        return super().add(key, amount)

    def write(self, *writes: Write) -> None:
        if self.kill_in is not None:
            self.kill_in -= 1
            if self.kill_in < 0:
                raise Killed  # and so does every write after it, a finally's too, until `bury`
        self.count += 1
        super().write(*writes)


class Remembered:
    """A reader of records that reads each record's data once: between two passes most have not changed."""

    def __init__(self, reader: Callable[[Mapping[str, Any]], Any]) -> None:
        self._reader = reader
        self._read: dict[int, tuple[Mapping[str, Any], Any]] = {}

    def __call__(self, data: Mapping[str, Any]) -> Any:
        known = self._read.get(id(data))
        if known is None:
            if len(self._read) > 4096:
                self._read.clear()
            # Kept beside its value, so that the id stays its own.
            known = self._read[id(data)] = (data, self._reader(data))
        return known[1]


control.READERS = {kind: Remembered(reader) for kind, reader in control.READERS.items()}


class Ec2(FakeMachines):
    """Takes notice of every call, and lets another pass run in the middle of one."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.meanwhile: Callable[[], None] | None = None
        self.countdown = 0

    def describe(self) -> list[Machine]:
        found = super().describe()
        if self.meanwhile is not None:
            self.countdown -= 1
            if self.countdown < 0:
                run, self.meanwhile = self.meanwhile, None
                run()
        return found

    def start(self, instance_id: str) -> None:
        self.world.may_touch(instance_id)
        if self.machines[instance_id].state.awake:
            raise Violation(f"I5 {instance_id} was started while it was {self.machines[instance_id].state}")
        super().start(instance_id)
        self.world.switched(instance_id)

    def change_type(self, instance_id: str, machine_type: str) -> None:
        self.world.may_touch(instance_id)
        super().change_type(instance_id, machine_type)

    def stop(self, instance_id: str, force: bool = False) -> None:
        self.world.may_touch(instance_id)
        if self.machines[instance_id].state is MachineState.STOPPING and not force:
            raise Violation(f"I5 {instance_id} was stopped twice")
        self.world.may_stop(instance_id)
        super().stop(instance_id, force)
        if force:
            self.world.stuck.discard(instance_id)
        self.world.switched(instance_id)
