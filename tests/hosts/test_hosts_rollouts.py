"""Rollouts that go wrong on real hosts: what served serves again, the verdict says why, and the next one works."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.conftest import Installed
from tests.hosts.deploying import BUCKET, MODEL, look, over, roll_out, variant, wait_in, with_script
from tests.hosts.streams import awake, is_known, open_stream, stream
from tests.hosts.world import World
from tests.waiting import wait_until
from tests.wss import SHORT, said, word_error_rate

pytestmark = pytest.mark.timeout(600)
GATE = "/run/may-go-on"


@dataclass
class Rollouts:
    """The GPU host of an installed world, and the release that serves there."""

    world: World
    serving: str
    directory: Path
    made: int = field(default=0)

    def variant(self, changes: dict[str, bytes]) -> str:
        """A release of its own, uploaded; its name."""
        self.made += 1
        version = {"bootstrap/version": str(self.made).encode()}
        return variant(self.world, self.directory / str(self.made), version | changes).name

    def current(self) -> str:
        return self.world.must(self.world.gpu, "readlink /opt/whisperlive/current").rpartition("/")[2]

    def run(self) -> str:
        """The run of the service: another one after each restart."""
        return self.world.must(self.world.gpu, "systemctl show -P InvocationID whisperlive")

    def goes_on_serving(self) -> None:
        """The release that served serves now, and says so to the control plane."""
        world = self.world
        assert self.current() == self.serving
        world.must(world.gpu, "systemctl is-active whisperlive && curl -fsS http://127.0.0.1:9091/health")
        wait_until(lambda: (world.stack.status()["gpu"] or {}).get("release") == self.serving, 30, "its report")

    def succeeds(self, rollout: dict[str, Any], release: str) -> None:
        done = over(self.world, rollout)
        assert (done["state"], done["verdict"]) == ("succeeded", f"{release} serves on {self.world.gpu}"), done
        self.serving = release
        self.goes_on_serving()


@pytest.fixture(scope="module")
def rollouts(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rollouts]:
    world = installed.world
    awake(world)
    serving = world.must(world.gpu, "readlink /opt/whisperlive/current").rpartition("/")[2]
    yield Rollouts(world, serving, tmp_path_factory.mktemp("variants"))
    world.stack.faults()


def test_a_release_whose_service_does_not_start(rollouts: Rollouts) -> None:
    world = rollouts.world
    bad = rollouts.variant({"bootstrap/serve.py": b"raise SystemExit(3)\n"})
    done = over(world, roll_out(world, bad))
    assert done["state"] == "rolled_back"
    why = f"activate: install.sh of {bad} left with 70; {rollouts.serving} serves again"
    assert done["verdict"] == f"activate on {world.gpu}: {why}"
    assert "whisperlive.service does not come up" in done["steps"][-1]["output_tail"]
    rollouts.goes_on_serving()


@pytest.mark.endurance
def test_a_model_that_is_no_model_does_not_start_and_one_that_came_corrupt_is_not_staged(rollouts: Rollouts) -> None:
    world = rollouts.world
    path = f"models/{MODEL}/model.bin"
    nonsense = rollouts.variant({path: b"no weights"})
    done = over(world, roll_out(world, nonsense))
    assert done["state"] == "rolled_back"
    why = f"activate: install.sh of {nonsense} left with 70; {rollouts.serving} serves again"
    assert done["verdict"] == f"activate on {world.gpu}: {why}"
    rollouts.goes_on_serving()

    run = rollouts.run()
    corrupt = variant(world, rollouts.directory / "corrupt", {path: b"as it was meant"})
    key = next(one["key"] for one in corrupt.manifest["files"] if one["path"] == path)
    world.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"as it is by now")
    done = over(world, roll_out(world, corrupt.name))
    assert done["state"] == "failed"
    assert done["verdict"].startswith(f"fetch on {world.gpu}: {path} is corrupt: its sha256 is not ")
    assert done["verdict"].endswith("; what served before serves on")
    assert rollouts.run() == run, "nothing was restarted"
    rollouts.goes_on_serving()


def test_a_release_whose_check_fails_and_a_stream_that_it_had_taken(rollouts: Rollouts) -> None:
    """Whoever speaks while it is on trial gets the last words and is asked to come back."""
    world = rollouts.world
    world.must(world.gpu, f"rm -f {GATE}")
    wait = f"until [ -e {GATE} ]; do sleep 0.1; done; echo no words; exit 1"
    bad = rollouts.variant(with_script("check.sh", wait))
    rollout = roll_out(world, bad)
    wait_in(world, rollout, "verify")
    with open_stream(world) as live:
        assert rollouts.current() == bad
        live.speak()
        wait_until(lambda: any("segments" in one for one in live.heard.messages), 60, "words from it")
        world.must(world.gpu, f"touch {GATE}")
        live.wait_closed()
    assert live.heard.close_code == 1012
    assert "NOTICE" in live.heard.statuses(), "it was told before"
    assert word_error_rate(said(SHORT), live.heard.text()) <= 0.15, "its last words came first"
    done = over(world, rollout)
    assert done["state"] == "rolled_back"
    why = f"verify: check.sh of {bad} left with 1; {rollouts.serving} serves again"
    assert done["verdict"] == f"verify on {world.gpu}: {why}"
    assert "no words" in done["steps"][-1]["output_tail"]
    rollouts.goes_on_serving()
    report = stream(world)
    assert report["wer"] <= 0.15, report["transcript"]


@pytest.mark.endurance
def test_a_stream_that_began_before_is_waited_for(rollouts: Rollouts) -> None:
    """A rollout is refused while somebody speaks; and who begins meanwhile is let finish."""
    world = rollouts.world
    world.must(world.gpu, f"rm -f {GATE}")
    good = rollouts.variant(with_script("install.sh", f"until [ -e {GATE} ]; do sleep 0.1; done"))
    rollout = roll_out(world, good)
    wait_in(world, rollout, "stage")
    with open_stream(world) as live:
        wait_until(lambda: is_known(world, live), 15, "the stream's report", every=0.2)
        refused = world.stack.call("POST", "/v1/releases/gpu", body={"release": rollouts.serving})
        assert refused.status_code == 409
        assert {"instance_id": world.gpu, "sid": live.session["id"]} in refused.json()["streams"]
        run = rollouts.run()
        world.must(world.gpu, f"touch {GATE}")
        wait_until(lambda: _waits_for_streams(world, rollout), 60, "activate to wait", every=0.3)
        live.finish()
        assert rollouts.run() == run
    assert live.heard.close_code == 1000
    assert word_error_rate(said(SHORT), live.heard.text()) <= 0.15
    rollouts.succeeds(rollout, good)


def _waits_for_streams(world: World, rollout: dict[str, Any]) -> bool:
    last = look(world, rollout)["steps"][-1]
    return bool(last["name"] == "activate" and last["waits_for"] == "live streams to end")


@pytest.mark.endurance
def test_a_lost_command_and_one_that_timed_out(rollouts: Rollouts) -> None:
    world = rollouts.world
    world.stack.faults(commands=[{"document": "local-release", "status": "Lost", "comment": "stage *"}])
    next_one = rollouts.variant({})
    rollout = roll_out(world, next_one)
    for _ in range(2):
        wait_in(world, rollout, "stage")
        world.stack.advance(31)
    lost = over(world, rollout)
    assert lost["state"] == "failed"
    words = f"stage on {world.gpu}: its command was lost: not delivered within 30 s, 2 times"
    assert lost["verdict"] == f"{words}; what served before serves on"
    world.stack.faults()
    rollouts.goes_on_serving()

    # It hangs where it serves already: the control plane has it taken back.
    hangs = rollouts.variant(with_script("check.sh", f"touch {GATE}.hangs; sleep infinity"))
    world.must(world.gpu, f"rm -f {GATE}.hangs")
    rollout = roll_out(world, hangs)
    wait_in(world, rollout, "verify")
    wait_until(lambda: world.run(world.gpu, f"test -e {GATE}.hangs")[0] == 0, 30, "the check to hang")
    world.let_pass(301)
    late = over(world, rollout)
    assert late["state"] == "rolled_back"
    assert late["verdict"] == f"verify on {world.gpu}: it timed out: no end within 300 s; taken back"
    assert late["steps"][-1]["name"] == "rollback"
    rollouts.goes_on_serving()
    rollouts.succeeds(roll_out(world, next_one), next_one)


@pytest.mark.endurance
def test_a_host_that_is_powered_off_in_the_middle_then_an_agent_that_is_late(rollouts: Rollouts) -> None:
    world = rollouts.world
    cut = rollouts.variant(with_script("install.sh", "systemctl poweroff", "sleep infinity"))
    done = over(world, roll_out(world, cut))
    assert done["state"] == "failed"
    words = f"stage on {world.gpu}: the host was switched off in the middle"
    assert done["verdict"] == f"{words}; what served before serves on"
    world.stack.asleep()

    world.stack.faults(agent={"delay_s": 60})
    next_one = rollouts.variant({})
    rollout = roll_out(world, next_one)
    wait_in(world, rollout, "configure")
    assert look(world, rollout)["steps"][-1]["waits_for"] == "SSM's agent on the host"
    world.stack.advance(61)
    rollouts.succeeds(rollout, next_one)
    world.stack.faults()
