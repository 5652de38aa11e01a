"""EC2's truth: transitions take time, wrong ones are refused, hosts are alive exactly while the state says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.unit.local_cloud import Cloud
from tests.waiting import wait_until


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    yield made
    made.close()


def refusal(call: Any, **arguments: Any) -> tuple[str, str, int]:
    """Code, message and HTTP status of the error a call meets."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["Error"]["Message"], response["ResponseMetadata"]["HTTPStatusCode"]


def settle(cloud: Cloud, instance_id: str, state: str) -> None:
    wait_until(lambda: cloud.state(instance_id) == state, 5, state)


def test_a_start_takes_its_time_and_the_host_lives_from_running_on(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(), cloud.client("ec2")
    assert cloud.state(gpu) == "stopped"
    change = ec2.start_instances(InstanceIds=[gpu])["StartingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("stopped", "pending")
    cloud.advance(2.9)
    assert cloud.state(gpu) == "pending"
    assert not cloud.power.alive
    cloud.advance(0.2)
    settle(cloud, gpu, "running")
    assert cloud.power.alive == {gpu}
    assert cloud.states == [(gpu, "pending"), (gpu, "running")]


def test_a_stop_takes_its_time_and_no_less_than_its_processes(cloud: Cloud) -> None:
    gpu = cloud.gpu(running=True)
    settle(cloud, gpu, "running")
    cloud.power.may_end.clear()
    change = cloud.client("ec2").stop_instances(InstanceIds=[gpu])["StoppingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    cloud.advance(60)
    assert cloud.state(gpu) == "stopping"
    cloud.power.may_end.set()
    settle(cloud, gpu, "stopped")
    assert not cloud.power.alive


def test_the_host_begins_to_end_at_the_stop_not_when_it_is_over(cloud: Cloud) -> None:
    gpu = cloud.gpu(running=True)
    settle(cloud, gpu, "running")
    cloud.client("ec2").stop_instances(InstanceIds=[gpu])
    wait_until(lambda: not cloud.power.alive, 5, "the host to end")
    assert cloud.state(gpu) == "stopping"


def test_start_while_stopping_and_stop_while_pending_are_refused(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(), cloud.client("ec2")
    ec2.start_instances(InstanceIds=[gpu])
    assert refusal(ec2.stop_instances, InstanceIds=[gpu]) == (
        "IncorrectInstanceState",
        f"The instance '{gpu}' is not in a state from which it can be stopped.",
        400,
    )
    cloud.advance(4)
    settle(cloud, gpu, "running")
    ec2.stop_instances(InstanceIds=[gpu])
    assert refusal(ec2.start_instances, InstanceIds=[gpu])[0] == "IncorrectInstanceState"


def test_repeats_change_nothing(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(), cloud.client("ec2")
    ec2.stop_instances(InstanceIds=[gpu])
    ec2.start_instances(InstanceIds=[gpu])
    again = ec2.start_instances(InstanceIds=[gpu])["StartingInstances"][0]
    assert again["PreviousState"] == again["CurrentState"]
    cloud.advance(4)
    settle(cloud, gpu, "running")
    assert [machine.instance_id for machine in cloud.power.boots] == [gpu]


def test_a_terminated_machine_is_never_started(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(), cloud.client("ec2")
    ec2.terminate_instances(InstanceIds=[gpu])
    cloud.advance(3)
    settle(cloud, gpu, "terminated")
    assert refusal(ec2.start_instances, InstanceIds=[gpu])[0] == "IncorrectInstanceState"
    assert [machine.instance_id for machine in cloud.ec2.machines()] == []


def test_an_unknown_machine(cloud: Cloud) -> None:
    code, message, status = refusal(cloud.client("ec2").start_instances, InstanceIds=["i-0123456789abcdef0"])
    assert (code, status) == ("InvalidInstanceID.NotFound", 400)
    assert "i-0123456789abcdef0" in message


def test_the_type_changes_only_while_stopped(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(running=True), cloud.client("ec2")
    settle(cloud, gpu, "running")
    change = {"InstanceId": gpu, "InstanceType": {"Value": "g5.xlarge"}}
    assert refusal(ec2.modify_instance_attribute, **change)[0] == "IncorrectInstanceState"
    ec2.stop_instances(InstanceIds=[gpu])
    cloud.advance(3)
    settle(cloud, gpu, "stopped")
    ec2.modify_instance_attribute(**change)
    machine = cloud.ec2.machine(gpu)
    assert machine is not None
    assert machine.type == "g5.xlarge"


def test_addresses_and_launch_time_are_those_of_ec2(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(), cloud.client("ec2")

    def described() -> dict[str, Any]:
        return dict(ec2.describe_instances(InstanceIds=[gpu])["Reservations"][0]["Instances"][0])

    private = described()["PrivateIpAddress"]
    assert not described().get("PublicIpAddress")
    cloud.advance(1000)
    ec2.start_instances(InstanceIds=[gpu])
    cloud.advance(5)
    settle(cloud, gpu, "running")
    assert described()["PrivateIpAddress"] == private
    assert described()["PublicIpAddress"]
    assert abs(described()["LaunchTime"].timestamp() - cloud.clock.now()) < 6
    ec2.stop_instances(InstanceIds=[gpu])
    cloud.advance(5)
    settle(cloud, gpu, "stopped")
    assert described()["PrivateIpAddress"] == private
    assert not described().get("PublicIpAddress")


def test_a_machine_that_powers_itself_off_is_stopped(cloud: Cloud) -> None:
    gpu = cloud.gpu(running=True)
    settle(cloud, gpu, "running")
    cloud.ec2.stopped_itself(gpu)
    cloud.advance(3)
    settle(cloud, gpu, "stopped")
    found = cloud.client("ec2").describe_instances(InstanceIds=[gpu])["Reservations"][0]["Instances"][0]
    assert found["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_reboot_is_a_new_boot_of_the_same_machine(cloud: Cloud) -> None:
    gpu = cloud.gpu(running=True)
    settle(cloud, gpu, "running")
    cloud.client("ec2").reboot_instances(InstanceIds=[gpu])
    wait_until(lambda: len(cloud.power.boots) == 2, 5, "the second boot")
    assert cloud.state(gpu) == "running"


def test_a_machine_made_by_runinstances_begins_as_pending(cloud: Cloud) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "whisperlive-edge:role", "Value": "gpu"}]}]
    made = cloud.client("ec2").run_instances(
        ImageId="ami-1", MinCount=1, MaxCount=1, InstanceType="g5.xlarge", TagSpecifications=tags
    )
    gpu = made["Instances"][0]["InstanceId"]
    assert cloud.state(gpu) == "pending"
    cloud.advance(4)
    settle(cloud, gpu, "running")
    assert cloud.power.boots[0].role == "gpu"
    assert cloud.power.boots[0].private_ip.startswith("127.9.")


def test_filters_see_the_real_state(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(), cloud.client("ec2")

    def pending() -> list[str]:
        filters = [
            {"Name": "instance-state-name", "Values": ["pending"]},
            {"Name": "tag:whisperlive-edge:stack", "Values": ["test"]},
        ]
        found = ec2.describe_instances(Filters=filters)["Reservations"]
        return [instance["InstanceId"] for reservation in found for instance in reservation["Instances"]]

    assert pending() == []
    ec2.start_instances(InstanceIds=[gpu])
    assert pending() == [gpu]
