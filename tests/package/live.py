"""The real handlers on the stack as moto's CloudFormation made it: its table, bucket, documents, hosts and roles."""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from chalicelib import wiring
from chalicelib.domain.machines import Machine, Role
from chalicelib.ports import Put
from chalicelib.services import tokens
from chalicelib.services.context import Context
from chalicelib.services.control import LOCK
from chalicelib.services.releases import rollout_key
from tests.app.api import load_app
from tests.fakes import FakeClock, FakeDialler
from tests.package import shapes
from tests.package.cloudformation import REGION, created
from tests.package.iam import Statement
from tests.package.recorder import SETTING_UP, Account, Recorder
from tests.releases import manifest_of, scripts, sha256_of

STACK = "whisperlive"
VISITORS = ("tick", "machine_event", "command_event")
"""The functions that nobody waits for: each may be the one to do whatever is due."""


@dataclass
class Live:
    """A stack that was just created, and the ways into it."""

    outputs: dict[str, str]
    context: Context
    clock: FakeClock
    recorder: Recorder
    app: ModuleType
    account: Account
    policies: dict[str, list[Statement]]
    """By function (its name in app.py) and by role of host."""
    token: str = ""
    forwards: tuple[str, ...] = ()
    """Whom the edge says it forwards to; empty: the GPU."""

    @property
    def gpu(self) -> str:
        return self.outputs["GpuInstanceId"]

    @property
    def dialler(self) -> FakeDialler:
        held = self.context.dialler
        assert isinstance(held, FakeDialler)
        return held

    @property
    def serving(self) -> Machine:
        """The GPU machine that is awake: which of the two was started, their ids decide."""
        (found,) = [one for one in self.context.machines.describe() if one.role is Role.GPU and one.state.awake]
        return found

    @property
    def edge(self) -> str:
        return self.outputs["EdgeInstanceId"]

    def call(self, method: str, path: str, body: Any = None, user_arn: str | None = None, **headers: str) -> Any:
        """An HTTP call as operator, or as the host that `user_arn` names; the answer's JSON."""
        plain = path.partition("?")[0]
        resources = [one for one in self.app.app.routes if _matches(one, plain)]
        sent = {"Authorization": f"Bearer {self.token}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        text = None if body is None else json.dumps(body)
        event = shapes.rest(method, path, resources[0], body=text, headers=sent, user_arn=user_arn)
        with self.recorder.acting("api_handler"):
            answer = self.app.app(event, None)
        assert answer["statusCode"] < 400, answer
        return json.loads(answer["body"]) if answer["body"] else None

    def report(self, instance_id: str, **said: Any) -> Any:
        """A host's report."""
        body = {"boot_id": "b1", "status": "ready", "release": "r1", **said}
        return self.call("POST", f"/v1/hosts/{instance_id}/report", body, shapes.host_arn(instance_id))

    def visit(self, function: str) -> None:
        """Two seconds later this function is run by its event."""
        self.clock.advance(2)
        events: dict[str, Callable[[], dict[str, Any]]] = {
            "tick": shapes.scheduled,
            "probe": shapes.scheduled,
            "machine_event": lambda: shapes.state_change(self.gpu, "running"),
            "command_event": lambda: shapes.command_status(self.edge, "Success"),
        }
        with self.recorder.acting(function):
            getattr(self.app, function)(events[function](), None)

    @contextmanager
    def pass_held(self) -> Iterator[None]:
        """What is asked for in the block is written and not acted upon, as if each caller died before its pass."""
        self.clock.advance(2)
        self.context.store.write(Put(LOCK, {"until": self.clock() + 3600}))
        yield
        self.context.store.write(Put(LOCK, {"until": 0.0}))
        self.clock.advance(2)

    def begin_rollout(self) -> str:
        """Of the edge's release, once more; the rollout's id."""
        return str(self.call("POST", "/v1/releases/edge", {"force": True})["id"])

    def steps(self, rollout: str) -> tuple[str, list[str]]:
        """A rollout's state and its steps' names, looked up without moving it on."""
        record = self.context.store.get(rollout_key(rollout))
        assert record is not None
        return record.data["state"], [one["name"] for one in record.data["steps"]]

    def called(self, function: str) -> list[str]:
        """What the function asked of AWS, in order."""
        return [one.operation for one in self.recorder.calls if one.actor == function]


@contextmanager
def deployed(template: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """Create the stack in moto and bring its handlers up with the environment that it gives them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    recorder, clock = Recorder(), FakeClock()
    recorder.install(monkeypatch)
    # No agent registers in moto, and nobody dials an edge.
    recorder.answers["DescribeInstanceInformation"] = lambda asked: {
        "InstanceInformationList": [
            {"InstanceId": one, "PingStatus": "Online"} for one in asked["Filters"][0]["Values"]
        ]
    }
    monkeypatch.setattr("chalicelib.net.dialler.NetDialler", FakeDialler)
    # A probe's seconds are real ones, and this machine may be busy.
    monkeypatch.setattr("chalicelib.services.probes.BUDGET_S", 600.0)
    monkeypatch.setattr("chalicelib.services.probes.COMMAND_S", 500.0)
    with mock_aws():
        outputs = created(template, STACK, StandbyGpu="true", GpuTypes="g4dn.xlarge g5.xlarge")
        functions = boto3.client("lambda", region_name=REGION).list_functions()["Functions"]
        for name, value in functions[0]["Environment"]["Variables"].items():
            monkeypatch.setenv(name, str(value))
        wiring.reset()
        wiring.use_clock(clock, lambda _seconds: None)
        context = wiring.context()
        found = boto3.client("ec2", region_name=REGION).describe_instances()["Reservations"]
        machines = [one for batch in found for one in batch["Instances"]]
        tags = {one["InstanceId"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in machines}
        policies = {one["Handler"].removeprefix("app."): _policies(one["Role"]) for one in functions}
        policies["api_handler"] = policies.pop("app")
        for role in ("gpu", "edge"):
            profile = next(
                one["IamInstanceProfile"]["Arn"]
                for one in machines
                if tags[one["InstanceId"]]["whisperlive-edge:role"] == role
            )
            held = boto3.client("iam").get_instance_profile(InstanceProfileName=profile.rpartition("/")[2])
            policies[role] = _policies(held["InstanceProfile"]["Roles"][0]["Arn"])
        live = Live(
            outputs,
            context,
            clock,
            recorder,
            load_app(9000),
            Account(shapes.ACCOUNT, REGION, tags),
            policies,
            tokens.issue(context.store, "operator", now=clock(), label="live"),
        )
        _upload_release(outputs["BucketName"])
        try:
            yield live
        finally:
            recorder.actor = SETTING_UP
            wiring.use_clock(time.time)
            wiring.reset()


def no_room(machine_type: str) -> Callable[[str, Any], ClientError | None]:
    """AWS has none of this type: an answer for each StartInstances until another type was asked for."""
    changed: list[str] = []

    def refuse(operation: str, parameters: Any) -> ClientError | None:
        if operation == "ModifyInstanceAttribute":
            changed.append(parameters["InstanceType"]["Value"])
        if operation == "StartInstances" and (not changed or changed[-1] == machine_type):
            words = f"We currently do not have sufficient {machine_type} capacity."
            return ClientError({"Error": {"Code": "InsufficientInstanceCapacity", "Message": words}}, operation)
        return None

    return refuse


def _policies(role_arn: str) -> list[Statement]:
    iam, role = boto3.client("iam"), role_arn.rpartition("/")[2]
    found = []
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document: Any = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        # What came from a template, moto hands out as Python writes it.
        document = ast.literal_eval(document) if isinstance(document, str) else document
        found += [Statement.of(one) for one in document["Statement"]]
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    return found


def _upload_release(bucket: str) -> None:
    s3 = boto3.client("s3", region_name=REGION)
    manifest = manifest_of(scripts(), "edge")
    name = sha256_of(manifest)[:16]
    s3.put_object(Bucket=bucket, Key=f"releases/edge/{name}.json", Body=json.dumps(manifest).encode())
    s3.put_object(Bucket=bucket, Key="releases/edge/latest", Body=name.encode())


def _matches(resource: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"{\w+}", "[^/]+", resource), path) is not None
