"""Rollouts over fakes: asked for, moved on by ticks, looks and reports, and what each failure leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from chalicelib.domain.machines import Machine, MachineState, Role
from chalicelib.domain.remote import CommandResult, CommandState
from chalicelib.errors import Conflict, NotFound
from chalicelib.services import host_link, power, releases, sessions
from chalicelib.services.context import Context
from chalicelib.services.control import installation_key, load, rules_of
from chalicelib.services.events import Cause
from chalicelib.services.tokens import Principal
from chalicelib.services.tokens import Role as TokenRole
from chalicelib.settings import Settings
from tests.fakes import FakeArtifacts, FakeClock, FakeCommands, FakeMachines, MemoryStore
from tests.releases import manifest_of, scripts, sha256_of

TICK = Cause("reconcile", "tick")
ANNA = Cause("anna", "POST /v1/releases/gpu")
OPERATOR = Principal("p", TokenRole.OPERATOR, "anna")
GPU, STANDBY, EDGE = "i-gpu", "i-standby", "i-edge"
UNDER_WAY = CommandResult(CommandState.UNDER_WAY)


@dataclass
class World:
    """A control plane over fakes, with a bucket."""

    clock: FakeClock = field(default_factory=FakeClock)
    store: MemoryStore = field(default_factory=MemoryStore)
    machines: FakeMachines = field(default_factory=FakeMachines)
    commands: FakeCommands = field(default_factory=FakeCommands)
    artifacts: FakeArtifacts = field(default_factory=FakeArtifacts)
    settings: Settings = field(default_factory=lambda: Settings("s", "t", "https://edge"))

    def __post_init__(self) -> None:
        self.add(GPU, Role.GPU, MachineState.STOPPED)
        self.add(EDGE, Role.EDGE, MachineState.RUNNING)
        self.tick()

    def add(self, name: str, role: Role, state: MachineState) -> None:
        self.machines.machines[name] = Machine(name, role, state, "g4dn.xlarge", "eu-central-1a", "10.0.0.1")

    @property
    def context(self) -> Context:
        rules = rules_of(self.settings)
        ports = (self.store, self.machines, self.commands)
        return Context(self.settings, rules, *ports, self.clock, artifacts=self.artifacts)

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.context.wishes_changed(TICK)
        self.visit()

    def visit(self) -> None:
        """As many come by as there are steps."""
        for _ in range(8):
            releases.progress(self.context, TICK)

    def upload(self, version: str = "1", target: str = "gpu") -> str:
        manifest = manifest_of(scripts() | {"bootstrap/version": version.encode()}, target)
        name = sha256_of(manifest)[:16]
        self.artifacts.write(releases.manifest_key(target, name), json.dumps(manifest).encode())
        self.artifacts.write(releases.latest_key(target), name.encode())
        return name

    def begin(self, target: Role = Role.GPU, release: str | None = None, force: bool = False) -> dict[str, Any]:
        return releases.begin(self.context, target, release, force, "anna", "https://api.example/api", ANNA)

    def look(self, rollout: dict[str, Any]) -> dict[str, Any]:
        self.visit()
        return releases.look(self.context, rollout["id"], TICK)

    def awake(self, name: str = GPU, sids: tuple[str, ...] = (), release: str = "r0") -> None:
        """The machine runs and reports."""
        self.machines.become(name, MachineState.RUNNING)
        self.tick()
        self.clock.advance(1)
        streams = [{"sid": sid, "since": 1.0, "last_audio_s": 0.1} for sid in sids]
        body = {"boot_id": name, "status": "ready", "max_streams": 2, "streams": streams, "release": release}
        host_link.report(self.context, name, body)

    def verbs(self) -> list[tuple[str, str]]:
        """What was sent: host and step."""
        sent = self.commands.sent
        return [(host, one.parameters["verb"][0]) for host, one in sent if one.document == "s-release"]

    def actions(self) -> list[str]:
        return [str(one.data["action"]) for one in self.store.partition("events")]


@pytest.fixture
def world() -> World:
    return World()


ALL = ["configure", "fetch", "stage", "activate", "verify", "prune"]


def test_a_sleeping_gpu_is_woken_installed_and_let_go(world: World) -> None:
    name = world.upload()
    rollout = world.begin()
    assert rollout["state"] == "running"
    assert [(one["name"], one["state"]) for one in rollout["steps"]] == [("wake", "running")]
    assert world.machines.starts == [GPU]
    world.tick()
    assert world.verbs() == []
    world.machines.become(GPU, MachineState.RUNNING)
    world.tick()
    world.tick()
    done = world.look(rollout)
    assert (done["state"], done["verdict"]) == ("succeeded", f"{name} serves on {GPU}")
    assert world.verbs() == [(GPU, verb) for verb in ALL]
    assert [one["name"] for one in done["steps"]] == ["wake", *ALL]
    assert load(world.store).wishes.installations == ()
    assert {"release.begin", "release.activate"} <= set(world.actions())
    world.tick(60 * 11)
    assert world.machines.stops == [GPU]  # nobody wants it any more


def test_the_rollout_keeps_the_machine_awake_at_night_and_past_the_linger(world: World) -> None:
    world.settings = Settings("s", "t", "https://edge", night="00:00-23:59 UTC")
    world.upload()
    world.commands.results["command-1"] = UNDER_WAY
    world.begin()
    world.machines.become(GPU, MachineState.RUNNING)
    world.tick()
    world.tick(120)
    assert world.machines.stops == []
    assert world.verbs() == [(GPU, "configure")]


def test_a_rollout_under_way_is_a_wish(world: World) -> None:
    world.upload()
    world.commands.results["command-2"] = UNDER_WAY  # fetch takes its time
    world.begin()
    world.machines.become(GPU, MachineState.RUNNING)
    world.tick()
    for _ in range(25):
        world.tick(60)  # longer than the linger, and for the limit of fetch not too long
    assert world.machines.stops == []
    assert world.verbs() == [(GPU, "configure"), (GPU, "fetch")]


def test_the_plan_holds_addresses_and_settings_and_the_command_no_secret(world: World) -> None:
    world.artifacts.write(releases.settings_key("gpu"), b"# ours\nWHISPER_MAX_STREAMS=3\nLINK_ROLE=edge\n")
    name = world.upload()
    world.awake()
    rollout = world.begin()
    command = world.commands.sent[0][1]
    manifest = json.loads(world.artifacts.objects[f"releases/gpu/{name}.json"])
    runner = next(one for one in manifest["files"] if one["path"] == "bootstrap/release.pyz")
    key = f"rollouts/{rollout['id']}/{GPU}.json"
    assert command.document == "s-release"
    assert command.output == f"rollouts/{rollout['id']}/output/configure"
    assert {name: value for name, value in command.parameters.items() if name != "until"} == {
        "verb": ["configure"],
        "target": ["gpu"],
        "release": [sha256_of(manifest)],
        "runner": [f"https://bucket.example/{runner['key']}?for=3600"],
        "runnerSha256": [runner["sha256"]],
        "plan": [f"https://bucket.example/{key}?for=3600"],
        "timeout": ["60"],
    }
    plan = json.loads(world.artifacts.objects[key])
    assert plan["manifest"] == manifest
    assert plan["settings"] == {
        "LINK_API_URL": "https://api.example/api",
        "LINK_INSTANCE_ID": GPU,
        "LINK_ROLE": "gpu",
        "WHISPER_MAX_STREAMS": "3",
        "WHISPER_REQUIRE_TICKET": "true",
    }
    assert all(plan["urls"][one["key"]].startswith("https://bucket.example/files/") for one in manifest["files"])


def test_the_same_release_again_sends_nothing_and_wakes_nobody(world: World) -> None:
    name = world.upload()
    world.awake()
    world.begin()
    world.tick()
    world.awake(release=name)
    sent = len(world.verbs())
    world.machines.become(GPU, MachineState.STOPPED)
    world.tick()
    again = world.begin()
    assert (again["state"], [one["name"] for one in again["steps"]]) == ("succeeded", ["already current"])
    assert len(world.verbs()) == sent
    assert world.machines.starts == []
    world.artifacts.write(releases.settings_key("gpu"), b"WHISPER_MAX_STREAMS=3\n")
    changed = world.begin()
    assert [one["name"] for one in changed["steps"]] == ["wake"]


def test_a_host_that_says_otherwise_is_not_believed_to_be_current(world: World) -> None:
    name = world.upload()
    world.awake()
    world.begin()
    world.tick()
    world.awake(release="r0")
    world.commands.results |= {f"command-{number}": UNDER_WAY for number in range(7, 20)}
    assert world.begin(release=name)["state"] == "running"


def test_live_streams_refuse_it_unless_it_is_forced(world: World) -> None:
    world.upload()
    world.awake(sids=("s1", "s2"))
    with pytest.raises(Conflict) as refused:
        world.begin()
    assert refused.value.data["streams"] == [{"instance_id": GPU, "sid": "s1"}, {"instance_id": GPU, "sid": "s2"}]
    assert world.verbs() == []
    world.begin(force=True)
    world.tick()
    assert (GPU, "activate") in world.verbs()


def test_live_streams_do_not_matter_where_nothing_would_change(world: World) -> None:
    name = world.upload()
    world.awake()
    world.begin()
    world.tick()
    world.awake(sids=("s1",), release=name)
    sent = len(world.verbs())
    again = world.begin()
    assert (again["state"], [one["name"] for one in again["steps"]]) == ("succeeded", ["already current"])
    assert len(world.verbs()) == sent
    world.artifacts.write(releases.settings_key("gpu"), b"WHISPER_MAX_STREAMS=3\n")
    with pytest.raises(Conflict, match="One stream is live"):
        world.begin()


def test_a_stream_that_begins_meanwhile_is_waited_for(world: World) -> None:
    world.upload()
    world.awake()
    world.commands.results["command-3"] = UNDER_WAY  # stage takes its time
    rollout = world.begin()
    world.tick()
    world.awake(sids=("s1",))
    del world.commands.results["command-3"]
    world.tick()
    assert world.look(rollout)["steps"][-1]["waits_for"] == "live streams to end"
    assert (GPU, "activate") not in world.verbs()
    world.awake()
    assert world.look(rollout)["state"] == "succeeded"


def test_one_rollout_at_a_time_for_each_target(world: World) -> None:
    world.upload()
    world.upload(target="edge")
    first = world.begin()
    with pytest.raises(Conflict) as refused:
        world.begin()
    assert refused.value.data["rollout"] == first["id"]
    assert world.look(world.begin(Role.EDGE))["state"] == "succeeded"


def test_standbys_are_woken_one_after_the_other(world: World) -> None:
    world.add(STANDBY, Role.GPU, MachineState.STOPPED)
    world.awake()
    world.upload()
    rollout = world.begin()
    world.tick()
    assert world.verbs() == [(GPU, verb) for verb in ALL]
    assert world.machines.starts == [STANDBY]
    world.machines.become(STANDBY, MachineState.RUNNING)
    world.tick()
    world.tick()
    assert world.look(rollout)["state"] == "succeeded"
    assert world.verbs()[6:] == [(STANDBY, verb) for verb in ALL]


@pytest.mark.parametrize(
    ("number", "result", "state", "words"),
    [
        (
            2,
            CommandResult(CommandState.FAILED, 65, "release: model.bin is corrupt"),
            "failed",
            "fetch on i-gpu: model",
        ),
        (
            4,
            CommandResult(CommandState.FAILED, 71, "release: no start; r0 serves again"),
            "rolled_back",
            "activate on",
        ),
        (5, CommandResult(CommandState.FAILED, 71, "release: no words; r0 serves again"), "rolled_back", "verify on"),
        (3, CommandResult(CommandState.TIMED_OUT), "failed", "stage on i-gpu: it timed out"),
        (5, CommandResult(CommandState.TIMED_OUT), "rolled_back", "verify on i-gpu: it timed out"),
    ],
)
def test_each_failure_names_its_step_and_the_next_rollout_works(
    world: World, number: int, result: CommandResult, state: str, words: str
) -> None:
    world.upload()
    world.awake()
    world.commands.results[f"command-{number}"] = result
    rollout = world.begin()
    world.tick()
    over = world.look(rollout)
    assert over["state"] == state
    assert over["verdict"].startswith(words)
    assert ("release.rollback" if state == "rolled_back" else "release.fail") in world.actions()
    world.upload("2")
    again = world.begin()
    world.tick()
    assert world.look(again)["state"] == "succeeded"


def test_an_agent_that_is_late_by_a_minute_is_waited_for(world: World) -> None:
    world.upload()
    world.commands.offline.add(GPU)
    rollout = world.begin()
    world.machines.become(GPU, MachineState.RUNNING)
    world.tick()
    world.tick(60)
    assert world.look(rollout)["steps"][-1]["waits_for"] == "SSM's agent on the host"
    world.commands.offline.clear()
    world.tick(5)
    world.tick()
    assert world.look(rollout)["state"] == "succeeded"


def test_a_host_switched_off_in_the_middle_ends_it_and_is_not_started_again(world: World) -> None:
    world.upload()
    world.awake()
    world.commands.results["command-3"] = UNDER_WAY
    rollout = world.begin()
    world.tick()
    world.machines.become(GPU, MachineState.STOPPED)
    world.tick(5)
    over = world.look(rollout)
    assert over["state"] == "failed"
    assert over["verdict"].startswith("stage on i-gpu: the host was switched off in the middle")
    world.tick()
    assert world.machines.starts == []
    assert world.store.get(installation_key("gpu")) is None


def test_an_operators_stop_ends_the_rollout_and_a_session_goes_on_wanting(world: World) -> None:
    world.upload()
    world.awake()
    world.commands.results["command-2"] = UNDER_WAY
    rollout = world.begin()
    world.clock.advance(1)
    power.stop(world.context, OPERATOR, force=True, closed_until=None, reason="", cause=ANNA)
    assert world.machines.stops == [GPU]
    world.machines.become(GPU, MachineState.STOPPED)
    world.tick(5)
    assert world.look(rollout)["state"] == "failed"
    sessions.open_session(world.context, OPERATOR, sessions.Wanted(), None, ANNA)
    assert world.machines.starts == [GPU]


def test_reports_move_it_on(world: World) -> None:
    world.upload()
    world.awake()
    world.commands.results["command-1"] = UNDER_WAY
    rollout = world.begin()
    del world.commands.results["command-1"]
    world.awake()
    assert world.look(rollout)["state"] == "succeeded"


def test_what_is_not_there_is_said(world: World) -> None:
    with pytest.raises(NotFound, match="No release for gpu hosts was uploaded"):
        world.begin()
    with pytest.raises(NotFound, match="no release 0123456789abcdef"):
        world.begin(release="0123456789abcdef")
    with pytest.raises(NotFound, match="no rollout x"):
        world.look({"id": "x"})
    world.upload()
    without = Context(
        world.settings, rules_of(world.settings), world.store, world.machines, world.commands, world.clock
    )
    with pytest.raises(Conflict, match="BUCKET_NAME"):
        releases.begin(without, Role.GPU, None, False, "anna", "", ANNA)


def test_a_container_that_dies_between_sending_and_writing_is_followed(world: World) -> None:
    world.upload()
    world.awake()
    real = world.commands.send

    def dies(*_: Any) -> str:
        raise KeyboardInterrupt

    world.commands.send = dies  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        world.begin()
    world.commands.send = real  # type: ignore[method-assign]
    world.tick()
    assert world.verbs() == []  # it may be under way
    world.tick(60)
    world.awake()
    world.tick()
    assert world.verbs() == [(GPU, verb) for verb in ALL]
