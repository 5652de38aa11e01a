"""A probe looked at from the table up, over fakes: each break is named, and what follows is done once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from chalicelib.domain.machines import Machine, MachineState, Role
from chalicelib.domain.probes import EdgeAnswer, Heard, LayerName
from chalicelib.domain.remote import CommandResult, CommandState
from chalicelib.domain.repair import CANARY_EVERY_S, SETTLE_S
from chalicelib.domain.tickets import CANARY
from chalicelib.errors import CommandRefused, MachineRefused, RefusalKind, Unavailable
from chalicelib.services import bookings, host_link, power, probes, sessions, status
from chalicelib.services.context import Context
from chalicelib.services.control import load, rules_of
from chalicelib.services.events import Cause, since
from chalicelib.services.tokens import Principal
from chalicelib.services.tokens import Role as TokenRole
from chalicelib.settings import Settings
from tests.fakes import SAID, FakeClock, FakeCommands, FakeDialler, FakeMachines, MemoryStore

EVE = Principal("p-eve", TokenRole.OPERATOR, "eve")
TICK = Cause("reconcile", "tick")
ASKED = Cause("eve", "POST /v1/probe")
GPU, EDGE = "i-gpu", "i-edge"
ALL = [name.value for name in LayerName]


@dataclass
class Bench:
    """One GPU, one edge, and hosts that report as the test says."""

    settings: Settings = field(default_factory=lambda: Settings("s", "t", "https://edge"))
    clock: FakeClock = field(default_factory=FakeClock)
    store: MemoryStore = field(default_factory=MemoryStore)
    ec2: FakeMachines = field(default_factory=FakeMachines)
    commands: FakeCommands = field(default_factory=FakeCommands)
    dialler: FakeDialler = field(default_factory=FakeDialler)
    gpu: dict[str, Any] = field(default_factory=dict)
    edge: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ec2.machines[GPU] = Machine(GPU, Role.GPU, MachineState.STOPPED, "g4dn.xlarge", "z-a", "10.0.0.1")
        self.ec2.machines[EDGE] = Machine(EDGE, Role.EDGE, MachineState.RUNNING, "t3.medium", "z-a", "10.0.1.1")
        self.gpu = {"boot_id": "b", "status": "ready", "model": "small.en", "device": "cuda", "max_streams": 4}
        self.edge = {"boot_id": "e", "status": "ready", "upstreams": ["10.0.0.1"], "ca_pem": "PEM"}
        self.tick()
        self.report(EDGE, self.edge)

    @property
    def context(self) -> Context:
        return Context(
            self.settings,
            rules_of(self.settings),
            self.store,
            self.ec2,
            self.commands,
            self.clock,
            self.clock.advance,
            dialler=self.dialler,
        )

    def tick(self) -> None:
        self.context.reconcile(TICK)

    def report(self, name: str, body: dict[str, Any]) -> None:
        host_link.report(self.context, name, body)

    def reports(self) -> None:
        if self.ec2.machines[GPU].state is MachineState.RUNNING:
            self.report(GPU, self.gpu)
        self.report(EDGE, self.edge)

    def wake(self, minutes: float = 600) -> None:
        power.start(self.context, EVE, minutes, "", TICK)
        self.ec2.become(GPU, MachineState.RUNNING)
        self.clock.advance(30)
        self.tick()
        self.clock.advance(1)
        self.reports()
        self.clock.advance(300)
        self.reports()

    def minute(self, *, reports: bool = True) -> None:
        """What a minute brings, the hosts' reports included."""
        self.clock.advance(60)
        if reports:
            self.reports()
        self.tick()
        probes.look(self.context, Cause("probe", "schedule"), self.clock)

    def ask(self) -> dict[str, Any]:
        return probes.ask(self.context, ASKED, self.clock)

    def kept(self) -> dict[str, Any]:
        return dict(status.status(self.context)["last_probe"])

    def events(self, *actions: str) -> list[str]:
        found = since(self.store, "2000-01-01T00:00:00Z", self.clock())["events"]
        return [one["action"] for one in found if one["action"].startswith(actions)]

    def sent(self, document: str) -> int:
        return sum(command.document == f"s-{document}" for _, command in self.commands.sent)


