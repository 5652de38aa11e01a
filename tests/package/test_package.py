"""What ships to Lambda: built by `chalice package`, imported and called in a clean interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import chalice
import pytest

from tests.package.conftest import Made
from whisperctl import packaging
from whisperctl.packaging import MOST_BYTES, NOT_BUILT, PackagingError, build, functions

pytestmark = pytest.mark.timeout(600)  # pip downloads, and the linter takes its time on a busy machine

HANDLERS = ("app", "tick", "probe", "machine_event", "command_event")


def test_it_is_small_and_holds_only_the_control_plane(archive: Path) -> None:
    assert archive.stat().st_size < MOST_BYTES
    names = {name.split("/")[0] for name in zipfile.ZipFile(archive).namelist()}
    assert {"app.py", "chalicelib", "chalice", "aws_lambda_powertools", "jwt"} <= names
    assert not names & {"boto3", "botocore", "numpy", "pydantic", "gpu_bootstrap", "whisperctl", "site", "tests"}


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
