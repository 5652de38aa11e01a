"""The operator's commands on the running stack: who may come in, invites, and what they leave in the logs."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from tests.stack import ROOT, Stack
from tests.waiting import wait_until
from tests.webhooks import receiver
from whisperctl.cli import cli

ENV = {"WHISPERCTL_URL": "", "WHISPERCTL_STAGE": "", "WHISPERCTL_TOKEN": "", "TABLE_NAME": "", "TOPIC_ARN": ""}


def run(stack: Stack, *words: str, code: int = 0, typed: str = "") -> str:
    """In this process: an interpreter for each of these commands would be most of the time that they take."""
    done = CliRunner().invoke(cli, [*words, "--state-dir", str(stack.state_dir)], input=typed, env=ENV)
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


@pytest.fixture
def open_again(stack: Stack) -> Iterator[Stack]:
    """The stack, whose edge has its SSM agent, and lets everybody in afterwards."""
    words = ["clients", "list", "--state-dir", str(stack.state_dir)]
    wait_until(lambda: CliRunner().invoke(cli, words, env=ENV).exit_code == 0, 60, "the edge's agent")
    yield stack
    run(stack, "clients", "add", "--everybody")


def page(stack: Stack) -> int:
    with stack.http() as client:
        return client.get(stack.edge_url).status_code


def test_the_edge_lets_in_whom_the_list_names(open_again: Stack) -> None:
    stack = open_again
    assert run(stack, "clients", "list") == "everybody is let in\n"
    planned = run(stack, "clients", "add", "192.0.2.0/24", "--dry-run")
    assert planned == "would let in 192.0.2.0/24; everybody else would be shut out; nothing was changed\n"
    assert page(stack) == 200
    run(stack, "clients", "add", "192.0.2.0/24", "--label", "office")
    wait_until(lambda: page(stack) == 403, 10, "the page to be refused")
    assert stack.call("GET", "/v1/health", via_edge=True).status_code == 200, "the API asks for a token instead"
    run(stack, "clients", "add", "127.0.0.0/8")
    run(stack, "clients", "add", "::1")
    wait_until(lambda: page(stack) == 200, 10, "the page to be there again")
    listed = json.loads(run(stack, "clients", "list", "--json"))
    assert listed["clients"][1] == {"network": "192.0.2.0/24", "label": "office"}
    run(stack, "clients", "remove", "192.0.2.0/24")
    run(stack, "clients", "remove", "203.0.113.0/24", code=1)
    assert "192.0.2.0/24" not in run(stack, "clients", "list")


def test_an_invite_is_a_link_that_opens(stack: Stack) -> None:
    made = json.loads(run(stack, "invite", "--minutes", "5", "--json"))
    base, _, token = made["url"].partition("/#token=")
    assert base == stack.edge_url
    with stack.http() as client:
        held = {"Authorization": f"Bearer {token}"}
        assert client.get(f"{base}/api/v1/status", headers=held).status_code == 200
        run(stack, "token", "revoke", made["id"])
        assert client.get(f"{base}/api/v1/status", headers=held).status_code == 401


def test_the_picture_of_an_invite_is_its_owners_alone(stack: Stack) -> None:
    picture = stack.state_dir / "invite.svg"
    run(stack, "invite", "--minutes", "5", "--qr", str(picture))
    assert picture.stat().st_mode & 0o777 == 0o600
    assert picture.read_text().startswith("<?xml")


def test_refresh_tells_the_edge_over_ssm(stack: Stack) -> None:
    before = len(stack.calls("SendCommand"))
    assert run(stack, "refresh").startswith("the edge is told to forward to 127.")
    assert len(stack.calls("SendCommand")) == before + 1


def test_the_doctor_finds_nothing_where_all_is_well(stack: Stack) -> None:
    found = json.loads(run(stack, "doctor", "--json"))
    assert found["ok"], [one for one in found["findings"] if one["verdict"] == "problem"]
    verdicts = {one["name"]: one["verdict"] for one in found["findings"]}
    for name in ("browser", "edge", "certificate", "clock", "API", "token", "service", "credentials", "gpu machine"):
        assert verdicts[name] == "ok", name
    assert verdicts[f"caddy on {stack.edge_instance_id}"] == "ok"
    assert verdicts[f"disk of {stack.edge_instance_id}"] in ("ok", "problem")


def test_the_doctor_names_what_is_broken(stack: Stack) -> None:
    stack.faults(agent={"offline": True})
    try:
        text = run(stack, "doctor", code=1)
    finally:
        stack.faults()
    assert f"agent of {stack.edge_instance_id}" in text
    assert "AmazonSSMManagedInstanceCore" in text
    refused = run(stack, "doctor", "--token", "wle_nobody", code=1)
    assert re.search(r"^problem +token +This token is not known", refused, re.MULTILINE)
    assert "whisperctl token add" in refused


def test_people_are_told_by_topic_and_webhook(sleeping_stack: Stack) -> None:
    stack = sleeping_stack
    with receiver() as hook:
        assert "secret-part" not in run(stack, "notify", "webhook", typed=f"{hook.url}\n")
        try:
            assert json.loads(run(stack, "notify", "test", "--json"))["channels"] == {
                "topic": "told",
                "webhook": "told",
            }
            stack.call("POST", "/v1/gpu/start", body={"minutes": 5}).raise_for_status()
            stack.wait_phase("ready")
            stack.asleep()
            stack.advance(60)
            wait_until(lambda: [one for one in hook.texts if "The GPU sleeps again" in one], 30, "the receipt")
        finally:
            run(stack, "notify", "webhook", "--off")
    told = [one["parameters"] for one in stack.calls("Publish")]
    assert any("The GPU sleeps again" in str(one) for one in told)


def test_no_secret_stands_in_any_log(stack: Stack) -> None:
    """After whatever the tests before did on this stack, and a session of our own."""
    opened = stack.call("POST", "/v1/sessions", role="speaker", body={"minutes": 5})
    session = opened.raise_for_status().json()
    stack.wait_phase("ready")
    ticket = stack.call("GET", f"/v1/sessions/{session['id']}", role="speaker").json()["ticket"]
    stream(stack)
    stack.call("DELETE", f"/v1/sessions/{session['id']}", role="speaker")
    invited = json.loads(run(stack, "invite", "--minutes", "5", "--json"))["url"].partition("#token=")[2]
    archive = stack.state_dir / "help.tar.gz"
    run(stack, "doctor", "--bundle", str(archive))
    table = client(stack, "dynamodb").scan(TableName="local")["Items"]
    keys = re.findall(r'"secret": ?"([^"]+)"', json.dumps(table).replace('\\"', '"'))
    host_keys = [path.read_text() for path in stack.state_dir.glob("hosts/*/etc/whisperlive-edge/host.key")]
    secrets = {*stack.tokens.values(), ticket, invited, *keys, *host_keys}
    assert len(keys) >= 1
    assert len(host_keys) >= 2
    logs = [*stack.state_dir.glob("logs/*.log"), *stack.state_dir.glob("hosts/*/var/log/*.log"),
            stack.state_dir / "test-stderr.log"]  # fmt: skip
    assert len(logs) >= 6
    texts = {path.name: path.read_text(errors="replace") for path in logs}
    with tarfile.open(archive) as packed:
        texts |= {one.name: packed.extractfile(one).read().decode() for one in packed.getmembers()}  # type: ignore[union-attr]
    assert any(name.endswith("status.json") for name in texts)
    for name, text in texts.items():
        assert not [secret[:8] for secret in secrets if secret in text], name


def client(stack: Stack, service: str) -> Any:
    make: Any = boto3.client
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    return make(service, endpoint_url=stack.aws_endpoint, region_name="us-east-1", **keys)


def stream(stack: Stack) -> None:
    clip = ROOT / "tests" / "speech" / "short.wav"
    run(stack, "stream", str(clip), "--pace", "max")