def test_machines_that_no_pass_has_seen_yet_are_no_failure() -> None:
    """A probe may look before the first pass of a new stack."""
    bench = Bench()
    bench.store = MemoryStore()
    found = bench.ask()
    assert not found["ok"]
    assert found["cause"] is None
    assert [one["name"] for one in found["layers"] if one["verdict"] == "failed"] == []
    bench.tick()
    bench.report(EDGE, bench.edge)
    assert bench.ask()["ok"]


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["verdict"] for one in found["layers"]}


def test_green_is_a_canarys_words_and_counts_as_nothing() -> None:
    bench = Bench()
    bench.wake()
    found = bench.ask()
    assert (found["ok"], found["cause"]) == (True, None)
    assert set(verdicts(found).values()) == {"ok"}
    assert [one["name"] for one in found["layers"]] == ALL
    ((url, ticket),) = bench.dialler.spoken
    assert url == "wss://edge/ws/canary"
    import jwt

    claims = jwt.decode(ticket, options={"verify_signature": False})
    assert claims["sid"].startswith(CANARY)
    assert claims["exp"] - bench.clock() <= probes.TICKET_S
    assert bench.sent("echo") == 2, "a command is tried on both hosts"
    assert load(bench.store).wishes.sessions == ()
    assert bench.kept()["ok"]
    assert bench.kept()["trigger"] == "POST /v1/probe"


def test_asleep_is_well_and_stays_asleep() -> None:
    bench = Bench()
    found = bench.ask()
    assert (found["ok"], found["cause"]) == (True, None)
    slept = [name for name, verdict in verdicts(found).items() if verdict == "asleep"]
    assert slept == ["machine", "report", "upstream", "upgrade", "ready", "canary"]
    assert bench.dialler.spoken == []
    assert bench.ec2.starts == []
    for _ in range(60):
        bench.minute()
    assert bench.ec2.starts == []
    assert bench.events("gpu.start") == []


def test_a_gpu_that_wakes_is_neither_green_nor_broken() -> None:
    bench = Bench()
    power.start(bench.context, EVE, 60, "", TICK)
    found = bench.ask()
    assert (found["ok"], found["cause"]) == (False, None)
    assert "waking.boot" in found["layers"][-1]["detail"]
    bench.ec2.become(GPU, MachineState.RUNNING)
    bench.clock.advance(30)
    bench.tick()
    assert bench.ask()["cause"] is None, "its report has time to come"
    bench.clock.advance(1)
    bench.report(GPU, {**bench.gpu, "status": "loading"})
    assert bench.ask()["layers"][-1]["detail"] == "the service is loading"
    assert bench.dialler.spoken == []


def _ec2_mute(bench: Bench) -> None:
    bench.ec2.refuse_describe = MachineRefused(RefusalKind.THROTTLED, "RequestLimitExceeded", "slow down")


def _agent_off(bench: Bench) -> None:
    bench.commands.offline.add(GPU)


def _edges_agent_off(bench: Bench) -> None:
    bench.commands.offline.add(EDGE)


def _ssm_mute(bench: Bench) -> None:
    bench.commands.mute = CommandRefused("ThrottlingException", "Rate exceeded")


def _commands_fail(bench: Bench) -> None:
    results = {f"command-{n}": CommandResult(CommandState.FAILED, 1, "no space left") for n in range(1, 99)}
    bench.commands.results = results


def _commands_lost(bench: Bench) -> None:
    bench.commands.results = {f"command-{n}": CommandResult(CommandState.UNDER_WAY) for n in range(1, 99)}


