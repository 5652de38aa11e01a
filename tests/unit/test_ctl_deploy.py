"""Building a release: its name, what is sent, and what an operator is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto import mock_aws

from whisperctl.aws import Account, find_account
from whisperctl.cli import cli
from whisperctl.commands.deploy import check_settings, follow
from whisperctl.commands.hosts import shell_of, split
from whisperctl.errors import UsageError
from whisperctl.releases import sources
from whisperctl.releases.archive import archive
from whisperctl.releases.manifest import Source, build
from whisperctl.releases.upload import upload
from whisperctl.stack import StackInfo

AWS = StackInfo("https://speech.example", "https://speech.example/api")


def tree(folder: Path) -> list[Source]:
    for path, content in {"bootstrap/a.sh": b"#!/bin/sh", "bootstrap/b": b"b", "models/t/model.bin": b"w"}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    kinds = {"models": "model"}
    found = (path for path in folder.rglob("*") if path.is_file())
    return [
        Source(kinds.get(one.parts[0], one.parts[0]), one.as_posix(), folder / one)
        for one in (path.relative_to(folder) for path in found)
    ]


def test_the_same_input_has_the_same_name_wherever_and_whenever(tmp_path: Path) -> None:
    first = build("gpu", tree(tmp_path / "a"), profile="cpu")
    second = build("gpu", reversed(tree(tmp_path / "elsewhere" / "b")), profile="cpu")
    assert (first.name, first.manifest) == (second.name, second.manifest)
    # The name is part of the contract with hosts and with releases that lie in buckets already.
    assert first.name == "8a7785e1eacb5c6f"
    assert build("gpu", tree(tmp_path / "a"), profile="cuda").name != first.name


def test_a_byte_more_is_another_release(tmp_path: Path) -> None:
    found = tree(tmp_path)
    first = build("gpu", found)
    (tmp_path / "bootstrap/b").write_bytes(b"c")
    assert build("gpu", found).name != first.name


def test_what_the_bucket_has_is_not_sent_again(tmp_path: Path) -> None:
    with mock_aws():
        s3: Any = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")  # noqa: S106
        s3.create_bucket(Bucket="a-bucket")
        found = tree(tmp_path)
        first = build("gpu", found)
        dry = upload(s3, "a-bucket", first, dry_run=True, say=lambda _: None)
        assert (dry.files, dry.bytes) == (3, 11)
        assert "Contents" not in s3.list_objects_v2(Bucket="a-bucket")
        assert upload(s3, "a-bucket", first, dry_run=False, say=lambda _: None).files == 3
        again = upload(s3, "a-bucket", first, dry_run=False, say=lambda _: None)
        assert (again.files, again.release_was_there) == (0, True)
        (tmp_path / "bootstrap/b").write_bytes(b"c")
        second = build("gpu", found)
        said: list[str] = []
        assert upload(s3, "a-bucket", second, dry_run=False, say=said.append).files == 1
        assert said == ["uploading 1 of 1: bootstrap/b, 0.0 MB"]
        latest = s3.get_object(Bucket="a-bucket", Key="releases/gpu/latest")["Body"].read().decode()
        assert latest == second.name


def test_the_checkouts_files_are_in_it_and_its_litter_is_not(tmp_path: Path) -> None:
    for name in ("gpu_bootstrap", "edge_bootstrap", "site"):
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(sources.ROOT / name, tmp_path / name, symlinks=True, ignore=unwanted)
    clean = [one.path for one in sources.bootstrap("gpu", tmp_path)]
    assert {"bootstrap/release.pyz", "bootstrap/link.py", "bootstrap/hostlink/main.py"} <= set(clean)
    (tmp_path / "gpu_bootstrap/__pycache__").mkdir()
    for litter in ("__pycache__/x.pyc", ".swp", "serve.py~"):
        (tmp_path / "gpu_bootstrap" / litter).touch()
    assert [one.path for one in sources.bootstrap("gpu", tmp_path)] == clean
    edge = {one.path: one.kind for one in sources.bootstrap("edge", tmp_path)}
    assert edge["bootstrap/Caddyfile"] == "bootstrap"
    assert edge["site/index.html"] == "site"
    # Links in the tree, of a file and of a folder; files in the release.
    assert edge["bootstrap/release.py"] == edge["bootstrap/hostlink/main.py"] == "bootstrap"


def test_the_runners_archive_depends_on_its_files_alone(tmp_path: Path) -> None:
    first = archive(sources.ROOT / "gpu_bootstrap")
    assert archive(sources.ROOT / "edge_bootstrap") == first, "both hosts run the same"
    shutil.copytree(sources.ROOT / "edge_bootstrap", tmp_path / "copy", copy_function=shutil.copyfile)
    assert archive(tmp_path / "copy") == first
    (tmp_path / "copy/releasing/steps.py").write_text("")
    assert archive(tmp_path / "copy") != first


def test_a_model_comes_by_name_or_from_a_folder(tmp_path: Path) -> None:
    packaged = {one.path for one in sources.model("tiny.en")}
    assert "models/tiny.en/model.bin" in packaged
    (tmp_path / "model.bin").write_bytes(b"w")
    (tmp_path / "config.json").write_text("{}")
    assert [one.path for one in sources.model("small.en", tmp_path)] == [
        "models/small.en/config.json",
        "models/small.en/model.bin",
    ]
    with pytest.raises(UsageError, match="no package here has the model"):
        list(sources.model("small.en"))
    with pytest.raises(UsageError, match="holds no model"):
        list(sources.model("small.en", tmp_path / "nothing"))
    with pytest.raises(UsageError, match="no name of a model"):
        list(sources.model("../x", tmp_path))


def test_wheels_are_asked_for_once_by_hash_and_for_the_hosts_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[list[str]] = []

    def pip(command: list[str], **_: Any) -> Any:
        runs.append(command)
        Path(command[command.index("--dest") + 1], "a-1-py3-none-any.whl").write_bytes(b"wheel")

        class Done:
            returncode = 0

        return Done

    monkeypatch.setattr("subprocess.run", pip)
    lock = tmp_path / "lock.txt"
    lock.write_text("a==1 --hash=sha256:00")
    for _ in range(2):
        found = list(sources.wheels(lock, "aarch64", ["3.12"], "https://index.example/simple", tmp_path / "cache"))
        assert [one.path for one in found] == ["wheels/a-1-py3-none-any.whl"]
    assert len(runs) == 1
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps", "https://index.example/simple"} <= set(runs[0])
    tags = [runs[0][at + 1] for at, word in enumerate(runs[0]) if word == "--platform"]
    assert tags[0] == "manylinux_2_36_aarch64"
    assert "manylinux2014_aarch64" in tags
    assert runs[0][runs[0].index("--python-version") + 1] == "3.12"


@pytest.mark.parametrize("line", ["a=b", "A", "A='b'", "A=$B", "A=`id`", "A=b\\c"])
def test_a_setting_that_a_host_would_refuse_is_refused_here(tmp_path: Path, line: str) -> None:
    path = tmp_path / "gpu.env"
    path.write_text(f"# fine\n\nWHISPER_MAX_STREAMS=3\n{line}\n")
    with pytest.raises(UsageError, match="line 4"):
        check_settings(path)


def test_a_watcher_sees_every_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    def step(state: str, seconds: float | None, waits_for: str | None = None) -> dict[str, Any]:
        return {"host": "i-1", "name": "fetch", "state": state, "seconds": seconds, "waits_for": waits_for}

    answers = [
        {"id": "r", "state": "running", "steps": [step("running", None)]},
        {"id": "r", "state": "running", "steps": [step("running", None, "SSM's agent")]},
        {"id": "r", "state": "succeeded", "steps": [step("succeeded", 4.2)]},
    ]

    class Told:
        def rollout(self, _: str) -> dict[str, Any]:
            return answers.pop(0)

    told: Any = Told()
    assert follow(told, answers[0], sleep=lambda _: None)["state"] == "succeeded"
    assert capsys.readouterr().err.splitlines() == [
        "i-1  fetch: running",
        "i-1  fetch: running (waits for SSM's agent)",
        "i-1  fetch: succeeded after 4 s",
    ]


def test_a_stack_in_aws_is_named() -> None:
    with pytest.raises(UsageError, match="--stage, or --stack"):
        find_account(AWS, {})
    assert find_account(AWS, {"WHISPERCTL_STACK": "ours"}) == Account("ours", "", None)
    assert find_account(AWS, {}, name="ours", bucket="b").releases() == "b"


def test_the_bucket_is_the_one_that_the_stack_names(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"Other": "x", "BucketName": "ours-bucket-1"}
    outputs = [{"OutputKey": key, "OutputValue": value} for key, value in values.items()]

    class CloudFormation:
        def describe_stacks(self, StackName: str) -> dict[str, Any]:
            return {"Stacks": [{"StackName": StackName, "Outputs": outputs}]}

    monkeypatch.setattr(Account, "client", lambda *_: CloudFormation())
    assert Account("ours", "", None).releases() == "ours-bucket-1"
    outputs.pop()
    with pytest.raises(UsageError, match="give --bucket"):
        Account("ours", "", None).releases()


def test_a_shell_says_what_is_missing_and_what_it_becomes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    account = Account("ours", "b", None)
    monkeypatch.setattr("shutil.which", lambda program: None if program == "session-manager-plugin" else "/bin/x")
    with pytest.raises(UsageError, match="Session Manager plugin"):
        shell_of(account, AWS, "i-1")
    monkeypatch.setattr("shutil.which", lambda _: "/bin/x")
    assert shell_of(account, AWS, "i-1")[0] == ["aws", "ssm", "start-session", "--target", "i-1"]
    local = StackInfo(
        "https://localhost:8443", "http://127.0.0.1:1", aws_endpoint="http://127.0.0.1:2", state_dir=tmp_path
    )
    with pytest.raises(UsageError, match="is the machine awake"):
        shell_of(find_account(local, {}), local, "i-1")
    (tmp_path / "hosts/i-1/run").mkdir(parents=True)
    argv, env = shell_of(find_account(local, {}), local, "i-1")
    assert argv[0] == "/bin/sh"
    assert env["PREFIX"] == str(tmp_path / "hosts/i-1")


def test_a_logs_end_is_remembered() -> None:
    assert split("one\ntwo\n-- cursor: s=1;i=2\n") == ("one\ntwo\n", "s=1;i=2")
    assert split("", "s=1") == ("", "s=1")


def test_the_verbs_are_there_and_say_how_they_end() -> None:
    for verb in ("deploy", "restart", "logs", "shell"):
        shown = CliRunner().invoke(cli, [verb, "--help"])
        assert shown.exit_code == 0, shown.output
        assert "Exit codes" in shown.output
