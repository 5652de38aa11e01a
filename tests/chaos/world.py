"""A whole stack on a virtual clock: the real services and decisions, over fakes that fail in every way we know.

`World` moves machines, hosts, the edge and clients on in steps of five seconds and checks the invariants after
each. A broken one raises `Violation` with its name. Machines take time to start and stop, hosts load and report,
clients send heartbeats, speak as soon as they have a ticket, and leave when they are told that it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from chalicelib.domain.machines import Machine, MachineState, Role, View
from chalicelib.domain.phases import ready_gpus
from chalicelib.domain.rules import admission
from chalicelib.domain.wishes import OrderKind
from chalicelib.errors import Gone, MachineRefused, NotFound, RefusalKind, Refused
from chalicelib.ports import Key, Record, Write
from chalicelib.services import bookings, host_link, power, sessions
from chalicelib.services.context import Context
from chalicelib.services.control import LEDGER, Control, load, rules_of, spans_from
from chalicelib.services.events import Cause
from chalicelib.services.tokens import Principal
from chalicelib.services.tokens import Role as TokenRole
from chalicelib.settings import Settings
from gpu_bootstrap.hostlink.answers import stay_s
from gpu_bootstrap.hostlink.deadman import FLUSH_S, NOTICE_S, Act, Limits, Vitals, deadman
from tests.fakes import FakeClock, FakeCommands, FakeMachines, MemoryStore

STEP_S, REPORT_S, BEAT_S, TICK_S = 5.0, 15.0, 30.0, 60.0
BOOT_S, LOAD_S, STOP_S = 25.0, 10.0, 15.0
IDLE_S, GRACE_S, HARD_MAX_S = 600.0, 300.0, 7200.0
EXCUSE_S = 150.0
"""After a fault: a lease that nobody releases (30 s), and two ticks."""
DEADMAN = Limits(silent_s=900.0, hard_max_s=HARD_MAX_S)
EDGE = "i-edge"
EVE = Principal("p-eve", TokenRole.OPERATOR, "eve")
ANNA = Principal("p-anna", TokenRole.SPEAKER, "anna")
CAUSE = Cause("somebody", "test")


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


def ready_but_for_the_edge(view: View, now: float) -> bool:
    report = view.fresh(now)
    return (
        view.machine.state is MachineState.RUNNING
        and view.memory.drain is None
        and not view.cut_off(now)
        and report is not None
        and report.status == "ready"
    )


class World:
    """`gpus` machines in zones a, b, …; one edge; a machine of somebody else's."""

    def __init__(self, gpus: int = 2, hour: float = 12.0, night: bool = True) -> None:
        self._control: tuple[int, Control] | None = None
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
        self.boots = 0
        self.tick_at = self.edge_at = self.clock()
        self.run(lambda: self.context.reconcile(Cause("reconcile", "tick")))

    @property
    def context(self) -> Context:
        ports = (self.store, self.ec2, self.commands)
        return Context(self.settings, self.rules, *ports, self.clock, self.clock.advance)

    @property
    def control(self) -> Control:
        if self._control is None or self._control[0] != self.store.count:
            self._control = (self.store.count, load(self.store))
        return self._control[1]

    def state(self, name: str) -> MachineState:
        return self.ec2.machines[name].state

    def _ip(self, name: str) -> str | None:
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
        refused = any(one.refusal is not None for one in self.control.memories.values())
        intended = any(one.intent is not None for one in before.memories.values())
        calm = self.clock() >= self.excused_until and not self.ticks_lost and before.lock_until <= self.clock()
        calm = calm and self.ec2.refuse_describe is None
        if asleep and calm and not refused and not intended and not any(self.state(one).awake for one in self.gpus):
            raise Violation("I9 the call returned and nothing was started")
        return str(answer["id"])

    def close(self, sid: str) -> None:
        if not self.down:
            with self.surviving():
                sessions.close(self.context, ANNA, sid, CAUSE)
        self._leave(sid)

    def start(self, minutes: float) -> None:
        if self.down:
            return
        with self.surviving():
            power.start(self.context, EVE, minutes, "", CAUSE)

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
            self._event()

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

    # What the fakes ask.

    def may_touch(self, name: str) -> None:
        if name not in self.gpus:
            raise Violation(f"I6 {name} is not ours to touch")

    def may_stop(self, name: str) -> None:
        """I1, by what really streams."""
        host, now = self.hosts.get(name), self.clock()
        if host is None or not host.streams:
            return
        control = self.control
        order, memory = control.wishes.order(OrderKind.STOP), control.memories[name]
        forced = order is not None and order.force and order.at >= (memory.awake_since or 0.0)
        spent = now - self.awake_from[name] >= HARD_MAX_S - STEP_S
        drain = memory.drain
        noticed = drain is not None and drain.kind in ("night", "hard_max") and now >= drain.closing_at
        if not (forced or spent or noticed):
            raise Violation(f"I1 {name} was stopped under {sorted(host.streams)}")

    def switched(self, name: str) -> None:
        """A machine has begun to start or to stop."""
        state, now = self.state(name), self.clock()
        if state is MachineState.PENDING and name not in self.awake_from:
            self.awake_from[name], self.due[name] = now, now + BOOT_S
        elif state is MachineState.STOPPING:
            self._counted(name)
            self.hosts.pop(name, None)
            self.due[name] = now + STOP_S

    # Time.

    def advance(self, seconds: float) -> None:
        """Everything moves on; the invariants are checked at every step."""
        end = self.clock() + seconds
        while self.clock() < end:
            self.clock.advance(STEP_S)
            self._machines()
            self._hosts()
            self._edge()
            self._clients()
            if self.clock() >= self.tick_at:
                self.tick_at += TICK_S
                if not self.ticks_lost:
                    self.run(lambda: self.context.reconcile(Cause("reconcile", "tick")))
            self.check()

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

    def _event(self) -> None:
        if self.events_lost:
            self.excuse(TICK_S)
        else:
            self.run(lambda: self.context.wishes_changed(Cause("reconcile", "ec2")))

    def _counted(self, name: str) -> None:
        begun = self.awake_from.pop(name, None)
        if begun is not None:
            self.awake_s += max(60.0, self.clock() - begun)

    def _machines(self) -> None:
        now = self.clock()
        for name in self.gpus:
            if name not in self.due or now < self.due[name] or name in self.stuck:
                continue
            del self.due[name]
            if self.state(name) is MachineState.PENDING:
                self.boots += 1
                boot = f"boot-{self.boots}"
                self.hosts[name] = Host(boot, now + LOAD_S, vitals=Vitals(boot, now))
                self.ec2.become(name, MachineState.RUNNING)
            elif self.state(name) is MachineState.STOPPING:
                self.ec2.become(name, MachineState.STOPPED)
            self._event()

    def _hosts(self) -> None:
        now = self.clock()
        for name, host in list(self.hosts.items()):
            if host.closing_at is not None and now >= host.closing_at and not self.stubborn:
                host.streams.clear()
            said = (host.status(now), frozenset(host.streams))
            if not host.silent and (now - host.reported_at >= REPORT_S or said != host.told):
                host.reported_at, host.told = now, said
                self.report(name)
            self._switch(name, host)

    def _switch(self, name: str, host: Host) -> None:
        """The host's own dead man's switch, by the real decision."""
        if self.switchless:
            return
        now, before = self.clock(), host.vitals
        active = bool(host.streams)
        streamed = now if active or before.streaming else before.streamed_at
        host.vitals = replace(before, streaming=active, streamed_at=streamed)
        match deadman(host.vitals, DEADMAN, now).action:
            case Act.ANNOUNCE:
                host.vitals = replace(host.vitals, announced_at=now)
                host.closing_at = now + NOTICE_S
            case Act.POWER_OFF | Act.INSIST:
                self.dies(name)

    def report(self, name: str) -> None:
        """A GPU host's report, and what it does with the answer."""
        host, now = self.hosts[name], self.clock()
        streams = [{"sid": sid} for sid in sorted(host.streams)]
        body = {"boot_id": host.boot_id, "status": host.status(now), "max_streams": 4, "streams": streams}
        answer = self.run(lambda: host_link.report(self.context, name, body))
        if answer is None:
            return
        stay = stay_s(answer)
        until = None if stay is None else now + stay
        host.vitals = replace(host.vitals, answered_at=now, stay_until=until)
        drain = answer["drain"]
        if host.vitals.announced_at is not None:
            return  # what the switch announced stands
        host.closing_at = None if drain is None else datetime.fromisoformat(drain["closing_at"]).timestamp()
        host.streams -= set(answer["revoked"])

    def _edge(self) -> None:
        now = self.clock()
        if now < self.edge_at:
            return
        self.edge_at = now + REPORT_S
        down = [host for host in self.watched if not any(self._ip(name) == host for name in self.hosts)]
        body = {"boot_id": "e", "status": "ready", "upstreams": list(self.upstreams), "gpus_down": down}
        answer = self.run(lambda: host_link.report(self.context, EDGE, body))
        if answer is None:
            self.serving.clear()
            return
        self.upstreams = tuple(one["host"] for one in answer["upstreams"])
        self.watched = tuple(one["host"] for one in answer["watch"])
        seen = self.control.observation(now)
        ready = ready_gpus(seen, now)
        self.serving = [*self.serving, frozenset(str(view.machine.private_ip) for view in ready)][-3:]
        same = len(self.serving) == 3 and len(set(self.serving)) == 1 and bool(self.serving[0])
        # A host that joins is ready but for the edge, which hears of it in this very answer.
        joining = {str(view.machine.private_ip) for view in seen.gpus if ready_but_for_the_edge(view, now)}
        if same and not set(self.upstreams) <= self.serving[0] | joining:
            raise Violation(f"I7 the edge forwards to {self.upstreams}, ready are {sorted(self.serving[0])}")

    def _clients(self) -> None:
        for sid, alive in list(self.clients.items()):
            speaks = any(sid in host.streams for host in self.hosts.values())
            if not alive or self.down or self.clock() < self.beats.get(sid, 0.0) + (BEAT_S if speaks else 2 * STEP_S):
                continue
            self.beats[sid] = self.clock()
            try:
                seen = sessions.heartbeat(self.context, ANNA, sid, {})
            except (Gone, NotFound):
                self._leave(sid)
                continue
            except Killed:
                self.bury()
                continue
            if seen["ticket"] and not speaks:
                self._speak(sid)

    def _speak(self, sid: str) -> None:
        now = self.clock()
        for name, host in self.hosts.items():
            reached = self.ec2.machines[name].private_ip in self.upstreams
            if reached and host.status(now) == "ready" and not host.silent:
                host.streams.add(sid)
                host.reported_at, host.told = now, (host.status(now), frozenset(host.streams))
                self.report(name)
                return

    def _leave(self, sid: str) -> None:
        self.clients.pop(sid, None)
        # Whoever is told by a drain goes on speaking until it closes.
        for host in self.hosts.values():
            if host.closing_at is None:
                host.streams.discard(sid)

    # What must hold.

    def check(self) -> None:
        now, control = self.clock(), self.control
        if now < self.excused_until or self.ticks_lost or self.ec2.refuse_describe is not None or self.stuck:
            self.quiet_since = self.dark_since = now
        if self.ec2.refuse_describe is not None or self.ticks_lost or self.down:
            self.quiet_since = self.dark_since = now
            self.slack_s += STEP_S  # nobody sees when a machine stops by itself
        awake = [name for name in self.gpus if self.state(name).awake]
        streaming = frozenset(sid for host in self.hosts.values() for sid in host.streams)
        lead = control.learned(self.rules).lead_s
        booked = control.wishes.booked(now, lead) is not None
        unknown = any(host.silent for host in self.hosts.values())
        if booked or unknown or streaming or control.wishes.live_sessions(now, streaming):
            self.quiet_since = now
        if self.rules.night is None or self.rules.night.at(now) is None or booked:
            self.dark_since = now
        if awake and now - self.quiet_since > IDLE_S + 2 * TICK_S + STEP_S:
            raise Violation(f"I2 {awake} run, and nobody has wanted them since {now - self.quiet_since:.0f} s")
        for name, since in self.awake_from.items():
            # Measured to where nothing was in the way of a stop.
            late = now - max(since + HARD_MAX_S, self.excused_until)
            if late > 2 * TICK_S and not self.hindered():
                raise Violation(f"I2 {name} runs past its hard maximum")
            # Whatever is in the way: the host's own switch.
            if now - since > BOOT_S + HARD_MAX_S + NOTICE_S + FLUSH_S + 2 * STEP_S:
                raise Violation(f"I2 {name} runs past its hard maximum, and nothing excuses that")
        for name, host in self.hosts.items():
            heard = (host.vitals.booted_at, host.vitals.answered_at or 0.0, host.vitals.streamed_at or 0.0)
            if not host.streams and now - max(heard) > DEADMAN.silent_s + 2 * STEP_S:
                raise Violation(f"I2 {name} runs, nobody speaks, and nobody could stop it")
        if awake and now - self.dark_since > GRACE_S + 30 + 2 * TICK_S + BOOT_S + STEP_S:
            raise Violation(f"I4 {awake} run in the night")

    def hindered(self) -> bool:
        return self.ticks_lost or self.down or self.ec2.refuse_describe is not None or bool(self.stuck)

    def finish(self) -> None:
        """I8, then I3: whatever happened, when the faults are over a wish is served."""
        slack = self.slack_s
        self.calm()
        self.clients = dict.fromkeys(self.clients, False)
        self.advance(EXCUSE_S)
        spans = spans_from(self.store.partition(LEDGER))
        ledger = sum(max(60.0, (one.stopped_at or 0.0) - one.started_at) for one in spans)
        if abs(ledger - self.awake_s) > slack + STEP_S * len(spans):
            raise Violation(f"I8 the ledger says {ledger:.0f} s, EC2 {self.awake_s:.0f} s")
        waited = 0.0
        while waited < 5400:
            admitted = admission(self.control.wishes, self.control.learned(self.rules), self.clock())
            if not admitted.open and admitted.until is not None:
                waited = 0.0
                self.advance(max(STEP_S, admitted.until - self.clock()))
                continue
            if not any(self.clients.values()):
                self.open()
            self.advance(30)
            waited += 30
            if any(host.streams & self.clients.keys() for host in self.hosts.values()):
                return
        glance = self.control.overview(self.rules, self.clock())
        raise Violation(f"I3 nobody could speak for an hour and a half: {glance.phase}, {glance.reason}")


QUOTA = MachineRefused(RefusalKind.QUOTA, "VcpuLimitExceeded", "limit")
THROTTLED = MachineRefused(RefusalKind.THROTTLED, "RequestLimitExceeded", "slow down")