def _no_document(bench: Bench) -> None:
    bench.commands.known = set()


def _no_model(bench: Bench) -> None:
    bench.gpu |= {"status": "failed", "cause": "the model cannot be read: model.bin is not there"}
    bench.report(GPU, bench.gpu)


def _silent(bench: Bench) -> None:
    bench.clock.advance(30)


def _edge_off(bench: Bench) -> None:
    bench.dialler.edge = EdgeAnswer("edge:443 does not answer: timed out", 5.0)
    bench.commands.offline.add(EDGE)  # the whole machine is gone, its agent too


def _expired(bench: Bench) -> None:
    bench.dialler.edge = EdgeAnswer("", 0.1, None, "not accepted: certificate has expired")


def _nearly_expired(bench: Bench) -> None:
    bench.dialler.edge = EdgeAnswer("", 0.1, 0.01)


def _wrong_upstream(bench: Bench) -> None:
    bench.edge["upstreams"] = ["10.0.0.99"]
    bench.report(EDGE, bench.edge)


def _edge_silent(bench: Bench) -> None:
    bench.clock.advance(120)
    bench.report(GPU, bench.gpu)


def _nobody_there(bench: Bench) -> None:
    bench.dialler.heard = Heard(problem="the upgrade was answered with 503")


def _ticket_refused(bench: Bench) -> None:
    bench.dialler.heard = Heard(problem="closed with 4401: the ticket is not valid", upgrade_s=0.1, close_code=4401)


def _hung(bench: Bench) -> None:
    bench.dialler.heard = Heard(problem="no SERVER_READY within 15 s", upgrade_s=0.1)


def _no_words(bench: Bench) -> None:
    bench.dialler.heard = Heard(problem="no END within 15 s", upgrade_s=0.1, ready_s=0.2)


def _wrong_words(bench: Bench) -> None:
    bench.dialler.heard = Heard("Thank you.", "", 0.1, 0.2, 0.9, 0.6)


def _late(bench: Bench) -> None:
    bench.dialler.heard = Heard(SAID, "", 0.1, 0.2, 0.9, 9.0)


BREAKS: list[tuple[Callable[[Bench], None], str, str, str]] = [
    (_ec2_mute, "machine", "EC2 does not answer", "doctor"),
    (_agent_off, "agent", f"agent of gpu {GPU} is not connected", "restart the machine"),
    (_edges_agent_off, "agent", f"agent of edge {EDGE} is not connected", "restart the machine"),
    (_ssm_mute, "agent", "SSM does not answer", "documents"),
    (_commands_fail, "agent", "failed (exit code 1): no space left", "disk"),
    (_commands_lost, "agent", "did not end within 8 s", "disk"),
    (_no_document, "agent", "InvalidDocument", "documents"),
    (_no_model, "report", "model.bin is not there", "deploy"),
    (_silent, "report", "no report for 3", "link"),
    (_edge_off, "edge", "timed out", "whisperctl restart edge"),
    (_expired, "certificate", "certificate has expired", "renewed"),
    (_nearly_expired, "certificate", "14 minutes left", "renewed"),
    (_wrong_upstream, "upstream", "forwards to 10.0.0.99; ready: 10.0.0.1", "refresh"),
    (_edge_silent, "upstream", "has not reported for 12", "whisperctl restart edge"),
    (_nobody_there, "upgrade", "503", "security group"),
    (_ticket_refused, "upgrade", "4401", "ticket keys"),
    (_hung, "ready", "no SERVER_READY", "whisperctl restart gpu"),
    (_no_words, "canary", "no END", "whisperctl restart gpu"),
    (_wrong_words, "canary", "0% of the words", "whisperctl restart gpu"),
    (_late, "canary", "came late", "whisperctl restart gpu"),
]


