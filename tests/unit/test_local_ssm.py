"""SSM: agents come online late, commands really run, and everything that goes wrong is told as SSM tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.local_cloud import Cloud
from tests.unit.test_local_ec2 import refusal, settle
from tests.waiting import wait_until

SCRIPT = """\
set -eu
echo "here: $PREFIX"
echo "{{ word }}" > "$PREFIX/written"
if [ "{{ word }}" = bad ]; then echo "no disk" >&2; exit 3; fi
if [ "{{ word }}" = slow ]; then sleep 60; fi
"""
DOCUMENT = {
    "schemaVersion": "2.2",
    "parameters": {
        "word": {"type": "String", "allowedPattern": "^[a-z]+$"},
        "quiet": {"type": "String", "default": "yes", "interpolationType": "ENV_VAR"},
    },
    "mainSteps": [
        {
            "action": "aws:runShellScript",
            "name": "run",
            "inputs": {"runCommand": SCRIPT.splitlines(), "timeoutSeconds": "30"},
        }
    ],
}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    document(made, "test-doc", DOCUMENT)
    yield made
    made.close()


@pytest.fixture
def gpu(cloud: Cloud) -> str:
    """A running machine whose agent is online."""
    made = cloud.gpu(running=True)
    settle(cloud, made, "running")
    cloud.advance(6)
    return made


def document(cloud: Cloud, name: str, content: dict[str, Any]) -> None:
    cloud.client("ssm").create_document(Name=name, Content=json.dumps(content), DocumentType="Command")


def send(cloud: Cloud, gpu: str, word: str = "fine", name: str = "test-doc", **more: Any) -> str:
    command = cloud.client("ssm").send_command(
        InstanceIds=[gpu], DocumentName=name, Parameters={"word": [word]} if word else {}, **more
    )
    return str(command["Command"]["CommandId"])


def invocation(cloud: Cloud, gpu: str, command_id: str) -> dict[str, Any]:
    ssm = cloud.client("ssm")

    def found() -> dict[str, Any] | None:
        try:
            return dict(ssm.get_command_invocation(CommandId=command_id, InstanceId=gpu))
        except ssm.exceptions.InvocationDoesNotExist:
            return None

    return wait_until(found, 5, "the invocation")


def ended(cloud: Cloud, gpu: str, command_id: str) -> dict[str, Any]:
    def final() -> dict[str, Any] | None:
        now = invocation(cloud, gpu, command_id)
        return now if now["Status"] not in ("Pending", "InProgress") else None

    return wait_until(final, 10, "the command to end")


def test_an_agent_is_online_only_some_time_after_its_machine(cloud: Cloud) -> None:
    ssm, made = cloud.client("ssm"), cloud.gpu()
    cloud.client("ec2").start_instances(InstanceIds=[made])
    cloud.advance(4)
    settle(cloud, made, "running")
    assert ssm.describe_instance_information()["InstanceInformationList"] == []
    with pytest.raises(ssm.exceptions.InvalidInstanceId, match="not in a valid state"):
        send(cloud, made)
    cloud.advance(5)
    (agent,) = ssm.describe_instance_information()["InstanceInformationList"]
    assert (agent["InstanceId"], agent["PingStatus"]) == (made, "Online")
    machine = cloud.ec2.machine(made)
    assert machine is not None
    assert machine.running_since is not None
    assert agent["LastPingDateTime"].timestamp() > machine.running_since


def test_a_stopped_machines_agent_is_lost_and_its_ping_grows_old(cloud: Cloud, gpu: str) -> None:
    ssm = cloud.client("ssm")
    online = ssm.describe_instance_information()["InstanceInformationList"][0]
    cloud.client("ec2").stop_instances(InstanceIds=[gpu])
    cloud.advance(600)
    settle(cloud, gpu, "stopped")
    filters = [{"Key": "InstanceIds", "Values": [gpu]}]
    (lost,) = ssm.describe_instance_information(Filters=filters)["InstanceInformationList"]
    assert lost["PingStatus"] == "ConnectionLost"
    assert lost["LastPingDateTime"] == online["LastPingDateTime"]


def test_the_agent_faults(cloud: Cloud, gpu: str) -> None:
    cloud.post("faults", {"agent": {"delay_s": 60}}).raise_for_status()
    assert not cloud.ssm.online(gpu)
    cloud.advance(60)
    assert cloud.ssm.online(gpu)
    cloud.post("faults", {"agent": {"offline": True}}).raise_for_status()
    assert not cloud.ssm.online(gpu)


def test_a_command_really_runs_on_its_host(cloud: Cloud, gpu: str, tmp_path: Path) -> None:
    command_id = send(cloud, gpu)
    done = ended(cloud, gpu, command_id)
    assert (done["Status"], done["ResponseCode"]) == ("Success", 0)
    assert done["StandardOutputContent"] == f"here: {tmp_path}\n"
    assert (tmp_path / "written").read_text() == "fine\n"
    assert done["PluginName"] == "run"


def test_just_after_sending_there_is_no_invocation_yet(cloud: Cloud, gpu: str) -> None:
    ssm = cloud.client("ssm")
    command_id = send(cloud, gpu)
    with pytest.raises(ssm.exceptions.InvocationDoesNotExist):
        ssm.get_command_invocation(CommandId=command_id, InstanceId=gpu)
    ended(cloud, gpu, command_id)


def test_a_failing_script_is_told_with_its_code_and_its_words(cloud: Cloud, gpu: str) -> None:
    done = ended(cloud, gpu, send(cloud, gpu, "bad"))
    assert (done["Status"], done["StatusDetails"], done["ResponseCode"]) == ("Failed", "Failed", 3)
    assert done["StandardErrorContent"] == "no disk\nfailed to run commands: exit status 3"


def test_output_is_empty_until_the_end_and_a_late_script_is_ended(cloud: Cloud, gpu: str, tmp_path: Path) -> None:
    command_id = send(cloud, gpu, "slow")
    wait_until((tmp_path / "written").exists, 5, "the script to run")
    running = invocation(cloud, gpu, command_id)
    assert (running["Status"], running["ResponseCode"], running["StandardOutputContent"]) == ("InProgress", -1, "")
    cloud.advance(31)
    done = ended(cloud, gpu, command_id)
    assert (done["Status"], done["StatusDetails"]) == ("TimedOut", "ExecutionTimedOut")
    assert done["StandardOutputContent"] == f"here: {tmp_path}\n"


def test_a_host_that_stops_under_a_command(cloud: Cloud, gpu: str, tmp_path: Path) -> None:
    command_id = send(cloud, gpu, "slow")
    wait_until((tmp_path / "written").exists, 5, "the script to run")
    cloud.client("ec2").stop_instances(InstanceIds=[gpu])
    settle_after = invocation(cloud, gpu, command_id)
    assert settle_after["Status"] == "InProgress"
    cloud.advance(31)
    assert ended(cloud, gpu, command_id)["Status"] == "TimedOut"


def test_stdout_is_cut(cloud: Cloud, gpu: str) -> None:
    step = {"action": "aws:runShellScript", "name": "much", "inputs": {"runCommand": ["yes x | head -c 50000"]}}
    document(cloud, "much", {"schemaVersion": "2.2", "mainSteps": [step]})
    done = ended(cloud, gpu, send(cloud, gpu, "", "much"))
    assert len(done["StandardOutputContent"]) == 24_000


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"word": ["$(reboot)"]}, "must match pattern"),
        ({"word": ["fine; rm -rf /"]}, "must match pattern"),
        ({}, "word is required"),
        ({"word": ["fine"], "other": ["x"]}, "other is not defined"),
    ],
)
def test_parameters_are_checked_before_anything_is_sent(
    cloud: Cloud, gpu: str, parameters: dict[str, list[str]], says: str
) -> None:
    code, message, _status = refusal(
        cloud.client("ssm").send_command, InstanceIds=[gpu], DocumentName="test-doc", Parameters=parameters
    )
    assert code == "InvalidParameters"
    assert says in message


def test_an_unknown_document(cloud: Cloud, gpu: str) -> None:
    ssm = cloud.client("ssm")
    with pytest.raises(ssm.exceptions.InvalidDocument):
        send(cloud, gpu, name="none")


@pytest.mark.parametrize(
    ("fault", "status", "details"),
    [
        ({"status": "Failed", "exit_code": 9, "output": "no disk"}, "Failed", "Failed"),
        ({"document": "test-*", "status": "TimedOut"}, "TimedOut", "ExecutionTimedOut"),
    ],
)
def test_command_faults(
    cloud: Cloud, gpu: str, tmp_path: Path, fault: dict[str, Any], status: str, details: str
) -> None:
    cloud.post("faults", {"commands": [fault]}).raise_for_status()
    done = ended(cloud, gpu, send(cloud, gpu))
    assert (done["Status"], done["StatusDetails"]) == (status, details)
    assert not (tmp_path / "written").exists()
    if status == "Failed":
        assert done["ResponseCode"] == 9
        assert "no disk" in done["StandardErrorContent"]


def test_a_lost_command_times_out_undelivered(cloud: Cloud, gpu: str, tmp_path: Path) -> None:
    cloud.post("faults", {"commands": [{"status": "Lost"}]}).raise_for_status()
    command_id = send(cloud, gpu, TimeoutSeconds=30)
    assert invocation(cloud, gpu, command_id)["Status"] == "Pending"
    cloud.advance(31)
    done = ended(cloud, gpu, command_id)
    assert (done["Status"], done["StatusDetails"]) == ("TimedOut", "DeliveryTimedOut")
    assert not (tmp_path / "written").exists()


def test_a_command_can_be_cancelled(cloud: Cloud, gpu: str, tmp_path: Path) -> None:
    command_id = send(cloud, gpu, "slow")
    wait_until((tmp_path / "written").exists, 5, "the script to run")
    cloud.client("ssm").cancel_command(CommandId=command_id)
    assert ended(cloud, gpu, command_id)["Status"] == "Cancelled"


def test_commands_and_invocations_are_listed(cloud: Cloud, gpu: str) -> None:
    ssm = cloud.client("ssm")
    first, second = send(cloud, gpu), send(cloud, gpu, "bad", Comment="why")
    ended(cloud, gpu, first)
    ended(cloud, gpu, second)
    listed = ssm.list_command_invocations(InstanceId=gpu, Details=True)["CommandInvocations"]
    assert [(one["CommandId"], one["Status"]) for one in listed] == [(second, "Failed"), (first, "Success")]
    assert listed[0]["CommandPlugins"][0]["ResponseCode"] == 3
    (command,) = ssm.list_commands(CommandId=second)["Commands"]
    assert (command["Comment"], command["Status"], command["InstanceIds"]) == ("why", "Failed", [gpu])


def test_parameters_reach_a_script_by_the_environment_where_the_document_says_so(cloud: Cloud, gpu: str) -> None:
    step = {"action": "aws:runShellScript", "name": "env", "inputs": {"runCommand": ['printf %s "$SSM_word"']}}
    about = {"type": "String", "interpolationType": "ENV_VAR"}
    document(cloud, "env", {"schemaVersion": "2.2", "parameters": {"word": about}, "mainSteps": [step]})
    done = ended(cloud, gpu, send(cloud, gpu, '"; exit 1', "env"))
    assert done["StandardOutputContent"] == '"; exit 1'
