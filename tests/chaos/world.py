"""A whole stack on a virtual clock: the real services and decisions, over fakes that fail in every way we know.

`World` holds what is, what people do and what goes wrong. `advance` moves machines, hosts, the edge and clients on
(`plant.py`) in steps of five seconds and looks at the invariants after each (`invariants.py`); a broken one raises
`Violation` with its name. While every machine is stopped and nobody waits, only ticks and the edge's reports happen,
and a step reaches to the next of those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from chalicelib.domain.machines import Machine, MachineState, Role
from chalicelib.errors import MachineRefused, Refused
from chalicelib.services import bookings, power, sessions
from chalicelib.services.context import Context
from chalicelib.services.control import Control, load, rules_of
from chalicelib.services.events import Cause
from chalicelib.services.tokens import Principal
from chalicelib.services.tokens import Role as TokenRole
from chalicelib.settings import Settings
from tests.chaos import invariants, plant
from tests.chaos.fakes import Ec2, Host, Killed, Store
from tests.chaos.plant import ANNA, EDGE
from tests.chaos.times import BOOT_S, EXCUSE_S, HARD_MAX_S, STEP_S, STOP_S, TICK_S
from tests.fakes import FakeClock, FakeCommands

EVE = Principal("p-eve", TokenRole.OPERATOR, "eve")
CAUSE = Cause("somebody", "test")


class World:
    """`gpus` machines in zones a, b, …; one edge; a machine of somebody else's."""

    def __init__(self, gpus: int = 2, hour: float = 12.0, night: bool = True) -> None:
        self._control: tuple[int, Control, float] | None = None
        self.clock = FakeClock(datetime(2026, 11, 22, tzinfo=UTC).timestamp() + hour * 3600)
        self.store = Store()
        self.ec2 = Ec2(self)
        self.commands = FakeCommands()
        self.settings = Settings(
            "s",
            "t",
            "https://edge",
            night="22:00-06:00 UTC" if night else "",
            hard_max_minutes=HARD_MAX_S / 60,
            idle_learned=True,
            gpu_types="g4dn.xlarge g5.xlarge",
        )
        self.rules = rules_of(self.settings)
        self.gpus = [f"i-{number}" for number in range(gpus)]
        for number, name in enumerate(self.gpus):
            place = ("g4dn.xlarge", f"z-{'ab'[number % 2]}", f"10.0.0.{number}")
            self.ec2.machines[name] = Machine(name, Role.GPU, MachineState.STOPPED, *place)
        self.ec2.machines[EDGE] = Machine(EDGE, Role.EDGE, MachineState.RUNNING, "t3.medium", "z-a", "10.0.1.1")
        self.hosts: dict[str, Host] = {}
        self.due: dict[str, float] = {}
        self.awake_from: dict[str, float] = {}
        self.awake_s = 0.0
        self.beats: dict[str, float] = {}
        self.clients: dict[str, bool] = {}
        """Sessions by id; False: its client is gone without a word."""
        self.upstreams: tuple[str, ...] = ()
        self.watched: tuple[str, ...] = ()
        self.serving: list[frozenset[str]] = []
        self.stuck: set[str] = set()
        self.stubborn = False
        self.ticks_lost = self.events_lost = self.down = False
        """`down`: every Lambda fails."""
        self.switchless = False
        self.excused_until = self.clock()
        self.quiet_since = self.dark_since = self.clock()
        self.slack_s = 0.0
        self.boots = self.steps = 0
        self.tick_at = self.edge_at = self.clock()
        self.run(lambda: self.context.reconcile(Cause("reconcile", "tick")))

    @property
    def context(self) -> Context:
        ports = (self.store, self.ec2, self.commands)
        return Context(self.settings, self.rules, *ports, self.clock, self.clock.advance)

    @property
    def control(self) -> Control:
        return self._known()[1]

    @property
    def lead_s(self) -> float:
        """How long before a booking the GPU wakes, as learned by now."""
        return self._known()[2]

    def _known(self) -> tuple[int, Control, float]:
        if self._control is None or self._control[0] != self.store.count:
            control = load(self.store)
            self._control = (self.store.count, control, control.learned(self.rules).lead_s)
        return self._control

    def state(self, name: str) -> MachineState:
        return self.ec2.machines[name].state

    def ip(self, name: str) -> str | None:
        return self.ec2.machines[name].private_ip

    # What people do.

    def open(self) -> str | None:
        """A client that wants to speak; the session's id, None when it was refused."""
        if self.down:
            return None
        asleep = all(self.state(one) is MachineState.STOPPED for one in self.gpus)
        before = self.control
        try:
            answer = sessions.open_session(self.context, ANNA, sessions.Wanted(), None, CAUSE)
        except Refused:
            return None
        except Killed:
            self.bury()
            return None
        self.clients[answer["id"]] = True
        invariants.wanted(self)
        invariants.started_at_once(self, before, asleep=asleep)
        return str(answer["id"])

    def close(self, sid: str) -> None:
        if not self.down:
            with self.surviving():
                sessions.close(self.context, ANNA, sid, CAUSE)
        plant.leave(self, sid)

    def start(self, minutes: float) -> None:
        if self.down:
            return
        with self.surviving():
            power.start(self.context, EVE, minutes, "", CAUSE)
        invariants.wanted(self)

    def stop(self, *, force: bool = False, closed_s: float | None = None) -> None:
        if self.down:
            return
        until = None if closed_s is None else self.clock() + closed_s
        with self.surviving():
            power.stop(self.context, EVE, force=force, closed_until=until, reason="", cause=CAUSE)

    def book(self, ahead_s: float, length_s: float, weekly: bool = False) -> None:
        if self.down:
            return
        start = self.clock() + ahead_s
        with self.surviving():
            bookings.book(self.context, EVE, bookings.WantedBooking(start + length_s, start, weekly), CAUSE)
        invariants.wanted(self)

    # What goes wrong.

    def excuse(self, seconds: float = EXCUSE_S) -> None:
        """What must happen promptly may be late for a while."""
        self.excused_until = max(self.excused_until, self.clock() + seconds)
        self.slack_s += seconds

    def bury(self) -> None:
        """The next container is a new one."""
        self.store.kill_in = None
        self.excuse()

    def kill_at(self, writes: int) -> None:
        """The pass that makes this write from now on dies before it."""
        self.store.kill_in = writes

    def concur(self, looks: int) -> None:
        """A second pass runs as a whole after so many looks at EC2."""
        self.ec2.countdown = looks
        self.ec2.meanwhile = self._second_pass

    def dies(self, name: str) -> None:
        """A running machine stops by itself."""
        if self.state(name) is MachineState.RUNNING:
            self._counted(name)
            self.ec2.become(name, MachineState.STOPPING)
            self.switched(name)
            self.event()

    def perishes(self, name: str) -> None:
        """The power of a host is gone, and EC2 goes on saying that it runs."""
        self.hosts.pop(name, None)
        self.excuse(2 * EXCUSE_S)

    def calm(self) -> None:
        """No fault any more, from now on."""
        self.ec2.no_room, self.ec2.refuse_start, self.ec2.refuse_describe = set(), None, None
        self.stuck.clear()
        self.stubborn = self.ticks_lost = self.events_lost = self.down = False
        self.ec2.late, self.ec2.meanwhile, self.store.kill_in = {}, None, None
        for host in self.hosts.values():
            host.silent = False
        self.excuse()

    def hindered(self) -> bool:
        """Whether a fault that lasts keeps machines from being stopped."""
        return self.ticks_lost or self.down or self.ec2.refuse_describe is not None or bool(self.stuck)

    # What the fakes ask and tell.

    def may_touch(self, name: str) -> None:
        invariants.may_touch(self, name)

    def may_stop(self, name: str) -> None:
        invariants.may_stop(self, name)

    def switched(self, name: str) -> None:
        """A machine has begun to start or to stop."""
        state, now = self.state(name), self.clock()
        if state is MachineState.PENDING and name not in self.awake_from:
            self.awake_from[name], self.due[name] = now, now + BOOT_S
        elif state is MachineState.STOPPING:
            self._counted(name)
            self.hosts.pop(name, None)
            self.due[name] = now + STOP_S

    def event(self) -> None:
        """EC2 says that a machine has changed its state."""
        if self.events_lost:
            self.excuse(TICK_S)
        else:
            self.run(lambda: self.context.wishes_changed(Cause("reconcile", "ec2")))

    def _counted(self, name: str) -> None:
        begun = self.awake_from.pop(name, None)
        if begun is not None:
            self.awake_s += max(60.0, self.clock() - begun)

    # Time.

    def advance(self, seconds: float) -> None:
        """Everything moves on; the invariants are checked at every step."""
        end = self.clock() + seconds
        while self.clock() < end:
            step = self._step(end)
            self.clock.advance(step)
            self.steps += 1
            plant.machines(self)
            plant.hosts(self)
            plant.edge(self)
            plant.clients(self)
            if self.clock() >= self.tick_at:
                self.tick_at += TICK_S
                if not self.ticks_lost:
                    self.run(lambda: self.context.reconcile(Cause("reconcile", "tick")))
            invariants.check(self, step)

    def _at_rest(self) -> bool:
        return not (self.due or self.hosts or self.awake_from or any(self.clients.values()))

    def _step(self, end: float) -> float:
        """Seconds to where something may happen: five, or more while everything is at rest."""
        return max(STEP_S, min(end, self.tick_at, self.edge_at) - self.clock()) if self._at_rest() else STEP_S

    def rest_until(self, end: float) -> None:
        """Leap there at once where nothing would happen on the way: all machines stopped, and nothing booked."""
        booked = any(one.zone or one.until() > self.clock() for one in self.control.wishes.bookings)
        if not booked and self._at_rest() and end > self.clock():
            self.clock.advance(end - self.clock())
            self.tick_at = self.edge_at = self.clock()

    def run(self, call: Callable[[], Any]) -> Any:
        """A call whose container may be killed on the way."""
        if self.down:
            return None
        try:
            return call()
        except Killed:
            self.bury()
        except (Refused, MachineRefused):
            pass
        return None

    @contextmanager
    def surviving(self) -> Iterator[None]:
        try:
            yield
        except Killed:
            self.bury()
        except Refused:
            pass

    def _second_pass(self) -> None:
        try:
            self.context.wishes_changed(Cause("reconcile", "second"))
        except Killed:
            self.bury()

    def finish(self) -> None:
        invariants.finish(self)