@pytest.mark.parametrize(
    ("break_it", "layer", "detail", "remedy"), BREAKS, ids=[one[0].__name__[1:] for one in BREAKS]
)
def test_the_first_layer_that_fails_is_named_with_its_remedy(
    break_it: Callable[[Bench], None], layer: str, detail: str, remedy: str
) -> None:
    bench = Bench()
    bench.wake()
    assert bench.ask()["ok"]
    break_it(bench)
    found = bench.ask()
    assert (found["ok"], found["cause"]) == (False, layer)
    named = found["layers"][ALL.index(layer)]
    assert detail in named["detail"]
    assert remedy in named["remedy"]
    behind = ALL[ALL.index(layer) + 1 :]
    assert [verdicts(found)[name] for name in behind] == ["not_reached"] * len(behind)
    assert not bench.kept()["ok"]
    assert bench.kept()["cause"] == layer


def test_without_its_table_nothing_is_green_and_the_table_is_named() -> None:
    bench = Bench()
    bench.wake()

    def throttled(*_: object, **__: object) -> Any:
        raise Unavailable("The table does not answer (ThrottlingException).")

    bench.store.partition = throttled  # type: ignore[method-assign]
    with pytest.raises(Unavailable) as refused:
        bench.ask()
    named = probes.unreadable(refused.value)
    assert named.data["cause"] == "table"
    assert "DynamoDB" in str(named.data["remedy"])
    other = Unavailable("Others keep changing the sessions; ask again.")
    assert probes.unreadable(other) is other


def test_the_last_free_place_is_nobodys_but_a_persons() -> None:
    bench = Bench()
    bench.gpu["max_streams"] = 2
    bench.wake()
    bench.gpu["streams"] = [{"sid": "a"}]
    bench.reports()
    sessions.open_session(bench.context, EVE, sessions.Wanted(), None, TICK)
    found = bench.ask()
    assert (found["ok"], found["cause"]) == (False, None)
    assert "every place is taken" in found["layers"][-1]["detail"]
    assert bench.dialler.spoken == []


def test_a_host_that_fills_up_or_drains_meanwhile_is_not_broken() -> None:
    bench = Bench()
    bench.wake()
    for code in (1012, 1013):
        bench.dialler.heard = Heard(problem=f"closed with {code}", upgrade_s=0.1, close_code=code)
        found = bench.ask()
        assert (found["ok"], found["cause"]) == (False, None)


def test_a_canary_speaks_after_a_wake_and_every_quarter_of_an_hour() -> None:
    bench = Bench()
    bench.wake()
    bench.minute()
    assert len(bench.dialler.spoken) == 1, "after the wake"
    for _ in range(int(CANARY_EVERY_S / 60) - 1):
        bench.minute()
    assert len(bench.dialler.spoken) == 1
    bench.minute()
    assert len(bench.dialler.spoken) == 2
    assert bench.kept()["ok"]
    assert bench.sent("echo") == 4


def test_a_booking_is_rehearsed() -> None:
    bench = Bench()
    start = bench.clock() + 1800
    booked = bookings.book(bench.context, EVE, bookings.WantedBooking(start + 3600, start), TICK)
    bench.clock.advance(1500)
    bench.tick()
    assert bench.ec2.starts == [GPU]
    bench.ec2.become(GPU, MachineState.RUNNING)
    bench.minute()
    bench.minute()
    (seen,) = bookings.bookings(bench.context)["bookings"]
    assert (seen["id"], seen["state"]) == (booked["id"], "rehearsed")
    assert bench.events("booking.rehearsed") == ["booking.rehearsed"]


