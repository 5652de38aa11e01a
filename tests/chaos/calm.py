"""A stack that is well, on a virtual clock: the real engine and the real probes, with the jitter of real things.

Drawn, each time anew: how long machines boot, load and stop; when a host's last report before a look came, and that
now and then one is late or lost; how long the edge takes to answer, and the canary its words, one of them misheard;
that SSM or EC2 asks for a pause once in a while; when in its minute a tick and a look come. People want the GPU in
bursts by day, speak or are silent, and book. None of it is a failure, so nothing may call it one at two looks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from chalicelib.domain.machines import Machine, MachineState, Report, Role, Stream
from chalicelib.domain.probes import EdgeAnswer, Heard
from chalicelib.errors import CommandRefused, MachineRefused, RefusalKind
from chalicelib.ports import Put
from chalicelib.services import bookings, power, probes
from chalicelib.services.context import Context
from chalicelib.services.control import PROBE, data_of, health_from, load, report_key, rules_of
from chalicelib.services.events import EVENTS, Cause
from chalicelib.services.host_link import upstreams
from chalicelib.services.tokens import Principal
from chalicelib.services.tokens import Role as TokenRole
from chalicelib.settings import Settings
from tests.chaos.fakes import Store
from tests.fakes import SAID, FakeClock, FakeCommands, FakeDialler, FakeMachines

GPU, EDGE = "i-gpu", "i-edge"
EVE = Principal("p-eve", TokenRole.OPERATOR, "eve")
SOMEBODY = Cause("eve", "test")
THROTTLED_ONCE_IN = 2000
"""Calls of one kind; botocore has tried three times by then."""
FAR = float("inf")
ALARMS = ("repair.", "probe.", "gpu.failing", "gpu.lost", "gpu.broken", "gpu.stopped_by_itself")


@dataclass
class Commands(FakeCommands):
    """SSM that seldom asks for a pause."""

    chance: random.Random = field(default_factory=random.Random)

    def connected(self, instance_ids: Sequence[str]) -> frozenset[str]:
        if self.chance.randrange(THROTTLED_ONCE_IN) == 0:
            raise CommandRefused("ThrottlingException", "Rate exceeded")
        return super().connected(instance_ids)


@dataclass
class Machines(FakeMachines):
    """EC2 that seldom asks for a pause."""

    chance: random.Random = field(default_factory=random.Random)

    def describe(self) -> list[Machine]:
        if self.chance.randrange(THROTTLED_ONCE_IN) == 0:
            raise MachineRefused(RefusalKind.THROTTLED, "RequestLimitExceeded", "slow down")
        return super().describe()


class Calm:
    """One GPU and one edge; `run` plays so many hours of it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  # a test's dice
        self.clock = FakeClock(1_800_000_000.0 + self.chance.uniform(0, 7 * 86400))
        self.store = Store()
        self.ec2 = Machines(chance=self.chance)
        self.commands = Commands(chance=self.chance)
        self.dialler = FakeDialler()
        self.settings = Settings("s", "t", "https://edge")
        self.rules = rules_of(self.settings)
        self.ec2.machines[GPU] = Machine(GPU, Role.GPU, MachineState.STOPPED, "g4dn.xlarge", "z-a", "10.0.0.1")
        self.ec2.machines[EDGE] = Machine(EDGE, Role.EDGE, MachineState.RUNNING, "t3.medium", "z-a", "10.0.1.1")
        self.moved_at = self.ready_at = FAR
        self.come_at = self.clock() + 120
        self.told: tuple[str, ...] = ()
        """What the edge forwards to."""
        self.boots = self.looks = 0
        self.awake_looks = 0
        self.blips: Counter[str] = Counter()
        """Looks at which a layer failed once, by layer."""
        self.doubles = 0
        """Failures that were there at two looks."""
        self._context = Context(
            self.settings,
            self.rules,
            self.store,
            self.ec2,
            self.commands,
            self.clock,
            self.clock.advance,
            dialler=self.dialler,
        )
        self._tick()

    def run(self, hours: float) -> None:
        end = self.clock() + hours * 3600
        while self.clock() < end:
            minute = self.clock() + 60
            if self.clock() >= self.come_at:
                self._come()
            self.clock.advance(self.chance.uniform(1, 25))
            self._move()
            self._reports()
            self._tick()
            self.clock.advance(self.chance.uniform(0.1, 25))
            self._move()
            self._reports()
            self._look()
            self.clock.now = max(self.clock.now, minute)

    def alarms(self) -> list[str]:
        """What a person was told or a machine made to do, and should not have been."""
        said = [f"{one.data['action']}: {one.data['reason']}" for one in self.store.partition(EVENTS)]
        return [one for one in said if one.startswith(ALARMS)]

    def _tick(self) -> None:
        self._context.reconcile(Cause("reconcile", "tick"))
        state, draw = self.ec2.machines[GPU].state, self.chance
        if self.moved_at == FAR and state is MachineState.PENDING:
            self.moved_at = self.clock() + draw.uniform(12, 60)
        elif self.moved_at == FAR and state is MachineState.STOPPING:
            self.moved_at = self.clock() + draw.uniform(20, 100)

    def _move(self) -> None:
        if self.clock() < self.moved_at:
            return
        self.moved_at = FAR
        if self.ec2.machines[GPU].state is MachineState.PENDING:
            self.ec2.become(GPU, MachineState.RUNNING)
            self.boots += 1
            self.ready_at = self.clock() + self.chance.uniform(15, 150)
        else:
            self.ec2.become(GPU, MachineState.STOPPED)
        self._tick()

    def _reports(self) -> None:
        """Each host's last report before now, as the host link keeps it."""
        now, draw = self.clock(), self.chance
        observation = load(self.store).observation(now)
        awake = self.ec2.machines[GPU].state is MachineState.RUNNING
        pace = 5.0 if awake else 60.0
        # Now and then one is lost on the way, or slow.
        lost = pace if draw.random() < 0.005 else 0.0
        edge_at = now - draw.uniform(0, pace) - min(lost, 5.0) - draw.expovariate(2)
        self.told = tuple(str(one["host"]) for one in upstreams(observation, now))
        self._write(EDGE, Report(edge_at, "e", "ready", upstreams=self.told, cert_days=60.0))
        if not awake or now < self.ready_at - 10:
            return
        at = now - draw.uniform(0, 5) - lost - draw.expovariate(2)
        ready = at >= self.ready_at
        streams = tuple(Stream(f"s{one}", 60.0, 0.1) for one in range(draw.choice((0, 0, 1, 2)) if ready else 0))
        decoded = at - draw.expovariate(1 / 20) if streams else None
        self._write(
            GPU,
            Report(
                at,
                f"b{self.boots}",
                "ready" if ready else "loading",
                model="small.en",
                device="cuda",
                streams=streams,
                max_streams=4,
                decoded_at=decoded,
                streamed_at=at if streams else None,
                was_ready=ready,
            ),
        )

    def _write(self, name: str, report: Report) -> None:
        before = self.store.get(report_key(name))
        if before is None or before.data["received_at"] < report.received_at:
            self.store.write(Put(report_key(name), data_of(report)))

    def _look(self) -> None:
        draw = self.chance
        self.dialler.edge = EdgeAnswer("", min(4.0, draw.lognormvariate(-2.5, 0.8)), 60.0)
        upgrade, final = draw.lognormvariate(-2, 0.7), draw.lognormvariate(-0.3, 0.45)
        words = SAID if draw.random() < 0.8 else SAID.replace("closed", "close")
        self.dialler.heard = Heard(words, "", upgrade, upgrade + 0.1, upgrade + 0.8, final, 1000)
        probes.look(self._context, Cause("probe", "schedule"), self.clock)
        self.looks += 1
        self.awake_looks += self.ec2.machines[GPU].state is MachineState.RUNNING
        kept = self.store.get(PROBE)
        health = health_from(kept.data) if kept is not None else None
        if health is not None and health.cause is not None and health.at >= self.clock() - 20:
            self.blips[health.cause.value] += 1
            self.doubles += health.since != health.at

    def _come(self) -> None:
        """Somebody wants the GPU for a while, or books it; bursts by day."""
        draw, now = self.chance, self.clock()
        if draw.random() < 0.15:
            start = now + draw.uniform(900, 5400)
            wanted = bookings.WantedBooking(start + draw.uniform(600, 3600), start)
            bookings.book(self._context, EVE, wanted, SOMEBODY)
        else:
            power.start(self._context, EVE, 1 + draw.expovariate(1 / 25), "", SOMEBODY)
        self.come_at = now + (draw.expovariate(1 / 2400) if draw.random() < 0.85 else draw.uniform(4, 12) * 3600)
        self._tick()
