"""The machines' contract: the same cases against the fake and EC2 (moto, whose states are set by hand)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from chalicelib.aws.clients import Clients
from chalicelib.aws.machines import Ec2Machines
from chalicelib.domain.machines import Machine, MachineState, Role
from chalicelib.errors import MachineRefused, RefusalKind
from chalicelib.ports import Machines
from tests.app.api import ACCOUNT, REGION, run_instance
from tests.fakes import FakeMachines


@dataclass
class Bench:
    """Machines, the ids of one GPU and one edge, and how to move a state."""

    machines: Machines
    gpu: str
    edge: str
    become: Callable[[str, MachineState], None]
    refuse: Callable[[str], None]


@pytest.fixture(params=["fake", "ec2"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    if request.param == "fake":
        yield _fake()
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield _ec2()


def _fake() -> Bench:
    fake = FakeMachines()
    for name, role in (("i-1", Role.GPU), ("i-2", Role.EDGE)):
        fake.machines[name] = Machine(
            name, role, MachineState.RUNNING, "g4dn.xlarge", "eu-central-1a", "10.0.0.1", 1.0
        )

    def refuse(code: str) -> None:
        fake.refuse_start = MachineRefused(KINDS[code], code, "no")

    return Bench(fake, "i-1", "i-2", fake.become, refuse)


def _ec2() -> Bench:
    client = boto3.client("ec2", region_name=REGION)
    tags = {"whisperlive-edge:stack": "s", "whisperlive-edge:role": "gpu"}
    gpu = run_instance(client, tags, "g4dn.xlarge")["InstanceId"]
    edge = run_instance(client, {**tags, "whisperlive-edge:role": "edge"}, "t3.medium")["InstanceId"]
    for others in ({}, {"whisperlive-edge:stack": "s"}, {**tags, "whisperlive-edge:stack": "t"}):
        run_instance(client, others, "g4dn.xlarge")
    clients = Clients(REGION)

    def become(instance_id: str, state: MachineState) -> None:
        from moto.backends import get_backend

        backend: Any = get_backend("ec2")[ACCOUNT][REGION]
        backend.get_instance(instance_id)._state.name = state.value

    def refuse(code: str) -> None:
        def no(**_: Any) -> None:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "StartInstances")

        clients.ec2_once.meta.events.register("provide-client-params.ec2.StartInstances", no)

    def stopped_only(params: Any, **_: Any) -> None:
        # moto changes the type of a running machine; EC2 does not.
        from moto.backends import get_backend

        backend: Any = get_backend("ec2")[ACCOUNT][REGION]
        if backend.get_instance(params["InstanceId"]).state != "stopped":
            wrong: Any = {"Error": {"Code": "IncorrectInstanceState", "Message": "it is not stopped"}}
            raise ClientError(wrong, "ModifyInstanceAttribute")

    clients.ec2.meta.events.register("provide-client-params.ec2.ModifyInstanceAttribute", stopped_only)
    return Bench(Ec2Machines(clients, "s"), gpu, edge, become, refuse)


KINDS = {
    "InsufficientInstanceCapacity": RefusalKind.CAPACITY,
    "VcpuLimitExceeded": RefusalKind.QUOTA,
    "IncorrectInstanceState": RefusalKind.STATE,
    "RequestLimitExceeded": RefusalKind.THROTTLED,
    "UnauthorizedOperation": RefusalKind.OTHER,
}


def states(machines: Machines) -> dict[str, MachineState]:
    return {one.instance_id: one.state for one in machines.describe()}


def test_only_tagged_machines_of_this_stack_are_seen(bench: Bench) -> None:
    found = bench.machines.describe()
    assert {one.instance_id: one.role for one in found} == {bench.gpu: Role.GPU, bench.edge: Role.EDGE}
    gpu = next(one for one in found if one.instance_id == bench.gpu)
    assert gpu.type == "g4dn.xlarge"
    assert gpu.zone.startswith("eu-central-1")
    assert gpu.private_ip is not None
    assert gpu.private_ip.startswith("10.")
    assert gpu.launched_at is not None


def test_stop_and_start(bench: Bench) -> None:
    bench.machines.stop(bench.gpu)
    assert states(bench.machines)[bench.gpu] in (MachineState.STOPPING, MachineState.STOPPED)
    bench.become(bench.gpu, MachineState.STOPPED)
    bench.machines.start(bench.gpu)
    assert states(bench.machines)[bench.gpu].awake
    assert states(bench.machines)[bench.edge] is MachineState.RUNNING


def test_a_stopped_machine_takes_another_type(bench: Bench) -> None:
    bench.machines.stop(bench.gpu)
    bench.become(bench.gpu, MachineState.STOPPED)
    bench.machines.change_type(bench.gpu, "g5.xlarge")
    assert {one.type for one in bench.machines.describe() if one.role is Role.GPU} == {"g5.xlarge"}
    bench.machines.start(bench.gpu)
    assert states(bench.machines)[bench.gpu].awake


def test_a_running_machine_keeps_its_type(bench: Bench) -> None:
    with pytest.raises(MachineRefused) as refused:
        bench.machines.change_type(bench.gpu, "g5.xlarge")
    assert refused.value.kind is RefusalKind.STATE
    assert {one.type for one in bench.machines.describe() if one.role is Role.GPU} == {"g4dn.xlarge"}


def test_a_forced_stop(bench: Bench) -> None:
    bench.machines.stop(bench.gpu)
    bench.machines.stop(bench.gpu, force=True)
    assert states(bench.machines)[bench.gpu] in (MachineState.STOPPING, MachineState.STOPPED)


@pytest.mark.parametrize("code", KINDS)
def test_a_refused_start_says_which_kind_of_no(bench: Bench, code: str) -> None:
    bench.become(bench.gpu, MachineState.STOPPED)
    bench.refuse(code)
    with pytest.raises(MachineRefused) as refused:
        bench.machines.start(bench.gpu)
    assert (refused.value.kind, refused.value.code) == (KINDS[code], code)


def test_a_terminated_machine_is_not_seen(bench: Bench) -> None:
    bench.become(bench.gpu, MachineState.TERMINATED)
    assert set(states(bench.machines)) == {bench.edge}


def test_start_of_what_does_not_exist(bench: Bench) -> None:
    with pytest.raises(MachineRefused):
        bench.machines.start("i-0123456789abcdef0")


def test_start_is_sent_once_only() -> None:
    """botocore would retry InsufficientInstanceCapacity, an HTTP 500; climbing the ladder is ours."""
    config = Clients(REGION).ec2_once.meta.config
    retries: Any = config.retries  # type: ignore[attr-defined]  # the stubs know only what is passed in
    assert retries["total_max_attempts"] == 1