def test_a_hung_server_is_restarted_once_and_a_person_hears_when_that_did_not_help() -> None:
    bench = Bench()
    bench.wake()
    bench.minute()
    _no_words(bench)
    bench.clock.advance(CANARY_EVERY_S)
    bench.minute()
    assert bench.kept()["cause"] == "canary", "named at the first look"
    assert bench.sent("restart-gpu") == 0
    bench.minute()
    assert bench.sent("restart-gpu") == 1
    bench.minute()
    assert bench.events("repair", "probe") == ["repair.restart"]
    assert bench.kept()["repairs"][0]["went"] == "succeeded"
    spoken = len(bench.dialler.spoken)
    for _ in range(int(SETTLE_S / 60)):
        bench.minute()
    bench.tick()
    assert bench.events("repair", "probe") == ["repair.restart", "probe.failed"]
    told = [one for one in since(bench.store, "2000-01-01T00:00:00Z", 0)["events"] if one["action"] == "probe.failed"]
    assert "tried in vain: restart at" in told[0]["reason"]
    assert len(bench.dialler.spoken) > spoken, "it is looked at while the restart may help"
    spoken = len(bench.dialler.spoken)
    for _ in range(180):
        bench.minute()
    assert bench.sent("restart-gpu") == 1, "and then no more is tried"
    assert bench.events("repair", "probe") == ["repair.restart", "probe.failed"]
    assert len(bench.dialler.spoken) - spoken <= 180 * 60 / CANARY_EVERY_S + 1
    bench.dialler.heard = FakeDialler().heard
    bench.clock.advance(CANARY_EVERY_S)
    bench.minute()
    assert bench.kept()["ok"]
    assert bench.kept()["failing_since"] is None


def test_a_restart_that_helps_is_heard_and_nobody_is_called() -> None:
    bench = Bench()
    bench.wake()
    bench.minute()
    _hung(bench)
    bench.clock.advance(CANARY_EVERY_S)
    bench.minute()
    bench.minute()
    assert bench.sent("restart-gpu") == 1
    bench.gpu["status"] = "loading"
    bench.minute()
    assert bench.kept()["cause"] is None
    bench.gpu["status"], bench.dialler.heard = "ready", FakeDialler().heard
    bench.minute()
    assert bench.kept()["ok"]
    bench.minute()
    assert bench.events("repair", "probe") == ["repair.restart"]


def test_an_edge_that_is_told_wrongly_is_told_again() -> None:
    bench = Bench()
    bench.wake()
    bench.minute()
    _wrong_upstream(bench)
    bench.minute()
    assert bench.sent("set-upstream") == 0
    bench.minute()
    assert bench.sent("set-upstream") == 1
    assert bench.events("repair", "edge.refresh") == ["repair.refresh", "edge.refresh"]
    bench.edge["upstreams"] = ["10.0.0.1"]
    bench.minute()
    assert bench.kept()["ok"]


def test_self_repair_is_off_by_a_setting() -> None:
    bench = Bench(replace(Settings("s", "t", "https://edge"), self_repair=False))
    bench.wake()
    bench.minute()
    _no_words(bench)
    bench.clock.advance(CANARY_EVERY_S)
    for _ in range(3):
        bench.minute()
    bench.tick()
    assert bench.sent("restart-gpu") == 0
    assert bench.events("repair", "probe") == ["probe.failed"]


def test_a_repair_that_ssm_refuses_is_said() -> None:
    bench = Bench()
    bench.wake()
    bench.minute()
    _no_words(bench)
    bench.clock.advance(CANARY_EVERY_S)
    bench.minute()
    bench.commands.known = {"s-echo"}
    bench.minute()
    assert bench.events("repair") == ["repair.restart", "repair.restart_refused"]
    assert "InvalidDocument" in bench.kept()["repairs"][0]["went"]


def test_one_bad_minute_is_no_alarm() -> None:
    bench = Bench()
    bench.wake()
    bench.minute()
    for break_it in (_edge_off, _no_words, _ssm_mute):
        break_it(bench)
        bench.minute()
        bench.dialler.edge, bench.dialler.heard = FakeDialler().edge, FakeDialler().heard
        bench.commands.mute = None
        bench.commands.offline.clear()
        bench.minute()
        assert bench.kept()["ok"]
    assert bench.events("repair", "probe") == []
