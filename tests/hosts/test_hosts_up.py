"""An empty account, blank hosts, and the operator's three commands: the first word, once more, and nothing is left.

Real here: the commands, CloudFormation's order of things, the releases with their wheels and the model, what SSM runs
as root, the edge with its certificate, the launcher with Whisper, the words. Not AWS: see `docs/first-deploy.md`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployment.world import STACK, World, empty_account
from tests.stack import ROOT
from whisperctl.releases.sources import this_machine

pytestmark = [pytest.mark.timeout(900), pytest.mark.endurance]
LONGEST_S = 700.0
EDGES = {"x86_64": "t3.micro", "aarch64": "t4g.micro"}


@pytest.fixture
def account(tmp_path: Path) -> Iterator[World]:
    """An empty account whose machines are hosts with systemd."""
    with empty_account(tmp_path, "--hosts", "systemd", end_s=120) as world:
        yield world


def whisperctl(account: World, folder: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`whisperctl LINE` in this folder; a failure shows what it said."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "XDG_CACHE_HOME") if name in os.environ}
    keys = {"AWS_ACCESS_KEY_ID": "operator", "AWS_SECRET_ACCESS_KEY": "operator", "AWS_CONFIG_FILE": "/dev/null"}
    ran = subprocess.run(
        [sys.executable, "-m", "whisperctl", *line.split()],
        cwd=folder,
        env=kept | keys | {"AWS_ENDPOINT_URL": account.endpoint, "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert ran.returncode == 0, f"{line}: {ran.stdout}\n{ran.stderr[-4000:]}"
    return ran


def test_one_command_from_an_empty_account_to_a_spoken_word_and_one_back(account: World, tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    folder.mkdir()
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    whisperctl(
        account,
        folder,
        f"init --region us-east-1 --profile cpu --python {python} --certificate internal "
        f"--set EdgeType={EDGES[this_machine()]} --yes",
    )
    up = json.loads(whisperctl(account, folder, "up --json").stdout)
    assert [one["state"] for one in up["phases"]] == ["done"] * 5
    assert up["check"]["ok"] is True
    assert up["check"]["wer"] <= 0.15
    assert up["check"]["lost_seconds"] == 0

    # What it says to export is enough to go on with.
    said = {
        "AWS_REGION": up["region"],
        "WHISPERCTL_STAGE": up["stage"],
        "WHISPERCTL_TOKEN": up["token"],
        "WHISPERCTL_CA": up["ca_cert"],
    }
    status = json.loads(whisperctl(account, folder, "status --json", **said).stdout)
    assert status["edge"]["upstream_ok"] is not None
    assert any("release.activate" in one for one in whisperctl(account, folder, "events", **said).stdout.splitlines())

    again = json.loads(whisperctl(account, folder, "up --json").stdout)
    assert again["changed"] is False
    destroyed = json.loads(whisperctl(account, folder, f"destroy --confirm {STACK} --keep kept --json").stdout)
    assert destroyed["left"] == []
    actions = [json.loads(one)["action"] for one in (folder / "kept" / "events.jsonl").read_text().splitlines()]
    assert {"release.activate", "session.open", "session.close"} <= set(actions)
    assert (account.stack(), account.tagged()) == (None, set())
