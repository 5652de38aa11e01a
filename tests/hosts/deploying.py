"""Releases on systemd hosts as an operator rolls them out, and releases that are not as they should be."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.hosts.world import World
from tests.stack import whisperctl
from tests.waiting import wait_until
from whisperctl.commands.deploy import gather
from whisperctl.releases.manifest import Built, Source, build
from whisperctl.releases.sources import this_machine
from whisperctl.releases.upload import upload

HOMES = {"gpu": "/opt/whisperlive", "edge": "/opt/edge"}
MODEL = "tiny.en"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The hosts' Python is this machine's: their root tree is of the same Debian."""
BUCKET = "local-releases"
LONGEST_S = 420.0


def settings_of(world: World, target: str) -> dict[str, str]:
    """The operator's lines for the hosts of this cloud."""
    key = {"LINK_KEY_FILE": "/etc/whisperlive-edge/host.key"}
    if target == "gpu":
        return key | {"WHISPER_MAX_STREAMS": "4"}
    api, _, stage = world.stack.api_url.rpartition("/")
    return key | {
        "LINK_EDGE_URL": f"{world.stack.edge_url}/healthz",
        "EDGE_SITE": world.address(world.edge),
        "EDGE_ORIGINS": world.stack.edge_url,
        "EDGE_API": api,
        "EDGE_API_STAGE": f"/{stage}",
        "EDGE_STREAMS_PER_GPU": "68",
        "EDGE_HSTS": "max-age=0",
    }


def deploy(world: World, target: str, *options: str, exit_code: int = 0) -> dict[str, Any]:
    """`whisperctl deploy TARGET OPTIONS --watch`; its report."""
    arguments = ("deploy", target, *options, "--watch", "--json", "--state-dir", str(world.stack.state_dir))
    run = whisperctl(*arguments, timeout=LONGEST_S)
    assert run.returncode == exit_code, f"{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
    return dict(json.loads(run.stdout))


def deploy_from_here(world: World, target: str, directory: Path) -> dict[str, Any]:
    """Build a release of this checkout, CPU profile, and roll it out with the cloud's settings; the report."""
    settings = directory / f"{target}.env"
    settings.write_text("".join(f"{key}={value}\n" for key, value in settings_of(world, target).items()))
    kind = ("--profile", "cpu", "--model", MODEL, "--python", PYTHON) if target == "gpu" else ()
    report = deploy(world, target, *kind, "--settings", str(settings))
    assert report["rollout"]["state"] == "succeeded", report["rollout"]
    return report


def variant(world: World, directory: Path, changes: Mapping[str, bytes]) -> Built:
    """This checkout's GPU release with other files, uploaded; nobody rolls it out."""
    found: dict[str, Source] = {one.path: one for one in gather("gpu", "cpu", MODEL, this_machine(), (PYTHON,), None)}
    for path, content in changes.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(content)
        kind = {"models": "model"}.get(path.split("/")[0], path.split("/")[0])
        found[path] = Source(kind, path, directory / path)
    built = build("gpu", found.values(), profile="cpu", model=MODEL)
    upload(world.client("s3"), BUCKET, built, dry_run=False, say=lambda _: None)
    return built


def with_script(path: str, *lines: str) -> dict[str, bytes]:
    """A script of the checkout that does these lines of shell first."""
    from tests.stack import ROOT

    text = (ROOT / "gpu_bootstrap" / path).read_text()
    shebang, rest = text.split("\n", 1)
    return {f"bootstrap/{path}": "\n".join([shebang, *lines, rest]).encode()}


def roll_out(world: World, release: str, target: str = "gpu", **body: Any) -> dict[str, Any]:
    """Begin a rollout; the Rollout."""
    answer = world.stack.call("POST", f"/v1/releases/{target}", body={"release": release, **body})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def look(world: World, rollout: Mapping[str, Any]) -> dict[str, Any]:
    return dict(world.stack.call("GET", f"/v1/rollouts/{rollout['id']}", role="viewer").json())


def over(world: World, rollout: Mapping[str, Any]) -> dict[str, Any]:
    """The rollout when it is over."""

    def ended() -> dict[str, Any] | None:
        found = look(world, rollout)
        return found if found["state"] != "running" else None

    return wait_until(ended, LONGEST_S, "the rollout's end", every=0.5)


def wait_in(world: World, rollout: Mapping[str, Any], step: str) -> None:
    """Until the rollout is in this step: its command is sent, or it waits for something."""

    def there() -> bool:
        found = look(world, rollout)
        assert found["state"] == "running", found
        last = found["steps"][-1] if found["steps"] else {"name": ""}
        return bool(last["name"] == step and (last["command_id"] or last["waits_for"]))

    wait_until(there, 120, f"the step {step}", every=0.2)
