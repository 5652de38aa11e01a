"""The doctor's judgements, each shown both ways; its looks at AWS on moto; and that an archive holds no secret."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import numpy
import pytest
from botocore.client import BaseClient
from moto import mock_aws

from tests.app.api import IMAGE, REGION, run_instance
from whisperctl.aws import Account
from whisperctl.doctor import findings
from whisperctl.doctor.account import AwsLook
from whisperctl.doctor.bundle import redacted, write
from whisperctl.doctor.entry import clip
from whisperctl.doctor.findings import Finding, Verdict

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
EDGE_GROUP: dict[str, Any] = {"GroupId": "sg-e", "IpPermissions": [
    {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    for port in (80, 443)
]}  # fmt: skip
GPU_GROUP: dict[str, Any] = {"GroupId": "sg-g", "IpPermissions": [
    {"IpProtocol": "tcp", "FromPort": 9090, "ToPort": 9090, "UserIdGroupPairs": [{"GroupId": "sg-e"}]}
]}  # fmt: skip


def bad(found: Finding | Iterable[Finding]) -> list[str]:
    """Names of what is a problem or a warning; each must come with a remedy."""
    listed = [found] if isinstance(found, Finding) else list(found)
    wrong = [one for one in listed if one.verdict in (Verdict.PROBLEM, Verdict.WARNING)]
    assert all(one.remedy for one in wrong)
    assert not [one for one in listed if one.verdict is Verdict.OK and one.remedy]
    return [one.name for one in wrong]


def status(**more: Any) -> dict[str, Any]:
    edge = {
        "instance_id": "i-e",
        "reported_at": "2026-11-28T12:00:00Z",
        "upstream_ok": True,
        "upstreams": ["10.0.0.4"],
    }
    gpu = {"type": "g4dn.xlarge", "device": "cuda"}
    return {"phase": "ready", "reason": "r", "admission": {"open": True}, "edge": edge, "gpu": gpu, **more}


def ping(minutes: float, state: str = "Online") -> dict[str, Any]:
    return {"PingStatus": state, "LastPingDateTime": NOW - timedelta(minutes=minutes), "AgentVersion": "3.3"}


def host(line: str, now: float = 0.0) -> list[Finding]:
    return list(findings.on_host("i", "gpu", line, now))


def sign(log: str) -> list[Finding]:
    return list(findings.signs("i", log))


LAUNCHED = NOW - timedelta(hours=1)
CASES: dict[str, tuple[Any, Any]] = {
    "plain http": (findings.secure_context("https://a.example"), findings.secure_context("http://a.example")),
    "localhost": (findings.secure_context("http://localhost:8080"), findings.secure_context("http://192.0.2.1")),
    "clock": (findings.clock_skew(-3, "here"), findings.clock_skew(-90, "here")),
    "certificate over": (findings.certificate(60, "", False), findings.certificate(0.5, "", False)),
    "not trusted": (findings.certificate(0.4, "", True), findings.certificate(None, "self-signed", False)),
    "service": (list(findings.service(status())), list(findings.service(status(phase="failed")))),
    "no capacity": (list(findings.service(status())), list(findings.service(status(phase="waking.capacity")))),
    "closed": (
        list(findings.service(status())),
        list(findings.service(status(admission={"open": False, "because": "closed until 06:00 for the night"}))),
    ),
    "upstream": (
        list(findings.service(status())),
        list(findings.service(status(edge={"reported_at": "x", "upstream_ok": False, "upstreams": ["10.0.0.9"]}))),
    ),
    "edge silent": (list(findings.service(status())), list(findings.service(status(edge={"reported_at": None})))),
    "driver": (findings.device(status()), findings.device(status(gpu={"type": "g5.xlarge", "device": "cpu"}))),
    "quota": (findings.quota(8, 4, "g4dn.xlarge"), findings.quota(0, 4, "g4dn.xlarge")),
    "shutdown": (findings.shutdown_behaviour("i", "stop"), findings.shutdown_behaviour("i", "terminate")),
    "agent never": (findings.agent("i", ping(1), LAUNCHED, NOW), findings.agent("i", None, LAUNCHED, NOW)),
    "agent lost": (findings.agent("i", ping(1), LAUNCHED, NOW), findings.agent("i", ping(5, "Lost"), LAUNCHED, NOW)),
    "agent of the last boot": (
        findings.agent("i", ping(1), LAUNCHED, NOW), findings.agent("i", ping(1), NOW - timedelta(seconds=9), NOW)
    ),
    "path": (list(findings.security([GPU_GROUP], [EDGE_GROUP])),
             list(findings.security([{**GPU_GROUP, "IpPermissions": []}], [EDGE_GROUP]))),
    "GPU open": (list(findings.security([GPU_GROUP], [EDGE_GROUP])),
                 list(findings.security([GPU_GROUP, {"GroupId": "w", "IpPermissions": EDGE_GROUP["IpPermissions"]}],
                                        [EDGE_GROUP]))),
    "edge shut": (list(findings.security([GPU_GROUP], [EDGE_GROUP])),
                  list(findings.security([GPU_GROUP], [{"GroupId": "sg-e", "IpPermissions": []}]))),
    "image gone": (list(findings.image({"i": "ami-1"}, {"ami-1": {"State": "available"}}, NOW)),
                   list(findings.image({"i": "ami-1"}, {}, NOW))),
    "image of arm": (list(findings.image({"i": "ami-1"}, {"ami-1": {"Architecture": "x86_64"}}, NOW)),
                     list(findings.image({"i": "ami-1"}, {"ami-1": {"Architecture": "arm64"}}, NOW))),
    "image drift": (list(findings.image({"i": "a", "j": "a"}, {"a": {}}, NOW)),
                    list(findings.image({"i": "a", "j": "b"}, {"a": {}, "b": {}}, NOW))),
    "image old": (list(findings.image({"i": "a"}, {"a": {"DeprecationTime": "2027-01-01T00:00:00.000Z"}}, NOW)),
                  list(findings.image({"i": "a"}, {"a": {"DeprecationTime": "2026-01-01T00:00:00.000Z"}}, NOW))),
    "lambda": (findings.lambda_limit(1000), findings.lambda_limit(10)),
    "nobody is told": (findings.subscriptions([], True), findings.subscriptions([], False)),
    "not confirmed": (findings.subscriptions([], True),
                      findings.subscriptions([{"SubscriptionArn": "PendingConfirmation"}], True)),
    "host clock": (host("epoch 1000", 1001.0), host("epoch 1000", 2000.0)),
    "host disk": (host("disk_free_percent 40"), host("disk_free_percent 3")),
    "unit off": (host("unit caddy.service enabled active"), host("unit caddy.service disabled active")),
    "unit down": (host("unit caddy.service enabled active"), host("unit caddy.service enabled inactive")),
    "host driver": (host("driver 550.90.07, Tesla T4"), host("driver none")),
    "way to the GPU": (host("reach 10.0.0.4 yes"), host("reach 10.0.0.4 no")),
    "Int16": (sign("closed 1000"), sign("4400 a frame of 4097 bytes is not whole float32 samples of 4 bytes")),
    "Int16, even": (sign(""), sign("a frame holds samples that are no finite numbers; is it really float32?")),
    "GPU memory": (sign("memory ok"), sign("RuntimeError: CUDA out of memory")),
    "full": (sign(""), sign("OSError: [Errno 28] No space left on device")),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_a_trouble_is_found_and_health_is_not_one(name: str) -> None:
    well, ill = CASES[name]
    assert bad(well) == []
    assert len(bad(ill)) >= 1


def floats(path: Path, samples: Any, kind: str) -> Path:
    path.write_bytes(numpy.asarray(samples, kind).tobytes())
    return path


def test_audio_as_a_client_sends_it(tmp_path: Path) -> None:
    tone = numpy.sin(numpy.arange(16000) * 0.05) * 0.3
    assert bad(clip(floats(tmp_path / "f", tone, "<f4"))) == []
    int16 = clip(floats(tmp_path / "i", tone * 32767, "<i2"))
    assert (bad(int16), "looks like Int16" in int16.detail) == (["audio format"], True)
    assert "head" in clip(Path(__file__).resolve().parents[2] / "whisperctl" / "speech" / "check.wav").detail
    assert "silence" in clip(floats(tmp_path / "s", tone * 0, "<f4")).detail
    assert bad(clip(floats(tmp_path / "n", [numpy.nan] * 400, "<f4"))) == ["audio format"]
    speech = tmp_path / "speech.raw"
    speech.write_bytes(
        (Path(__file__).resolve().parents[2] / "whisperctl" / "speech" / "check.wav").read_bytes()[44:]
    )
    assert "looks like Int16" in clip(speech).detail, "real speech as Int16"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account with the stack `s`: a GPU, an edge, groups as the template makes them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    base: Any = BaseClient
    plain = base._make_api_call

    def answered(client: Any, operation: str, arguments: Any) -> Any:
        if operation == "DescribeInstanceInformation":  # moto has none of it: no agent was ever heard of
            return {"InstanceInformationList": []}
        return plain(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", answered)
    with mock_aws():
        ec2 = boto3.client("ec2")
        tags = {"whisperlive-edge:stack": "s"}
        for role, kind in (("gpu", "g4dn.xlarge"), ("edge", "t3.medium")):
            run_instance(ec2, {**tags, "whisperlive-edge:role": role}, kind)
        yield ec2


def looked(account: Account) -> dict[str, Finding]:
    return {one.name: one for one in AwsLook(account).look()}


def test_at_aws_each_layer_is_looked_at(aws: Any) -> None:
    found = looked(Account("s", "", None))
    assert found["credentials"].verdict is Verdict.OK
    assert found["region"].detail == "eu-central-1"
    assert found["stack"].verdict is Verdict.PROBLEM
    assert IMAGE in found["image"].detail
    assert found["security path"].verdict is Verdict.PROBLEM
    assert found["alarms"].verdict is Verdict.WARNING
    assert found["notifications"].verdict is Verdict.WARNING
    machines = AwsLook(Account("s", "", None))
    list(machines.look())
    (gpu,) = machines.of("gpu")
    assert found[f"agent of {gpu['InstanceId']}"].verdict is Verdict.PROBLEM
    assert found[f"shutdown of {gpu['InstanceId']}"].verdict is Verdict.OK
    tags = [{"Key": "whisperlive-edge:stack", "Value": "s"}, {"Key": "whisperlive-edge:role", "Value": "gpu"}]
    other = aws.run_instances(
        ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceInitiatedShutdownBehavior="terminate",
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )["Instances"][0]["InstanceId"]  # fmt: skip
    assert looked(Account("s", "", None))[f"shutdown of {other}"].verdict is Verdict.PROBLEM


def test_a_stack_that_is_not_there_lacks_its_machines(aws: Any) -> None:  # noqa: ARG001 - the account must be there
    found = looked(Account("other", "", None))
    assert found["gpu machine"].verdict is Verdict.PROBLEM
    assert "whisperlive-edge:stack=other" in found["gpu machine"].remedy


def test_without_credentials_nothing_else_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_CONFIG_FILE", "/dev/null"),
                        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"), ("AWS_DEFAULT_REGION", REGION)):  # fmt: skip
        monkeypatch.setenv(name, value)
    boto3.setup_default_session()
    (found,) = AwsLook(Account("s", "", None)).look()
    assert (found.name, found.verdict) == ("credentials", Verdict.PROBLEM)


SECRETS = {
    "wle_Zk3v0Xq9aBcDeFgHiJkLmNoPqRsTuVwXyZ012345678": "a token",
    "eyJhbGciOiJIUzI1NiJ9.eyJzaWQiOiJ4In0.c2lnbmF0dXJl": "a ticket",
    "wle_BareBareBareBareBareBareBareBareBareBare": "a token that stands alone",
    "hunter2hunter2": "a password",
    "AKIAIOSFODNN7EXAMPLE": "an access key",
    "anna@example.org": "an address of somebody",
    "123456789012": "an account",
    "203.0.113.77": "a client's address",
    "https://hooks.slack.com/services/T0/B0/XXXX": "a webhook",
    "0123456789abcdef0123456789abcdef0123": "a signature",
}
TEXT = (
    'he typed wle_BareBareBareBareBareBareBareBareBareBare and left\n'
    'Authorization: Bearer wle_Zk3v0Xq9aBcDeFgHiJkLmNoPqRsTuVwXyZ012345678\n'
    '"Sec-Websocket-Protocol": ["bearer, eyJhbGciOiJIUzI1NiJ9.eyJzaWQiOiJ4In0.c2lnbmF0dXJl"]\n'
    'password=hunter2hunter2 key AKIAIOSFODNN7EXAMPLE by anna@example.org in arn:aws:iam::123456789012:user/a\n'
    '"remote_ip":"203.0.113.77" to 10.0.0.4:9090, webhook https://hooks.slack.com/services/T0/B0/XXXX\n'
    'GET https://b.s3.amazonaws.com/x?X-Amz-Signature=0123456789abcdef0123456789abcdef0123&X-Amz-Expires=60\n'
)  # fmt: skip


def test_no_secret_is_left_and_what_helps_stays() -> None:
    text = redacted(TEXT)
    for secret, what in SECRETS.items():
        assert secret not in text, what
    assert "10.0.0.4:9090" in text
    assert "X-Amz-Expires=60" in text


def test_the_archive_is_its_owners_and_redacted(tmp_path: Path) -> None:
    path = tmp_path / "help.tar.gz"
    write(path, {"logs/gpu.log": TEXT, "status.json": {"phase": "ready", "token": "geheimes"}}, {"geheimes": "token"})
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        texts = {one.name: archive.extractfile(one).read().decode() for one in archive}  # type: ignore[union-attr]
    assert set(texts) == {f"whisperctl-doctor/{name}" for name in ("about.json", "logs/gpu.log", "status.json")}
    assert json.loads(texts["whisperctl-doctor/status.json"])["phase"] == "ready"
    for secret in (*SECRETS, "geheimes"):
        assert secret not in "".join(texts.values())
