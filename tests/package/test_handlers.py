"""Every handler out of the unzipped archive, in a clean interpreter, given events as AWS sends them.

AWS is moto's server; the table, the documents and the machines are there before. Zones' data are taken away from the
interpreter, so that nights and bookings work wherever the archive runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from chalicelib.aws.clients import Clients
from chalicelib.aws.store import DynamoStore, table_definition
from chalicelib.services import tokens
from tests.app.api import run_instance
from tests.package import shapes
from tests.package.runtime import Runtime, runtime
from whisperctl.documents import documents

pytestmark = pytest.mark.timeout(600)
REGION, STACK = "eu-central-1", "whisperlive"
LATE = ("aws_lambda_powertools.utilities.idempotency", "numpy", "jwt", "pydantic", "wsproto", "chalicelib.net.canary")
"""What no cold start may import."""


@dataclass
class Cloud:
    """A stack's parts in moto's server, the unzipped Lambda beside it, and the environment that leads there."""

    runtime: Runtime
    env: dict[str, str]
    client: Callable[[str], Any]
    gpu: str
    edge: str
    token: str

    def rest(self, method: str, path: str, resource: str | None = None, **more: Any) -> dict[str, Any]:
        """An API Gateway event of the operator's."""
        headers = {"Authorization": f"Bearer {self.token}"} | more.pop("headers", {})
        return shapes.rest(method, path, resource, headers=headers, **more)

    def state(self, instance_id: str) -> str:
        found = self.client("ec2").describe_instances(InstanceIds=[instance_id])
        return str(found["Reservations"][0]["Instances"][0]["State"]["Name"])

    def drive(self, handler: str, *events: dict[str, Any]) -> list[Any]:
        return self.runtime.drive(handler, list(events), self.env)


