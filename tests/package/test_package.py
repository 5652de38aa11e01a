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

import chalice
import pytest

from tests.package.conftest import Made
from whisperctl import packaging
from whisperctl.packaging import MOST_BYTES, NOT_BUILT, PackagingError, build, functions

pytestmark = pytest.mark.timeout(600)  # pip downloads, and the linter takes its time on a busy machine

HANDLERS = ("app", "tick", "probe", "machine_event", "command_event")
LAMBDA_HAS = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
"""What Lambda's Python runtime brings along."""

CALL = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import app
event = json.load(sys.stdin)
assert all(callable(getattr(app, name)) for name in ("app", "tick", "probe", "machine_event", "command_event"))
from chalicelib import wiring
late = ("aws_lambda_powertools.tracing", "numpy", "jwt", "pydantic", "wsproto", "chalicelib.net.canary")
slow = [name for name in late if name in sys.modules]
answer = app.app(event, None)
from chalicelib.aws import commands, machines, store
from chalicelib.domain import tickets
ticket = tickets.sign(tickets.TicketKey("k", "s" * 32, 0.0), "sid", 1e10)
from chalicelib.net import canary
assert len(canary.speech()) > 48000
from chalicelib.telemetry import logger
logger().info("it logs")
print(json.dumps({"answer": answer, "slow": slow, "ticket": ticket, "chalicelib": app.web.__file__}))
"""


def test_it_is_small_and_holds_only_the_control_plane(archive: Path) -> None:
    assert archive.stat().st_size < MOST_BYTES
    names = {name.split("/")[0] for name in zipfile.ZipFile(archive).namelist()}
    assert {"app.py", "chalicelib", "chalice", "aws_lambda_powertools", "jwt"} <= names
    assert not names & {"boto3", "botocore", "numpy", "pydantic", "gpu_bootstrap", "whisperctl", "site", "tests"}


def test_every_handler_comes_up_in_a_clean_interpreter(archive: Path, tmp_path: Path) -> None:
    code, runtime = tmp_path / "code", tmp_path / "runtime"
    shutil.unpack_archive(archive, code)
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


def test_each_function_has_its_own_policy_and_limits(made: Made) -> None:
    found = {name: one["Properties"] for name, one in functions(made.template).items()}
    assert {one["Handler"] for one in found.values()} == {f"app.{name}" for name in HANDLERS}
    for one in found.values():
        assert one["Timeout"] == 29  # shorter than the reconcile lease
        assert one["MemorySize"] == 512
        assert one["Architectures"] == ["arm64"]
        assert one["Runtime"] == "python3.11"  # whatever packages
    roles = {name: one for name, one in made.of_type("AWS::IAM::Role").items() if "lambda" in json.dumps(one)}
    assert {one["Role"]["Fn::GetAtt"][0] for one in found.values()} <= set(roles)
    assert len({one["Role"]["Fn::GetAtt"][0] for one in found.values()}) == len(found)


def test_the_same_sources_give_the_same_bytes(packages: dict[str, Made], tmp_path: Path) -> None:
    again = build(tmp_path / "again", "prod")
    before = packages["prod"].package
    assert again.sha256 == before.sha256
    assert again.archive.read_bytes() == before.archive.read_bytes()
    assert again.template.read_bytes() == before.template.read_bytes()


def test_a_dependency_without_a_wheel_for_lambda_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chalice leaves out what it cannot build, says so, and exits with 0."""
    assert NOT_BUILT in (Path(chalice.__file__).parent / "constants.py").read_text()
    said = f"Creating deployment package.\n\n{NOT_BUILT} dependencies:\nnumpy==2.4.0\nYou will have to build these."
    done = subprocess.CompletedProcess([], 0, said, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(PackagingError, match=r"was left out: .*numpy==2\.4\.0"):
        build(tmp_path / "out")


def test_an_archive_that_grew_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(project: Path, _stage: str) -> Path:
        with zipfile.ZipFile(project / "deployment.zip", "w") as zipped:
            zipped.writestr("noise", os.urandom(MOST_BYTES))
        (project / "sam.json").write_text('{"Resources": {}}')
        return project

    monkeypatch.setattr(packaging, "_chalice", made)
    with pytest.raises(PackagingError, match="1500000 are allowed"):
        build(tmp_path / "out")
