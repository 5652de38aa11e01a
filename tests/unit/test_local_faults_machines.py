"""Faults of machines: no host behind `running`, a stop that does not end, late reads, the power gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.local_cloud import Cloud
from tests.unit.test_local_ec2 import refusal, settle
from tests.waiting import wait_until


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    yield made
    made.close()


def running(cloud: Cloud) -> str:
    gpu = cloud.gpu(running=True)
    settle(cloud, gpu, "running")
    return gpu


def check_of(cloud: Cloud, gpu: str) -> str:
    """The instance status check's word."""
    found = cloud.client("ec2").describe_instance_status(InstanceIds=[gpu])["InstanceStatuses"]
    assert [(one["InstanceId"], one["InstanceState"]["Name"]) for one in found] == [(gpu, "running")]
    return str(found[0]["InstanceStatus"]["Status"])


def test_an_impaired_start_runs_and_has_no_host_and_the_next_one_has(cloud: Cloud) -> None:
    gpu, other, ec2 = cloud.gpu(), cloud.gpu(), cloud.client("ec2")
    cloud.post("faults", {"impaired": [{"instance": gpu, "times": 1}]}).raise_for_status()
    ec2.start_instances(InstanceIds=[gpu, other])
    cloud.advance(3.1)
    settle(cloud, gpu, "running")
    settle(cloud, other, "running")
    assert cloud.power.alive == {other}
    assert (check_of(cloud, gpu), check_of(cloud, other)) == ("impaired", "ok")
    cloud.advance(60)
    information = cloud.client("ssm").describe_instance_information()["InstanceInformationList"]
    assert [one["InstanceId"] for one in information] == [other]
    ec2.stop_instances(InstanceIds=[gpu])
    cloud.advance(2.1)
    settle(cloud, gpu, "stopped")
    ec2.start_instances(InstanceIds=[gpu])
    cloud.advance(3.1)
    settle(cloud, gpu, "running")
    assert cloud.power.alive == {gpu, other}
    assert check_of(cloud, gpu) == "ok"


def test_a_stuck_stop_ends_by_force(cloud: Cloud) -> None:
    gpu, ec2 = running(cloud), cloud.client("ec2")
    cloud.post("faults", {"stuck": [{"instance": gpu}]}).raise_for_status()
    ec2.stop_instances(InstanceIds=[gpu])
    wait_until(lambda: not cloud.power.alive, 5, "the host to end")
    for _ in range(3):
        cloud.advance(300)
        ec2.stop_instances(InstanceIds=[gpu])
        assert cloud.state(gpu) == "stopping"
    ec2.stop_instances(InstanceIds=[gpu], Force=True)
    cloud.advance(1.1)
    settle(cloud, gpu, "stopped")


def test_a_stuck_stop_ends_with_the_fault(cloud: Cloud) -> None:
    gpu = running(cloud)
    cloud.post("faults", {"stuck": [{}]}).raise_for_status()
    cloud.client("ec2").stop_instances(InstanceIds=[gpu])
    cloud.advance(10)
    assert cloud.state(gpu) == "stopping"
    cloud.post("faults", {}).raise_for_status()
    cloud.advance(1.1)
    settle(cloud, gpu, "stopped")


def test_a_stale_read_shows_what_was_and_changes_nothing(cloud: Cloud) -> None:
    gpu, ec2 = cloud.gpu(), cloud.client("ec2")
    cloud.advance(60)
    cloud.post("faults", {"stale": {"seconds": 20}}).raise_for_status()
    ec2.start_instances(InstanceIds=[gpu])
    assert cloud.state(gpu) == "stopped"
    assert cloud.ec2.machines()[0].state == "pending"
    code, _message, _status = refusal(ec2.stop_instances, InstanceIds=[gpu])
    assert code == "IncorrectInstanceState"  # what acts is true, only what reads is late
    cloud.advance(4)
    wait_until(lambda: cloud.ec2.machines()[0].state == "running", 5, "running")
    assert cloud.state(gpu) == "stopped"
    cloud.advance(18)
    assert cloud.state(gpu) == "pending"
    cloud.advance(4)
    assert cloud.state(gpu) == "running"


@pytest.mark.parametrize(
    ("how", "state", "told"),
    [("lost", "running", []), ("failed", "stopping", ["stopping"]), ("off", "stopping", ["stopping"])],
)
def test_power_ends_once_and_ec2_says_so_or_not(cloud: Cloud, how: str, state: str, told: list[str]) -> None:
    gpu = running(cloud)
    before = len(cloud.states)
    cloud.post("faults", {"power": [{"instance": gpu, "how": how}]}).raise_for_status()
    wait_until(lambda: not cloud.power.alive, 5, "the host to be gone")
    assert cloud.state(gpu) == state
    assert [one for _, one in cloud.states[before:]] == told
    if how == "lost":
        assert check_of(cloud, gpu) == "impaired"
        cloud.client("ec2").stop_instances(InstanceIds=[gpu])
    cloud.advance(2.1)
    settle(cloud, gpu, "stopped")
    # The fault struck when it was posted: a new start is well, though it stands in the set still.
    cloud.client("ec2").start_instances(InstanceIds=[gpu])
    cloud.advance(3.1)
    settle(cloud, gpu, "running")
    assert cloud.power.alive == {gpu}


def test_a_machine_that_does_not_run_has_no_power_to_lose(cloud: Cloud) -> None:
    gpu = cloud.gpu()
    response = cloud.post("faults", {"quota": True, "power": [{"instance": gpu}]})
    assert response.status_code == 400
    assert response.json()["detail"] == f"power needs a running machine, and {gpu} is stopped."
    assert cloud.faults.now.quota is False