@pytest.fixture(scope="module")
def unzipped(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return runtime(archive, tmp_path_factory.mktemp("lambda"))


@pytest.fixture
def cloud(unzipped: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.post(f"http://{host}:{port}/moto-api/reset").raise_for_status()
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": REGION}
    endpoint = {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    for name, value in (keys | endpoint).items():
        monkeypatch.setenv(name, value)

    def client(service: str) -> Any:
        made: Any = boto3.client(service, region_name=REGION)  # type: ignore[call-overload]  # not a literal
        return made

    try:
        client("dynamodb").create_table(**table_definition("table"))
        for name, content in documents(STACK).items():
            client("ssm").create_document(Name=name, DocumentType="Command", Content=json.dumps(content))
        tags = {"whisperlive-edge:stack": STACK}
        gpu = run_instance(client("ec2"), tags | {"whisperlive-edge:role": "gpu"}, "g4dn.xlarge")["InstanceId"]
        edge = run_instance(client("ec2"), tags | {"whisperlive-edge:role": "edge"}, "t4g.micro")["InstanceId"]
        client("ec2").stop_instances(InstanceIds=[gpu])
        token = tokens.issue(DynamoStore(Clients(REGION), "table"), "operator", now=0.0, label="test")
        env = keys | endpoint
        env |= {"STACK_NAME": STACK, "TABLE_NAME": "table", "EDGE_URL": "https://127.0.0.1:1"}
        env |= {
            "AWS_LAMBDA_FUNCTION_NAME": "whisperlive",
            "NIGHT": "03:00-03:01 Europe/Berlin",
            "TIME_ZONE": "America/New_York",
        }
        yield Cloud(unzipped, env, client, gpu, edge, token)
    finally:
        server.stop()


def at(days: float, hours: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(days=days, hours=hours)).isoformat(timespec="seconds")


def body(answer: dict[str, Any]) -> Any:
    return json.loads(answer["body"])


def test_the_api_answers_api_gateways_events(cloud: Cloud) -> None:
    report = {"boot_id": "b1", "status": "ready", "release": "r1", "model": "tiny.en", "max_streams": 4}
    route = "/v1/hosts/{instance_id}/report"
    path = f"/v1/hosts/{cloud.gpu}/report"
    said = json.dumps(report)
    health, opened, status, reported, other, unsigned, stranger, nonsense, booked = cloud.drive(
        "app",
        shapes.rest("GET", "/v1/health"),
        cloud.rest("POST", "/v1/sessions", body=json.dumps({"language": "en"})),
        cloud.rest("GET", "/v1/status"),
        shapes.rest("POST", path, route, body=said, user_arn=shapes.host_arn(cloud.gpu)),
        shapes.rest("POST", path, route, body=said, user_arn=shapes.host_arn(cloud.edge)),
        shapes.rest("POST", path, route, body=said),
        shapes.rest("GET", "/v1/status"),
        cloud.rest("POST", "/v1/sessions", body="{not json"),
        cloud.rest(
            "POST",
            "/v1/bookings",
            body=json.dumps({"start": at(2), "end": at(2, 1), "weekly": True}),
        ),
    )
    assert (health["statusCode"], body(health)["ok"]) == (200, True)
    assert opened["statusCode"] == 201
    assert body(opened)["ws_url"] == "wss://127.0.0.1:1/ws"
    assert status["statusCode"] == 200
    assert body(status)["phase"].startswith("waking")
    assert cloud.state(cloud.gpu) == "running"
    assert reported["statusCode"] == 200
    assert {"next_report_s", "ticket_keys", "stay_until"} <= set(body(reported))
    assert [one["statusCode"] for one in (other, unsigned, stranger, nonsense)] == [403, 403, 401, 400]
    for one in (other, unsigned, stranger, nonsense):
        assert one["headers"]["Content-Type"] == "application/problem+json"
        assert body(one)["status"] == one["statusCode"]
    assert booked["statusCode"] == 201, booked


def test_the_tick_stops_a_gpu_that_nobody_wants(cloud: Cloud) -> None:
    cloud.client("ec2").start_instances(InstanceIds=[cloud.gpu])
    cloud.env |= {"IDLE_MINUTES": "0.0001", "BOOT_MAX_MINUTES": "0.0001"}
    cloud.drive("tick", shapes.scheduled(), shapes.scheduled())
    cloud.drive("tick", shapes.scheduled())
    assert cloud.state(cloud.gpu) == "stopped"
    assert cloud.state(cloud.edge) == "running"


def test_ec2s_event_makes_a_pass(cloud: Cloud) -> None:
    (answer,) = cloud.drive("machine_event", shapes.state_change(cloud.gpu, "stopped"))
    assert answer is None
    found = cloud.client("dynamodb").scan(TableName="table")["Items"]
    assert {f"machine#{cloud.gpu}", f"machine#{cloud.edge}"} <= {one["sk"]["S"] for one in found}


def test_ssms_event_moves_rollouts_on(cloud: Cloud) -> None:
    assert cloud.drive("command_event", shapes.command_status(cloud.edge, "Success")) == [None]


def test_the_probe_looks(cloud: Cloud) -> None:
    """moto registers no agents, so what the probe finds is that; that it wrote it down is what counts."""
    cloud.drive("tick", shapes.scheduled())
    cloud.drive("probe", shapes.scheduled())
    found = cloud.client("dynamodb").scan(TableName="table")["Items"]
    assert "probe" in {one["sk"]["S"] for one in found}


def test_a_cold_start_imports_nothing_that_can_wait(unzipped: Runtime) -> None:
    program = (
        f"import sys; sys.path[:0] = sys.argv[1:3]; import app; print([m for m in {LATE!r} if m in sys.modules])"
    )
    assert unzipped.python(program).strip() == "[]"


WARM = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import app
from chalicelib import wiring
print(json.dumps([sorted(made._clients._made) for made in [one.store for one in wiring._built.values()]]))
"""


def test_a_container_that_is_made_has_its_first_client_before_the_first_call(unzipped: Runtime) -> None:
    """While it is made it has a whole processor; outside of Lambda an import does nothing of that."""
    env = {"STACK_NAME": "s", "TABLE_NAME": "t", "EDGE_URL": "https://e", "AWS_REGION": REGION}
    assert json.loads(unzipped.python(WARM, env=env | {"AWS_LAMBDA_FUNCTION_NAME": "f"})) == [["dynamodb"]]
    assert json.loads(unzipped.python(WARM, env=env)) == []


def test_wrong_settings_are_said_by_the_first_call(cloud: Cloud) -> None:
    cloud.env |= {"AWS_LAMBDA_FUNCTION_NAME": "f", "NIGHT": "late"}
    health, status = cloud.drive("app", shapes.rest("GET", "/v1/health"), cloud.rest("GET", "/v1/status"))
    assert health["statusCode"] == 200
    assert status["statusCode"] == 500
    assert status["headers"]["Content-Type"] == "application/problem+json"


def test_what_is_imported_late_is_there(unzipped: Runtime) -> None:
    program = """
import sys
sys.path[:0] = sys.argv[1:3]
from chalicelib.domain import tickets
assert tickets.sign(tickets.TicketKey("k", "s" * 32, 0.0), "sid", 1e10).count(".") == 2
from chalicelib.net import canary, dialler, https, websocket
assert len(canary.speech()) > 48000
from chalicelib.aws import artifacts, commands, machines, metrics, notifier, store
from chalicelib.telemetry import logger
logger().info("it logs")
"""
    unzipped.python(program)


def test_bytecode_comes_along_and_is_used(unzipped: Runtime) -> None:
    """Lambda's disk is read-only: without it every cold start would compile everything."""
    program = """
import importlib.util, sys
sys.path[:0] = sys.argv[1:3]
import app
from chalicelib.telemetry import logger
logger()
own = [one for one in sys.modules.values() if (getattr(one, "__file__", None) or "").startswith(sys.argv[1])]
import os
print(len(own), [one.__name__ for one in own if not os.path.exists(one.__cached__ or "")])
"""
    count, missing = unzipped.python(program).split(maxsplit=1)
    assert int(count) > 60
    assert missing.strip() == "[]"
