"""Releases in the embedded cloud: the real API, SSM documents, bucket and release.py on hosts that are processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.releases import ROOT, scripts
from tests.stack import Stack, start_stack
from tests.waiting import wait_until
from whisperctl.releases import sources
from whisperctl.releases.manifest import Built, Source, build
from whisperctl.releases.upload import upload

RESTART = "systemctl restart whisperlive link"
OVER_S = 90.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with start_stack(tmp_path_factory.mktemp("stack") / "s", "--agent-seconds", "1") as running:
        yield running


def s3(stack: Stack) -> Any:
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    make: Any = boto3.client  # its overloads know no keywords that are spread
    return make("s3", endpoint_url=stack.aws_endpoint, region_name="us-east-1", **keys)


def release(stack: Stack, folder: Path, version: str, **faults: str) -> Built:
    """The real gpu_bootstrap with a small installer, uploaded."""
    folder = folder / version
    files = scripts(restart=RESTART, **faults) | {
        "bootstrap/version": version.encode(),
        "models/tiny/model.bin": b"w",
    }
    found: dict[str, Source] = {one.path: one for one in sources.bootstrap("gpu")}
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        found[path] = Source("model" if path.startswith("models") else "bootstrap", path, folder / path)
    built = build("gpu", found.values(), profile="cpu")
    upload(s3(stack), "local-releases", built, dry_run=False, say=lambda _: None)
    return built


def roll_out(stack: Stack, **body: Any) -> dict[str, Any]:
    answer = stack.call("POST", "/v1/releases/gpu", body=body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def over(stack: Stack, rollout: Mapping[str, Any]) -> dict[str, Any]:
    """The rollout when it is over."""

    def look() -> dict[str, Any] | None:
        found = stack.call("GET", f"/v1/rollouts/{rollout['id']}", role="viewer").json()
        return found if found["state"] != "running" else None

    return wait_until(look, OVER_S, "the rollout's end", every=0.3)


def home(stack: Stack) -> Path:
    return stack.state_dir / "hosts" / stack.gpu_instance_id / "opt" / "whisperlive"


def ctl(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "whisperctl", *arguments, "--state-dir", str(stack.state_dir)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("WHISPERCTL_")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_release_is_woken_for_installed_rolled_back_and_known(stack: Stack, tmp_path: Path) -> None:
    first = release(stack, tmp_path, "1")
    assert stack.phase() == "asleep"
    done = over(stack, roll_out(stack))
    assert (done["state"], done["verdict"]) == ("succeeded", f"{first.name} serves on {stack.gpu_instance_id}"), done
    names = [one["name"] for one in done["steps"]]
    assert names == ["wake", "configure", "fetch", "stage", "activate", "verify", "prune"]
    assert "activating, settings changed: 1" in done["steps"][4]["output_tail"]
    assert (home(stack) / "current").readlink().name == first.name
    # The host says so itself once its service runs from there.
    wait_until(
        lambda: (stack.status()["gpu"] or {}).get("release") == first.name, 60, "the release's report", every=0.3
    )

    fetch = done["steps"][2]
    prefix = f"rollouts/{done['id']}/output/fetch"
    place = f"{prefix}/{fetch['command_id']}/{stack.gpu_instance_id}/awsrunShellScript/run/stdout"
    whole = s3(stack).get_object(Bucket="local-releases", Key=place)["Body"].read().decode()
    assert f"{first.name}: " in whole

    again = over(stack, roll_out(stack))
    assert [one["name"] for one in again["steps"]] == ["already current"]
    sent = [str(one["parameters"].get("OutputS3KeyPrefix", "")) for one in stack.calls("SendCommand")]
    assert [one for one in sent if done["id"] in one]
    assert not [one for one in sent if again["id"] in one], "nothing is sent for what is there"

    bad = release(stack, tmp_path, "2", check="echo no words; exit 1")
    failed = over(stack, roll_out(stack))
    assert failed["state"] == "rolled_back"
    words = (
        f"verify on {stack.gpu_instance_id}: verify: check.sh of {bad.name} left with 1; {first.name} serves again"
    )
    assert failed["verdict"] == words
    assert (home(stack) / "current").readlink().name == first.name
    actions = [one["action"] for one in stack.call("GET", "/v1/events").json()["events"]]
    assert {"release.begin", "release.activate", "release.rollback"} <= set(actions)


def test_a_lost_command_an_agent_that_is_late_and_a_power_cut_each_have_a_verdict(
    stack: Stack, tmp_path: Path
) -> None:
    release(stack, tmp_path, "3")
    stack.faults(commands=[{"document": "local-release", "status": "Lost", "comment": "stage *"}])
    rollout = roll_out(stack)
    for _ in range(2):
        wait_until(lambda: _waits_in(stack, rollout, "stage"), OVER_S, "stage", every=0.2)
        stack.advance(31)
    lost = over(stack, rollout)
    assert lost["state"] == "failed"
    assert "stage on" in lost["verdict"]
    assert "its command was lost" in lost["verdict"]

    stack.faults()
    release(stack, tmp_path, "4", stage="systemctl poweroff; sleep 30")
    cut = over(stack, roll_out(stack))
    assert cut["state"] == "failed"
    assert cut["verdict"].startswith(f"stage on {stack.gpu_instance_id}: the host was switched off in the middle")
    stack.asleep()

    stack.faults(agent={"delay_s": 60})
    good = release(stack, tmp_path, "5")
    late = roll_out(stack)
    wait_until(lambda: _waits_in(stack, late, "configure"), OVER_S, "the agent", every=0.2)
    stack.advance(61)
    assert over(stack, late)["verdict"] == f"{good.name} serves on {stack.gpu_instance_id}"
    stack.faults()


def _waits_in(stack: Stack, rollout: Mapping[str, Any], step: str) -> bool:
    found = stack.call("GET", f"/v1/rollouts/{rollout['id']}", role="viewer").json()
    assert found["state"] == "running", found
    last = found["steps"][-1]
    return bool(last["name"] == step and (last["command_id"] or last["waits_for"]))


def test_the_operators_commands_reach_a_host_without_a_port(stack: Stack, tmp_path: Path) -> None:
    built = release(stack, tmp_path, "6")
    deployed = ctl(stack, "deploy", "gpu", "--release", built.name, "--watch", "--json")
    assert deployed.returncode == 0, deployed.stderr
    assert json.loads(deployed.stdout)["rollout"]["state"] == "succeeded"
    assert "verify: succeeded" in deployed.stderr
    shown = ctl(stack, "logs", "gpu", "--lines", "5")
    assert shown.returncode == 0, shown.stderr
    assert 0 < len(shown.stdout.splitlines()) <= 5
    link = json.loads(ctl(stack, "logs", "gpu", "--unit", "link", "--json").stdout)
    assert link["instance_id"] == stack.gpu_instance_id
    restarted = ctl(stack, "restart", "edge")
    assert (restarted.returncode, restarted.stdout) == (0, f"{stack.edge_instance_id} restarted Caddy\n"), (
        restarted.stderr
    )
    refused = ctl(stack, "deploy", "gpu", "--release", "0123456789abcdef")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "There is no release 0123456789abcdef" in refused.stderr
