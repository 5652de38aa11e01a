"""What ships to Lambda: built by `chalice package`, imported and called in a clean interpreter."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 1_500_000
LAMBDA_HAS = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
"""What Lambda's Python runtime brings along."""

CALL = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import app
event = json.load(sys.stdin)
assert all(callable(getattr(app, name)) for name in ("app", "tick", "machine_event", "command_event"))
from chalicelib import wiring
slow = [name for name in ("aws_lambda_powertools.tracing", "numpy", "jwt", "pydantic") if name in sys.modules]
answer = app.app(event, None)
from chalicelib.aws import commands, machines, store
from chalicelib.domain import tickets
ticket = tickets.sign(tickets.TicketKey("k", "s" * 32, 0.0), "sid", 1e10)
from chalicelib.telemetry import logger
logger().info("it logs")
print(json.dumps({"answer": answer, "slow": slow, "ticket": ticket, "chalicelib": app.web.__file__}))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `chalice package` fills; built from a copy, so that the tree stays as it is."""
    project = tmp_path_factory.mktemp("project")
    for name in ("app.py", "requirements.txt"):
        shutil.copy(ROOT / name, project)
    leave = shutil.ignore_patterns("deployments", "__pycache__", "deployed")
    for name in ("chalicelib", ".chalice"):
        shutil.copytree(ROOT / name, project / name, ignore=leave)
    chalice = Path(sys.executable).with_name("chalice")
    run = subprocess.run(
        [str(chalice), "package", "--stage", "dev", "out"],
        cwd=project,
        env={**os.environ, "AWS_DEFAULT_REGION": "eu-central-1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    # chalice leaves a wheel out that it cannot build, and still exits 0.
    assert "Could not install" not in run.stdout + run.stderr
    return project / "out"


def test_it_is_small_and_holds_only_the_control_plane(package: Path) -> None:
    archive = package / "deployment.zip"
    assert archive.stat().st_size < MOST_BYTES
    names = {name.split("/")[0] for name in zipfile.ZipFile(archive).namelist()}
    assert {"app.py", "chalicelib", "chalice", "aws_lambda_powertools", "jwt"} <= names
    assert not names & {"boto3", "botocore", "numpy", "pydantic", "gpu_bootstrap", "whisperctl", "site", "tests"}


def test_every_handler_comes_up_in_a_clean_interpreter(package: Path, tmp_path: Path) -> None:
    code, runtime = tmp_path / "code", tmp_path / "runtime"
    zipfile.ZipFile(package / "deployment.zip").extractall(code)
    runtime.mkdir()
    for name in LAMBDA_HAS:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        origin = Path(found.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (runtime / source.name).symlink_to(source)
    event = {
        "headers": {},
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "body": None,
        "requestContext": {"resourcePath": "/v1/health", "httpMethod": "GET", "requestId": "r"},
    }
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CALL, str(code), str(runtime)],
        input=json.dumps(event),
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    result: dict[str, Any] = json.loads(run.stdout)
    assert json.loads(result["answer"]["body"])["ok"] is True
    assert result["slow"] == []
    assert result["ticket"].count(".") == 2
    assert result["chalicelib"].startswith(str(code))


def test_each_function_has_its_own_policy_and_limits(package: Path) -> None:
    resources = json.loads((package / "sam.json").read_text())["Resources"]
    functions = {k: v["Properties"] for k, v in resources.items() if v["Type"] == "AWS::Serverless::Function"}
    assert {one["Handler"] for one in functions.values()} == {
        "app.app",
        "app.tick",
        "app.machine_event",
        "app.command_event",
    }
    for one in functions.values():
        assert one["Timeout"] == 29  # shorter than the reconcile lease
        assert one["MemorySize"] == 512
        assert one["Architectures"] == ["arm64"]
    roles = {name: one for name, one in resources.items() if one["Type"] == "AWS::IAM::Role"}
    assert set(roles) == {f"{name}Role" for name in ("ApiHandler", "Tick", "MachineEvent", "CommandEvent")}
    for role in roles.values():
        for statement in role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            assert not [action for action in actions if "*" in action]
            if statement["Resource"] == "*":
                # AWS knows no narrower resource for these.
                assert actions in (["ec2:DescribeInstances"], ["ssm:GetCommandInvocation"])
