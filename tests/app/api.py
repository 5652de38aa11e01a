"""The real app.py on moto, in one process: raw API Gateway events in, answers out.

A module instance serves one request at a time, as a Lambda container does (Chalice keeps the current request on
the app object), so a pool of them serves concurrent calls.
"""

from __future__ import annotations

import base64
import functools
import importlib.util
import json
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from moto import mock_aws

from chalicelib import wiring
from chalicelib.aws.store import table_definition
from chalicelib.services import tokens
from chalicelib.services.context import Context
from tests.fakes import FakeClock
from whisperctl.documents import documents

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"
ACCOUNT = "123456789012"
STACK = "teststack"
IMAGE = "ami-12c6146b"
"""One that moto knows."""
START_HOOK = "provide-client-params.ec2.StartInstances"


def load_app(number: int) -> ModuleType:
    """One more container: app.py imported afresh under a name of its own."""
    name = f"app_instance_{number}"
    spec = importlib.util.spec_from_file_location(name, ROOT / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Answer:
    """A response as API Gateway would send it."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Api:
    """The control plane with a GPU and an edge of its own."""

    clock: FakeClock
    gpu: str
    gpu_ip: str
    edge: str
    context: Context
    tokens: dict[str, str]
    ec2: Any
    pool: queue.SimpleQueue[ModuleType] = field(default_factory=queue.SimpleQueue)
    made: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    started: list[Any] = field(default_factory=list)
    """The StartInstances calls that were really sent."""

    @contextmanager
    def container(self) -> Iterator[ModuleType]:
        """A warm container, or a cold one more."""
        try:
            module = self.pool.get_nowait()
        except queue.Empty:
            with self.lock:
                self.made += 1
                module = load_app(self.made)
        try:
            yield module
        finally:
            self.pool.put(module)

    def event(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        """An API Gateway REST proxy event; `path` with its query string."""
        plain, _, query = path.partition("?")
        with self.container() as module:
            resource, parameters = _resource(module, plain)
        values = {k: [v] for k, _, v in (pair.partition("=") for pair in query.split("&") if pair)}
        body = more.get("body")
        encoded = isinstance(body, bytes)
        return {
            "resource": resource,
            "path": plain,
            "httpMethod": method,
            "headers": more.get("headers", {}),
            "multiValueHeaders": {},
            "queryStringParameters": None,
            "multiValueQueryStringParameters": values or None,
            "pathParameters": parameters or None,
            "stageVariables": None,
            "requestContext": {
                "resourcePath": resource,
                "httpMethod": method,
                "requestId": "request-1",
                "identity": {"userArn": more.get("user_arn")},
            },
            "body": base64.b64encode(body).decode() if isinstance(body, bytes) else body,
            "isBase64Encoded": encoded,
        }

    def send(self, event: dict[str, Any]) -> Answer:
        with self.container() as module:
            answer = module.app(event, SimpleNamespace(aws_request_id="request-1"))
        return Answer(int(answer["statusCode"]), answer["headers"], answer.get("body") or "")

    def call(
        self,
        method: str,
        path: str,
        role: str | None = "operator",
        body: Any = None,
        headers: dict[str, str] | None = None,
        raw: str | bytes | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if role:
            sent["Authorization"] = f"Bearer {self.tokens.get(role, role)}"
        text = raw if raw is not None else (None if body is None else json.dumps(body))
        return self.send(self.event(method, path, headers=sent, body=text))

    def report(self, instance_id: str, body: Any, caller: str | None = None) -> Answer:
        """A host's report, vouched for as API Gateway's IAM does."""
        arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/host/{caller or instance_id}"
        event = self.event("POST", f"/v1/hosts/{instance_id}/report", body=json.dumps(body), user_arn=arn)
        return self.send(event)

    def gpu_report(self, status: str = "ready", sids: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
        streams = [{"sid": sid, "since": 1.0, "last_audio_s": 0.1} for sid in sids]
        body = {"boot_id": "b1", "status": status, "release": "r1", "model": "tiny.en", "max_streams": 4}
        answer = self.report(self.gpu, {**body, "streams": streams, **more})
        assert answer.status == 200, answer
        return dict(answer.json)

    def edge_report(self, upstreams: list[Any] | None = None) -> dict[str, Any]:
        held = [self.gpu_ip] if upstreams is None else upstreams
        answer = self.report(self.edge, {"boot_id": "e1", "status": "ready", "upstreams": held})
        assert answer.status == 200, answer
        return dict(answer.json)

    def tick(self) -> None:
        with self.container() as module:
            module.tick(_scheduled(), None)

    def machine_event(self, state: str = "running") -> None:
        event = _scheduled() | {
            "source": "aws.ec2",
            "detail-type": "EC2 Instance State-change Notification",
            "detail": {"instance-id": self.gpu, "state": state},
        }
        with self.container() as module:
            module.machine_event(event, None)

    def status(self) -> dict[str, Any]:
        answer = self.call("GET", "/v1/status", "viewer")
        assert answer.status == 200, answer
        return dict(answer.json)

    def phase(self) -> str:
        return str(self.status()["phase"])

    def state(self, state: str | None = None, instance_id: str | None = None) -> str:
        """EC2's truth; moto moves at once, so a test that needs a dwell sets the state itself."""
        from moto.backends import get_backend

        instance: Any = get_backend("ec2")[ACCOUNT][REGION].get_instance(instance_id or self.gpu)
        if state is not None:
            codes = {
                "pending": 0,
                "running": 16,
                "shutting-down": 32,
                "terminated": 48,
                "stopping": 64,
                "stopped": 80,
            }
            instance._state.name, instance._state.code = state, codes[state]
        return str(instance._state.name)

    def events(self, since: str = "") -> list[dict[str, Any]]:
        answer = self.call("GET", f"/v1/events?since={since}", "viewer")
        assert answer.status == 200, answer
        return list(answer.json["events"])

    def actions(self) -> list[str]:
        return [one["action"] for one in self.events()]

    def open(self, role: str = "speaker", **wish: Any) -> dict[str, Any]:
        answer = self.call("POST", "/v1/sessions", role, wish)
        assert answer.status == 201, answer
        return dict(answer.json)

    def look(self, session: dict[str, Any], role: str = "speaker") -> dict[str, Any]:
        answer = self.call("GET", f"/v1/sessions/{session['id']}", role)
        assert answer.status == 200, answer
        return dict(answer.json)

    def awake(self, **wish: Any) -> dict[str, Any]:
        """A session on a GPU that is ready."""
        session = self.open(**wish)
        self.clock.advance(2)
        self.tick()
        self.edge_report()
        self.gpu_report("ready")
        assert self.phase() == "ready"
        return session


def _scheduled() -> dict[str, Any]:
    return {
        "version": "0",
        "account": ACCOUNT,
        "region": REGION,
        "detail": {},
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "time": "2026-11-22T17:00:00Z",
        "id": "1",
        "resources": [],
    }


def _resource(module: ModuleType, path: str) -> tuple[str, dict[str, str]]:
    for resource in module.app.routes:
        pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", resource)
        found = re.fullmatch(pattern, path)
        if found:
            return str(resource), found.groupdict()
    return path, {}


@contextmanager
def control_plane(monkeypatch: pytest.MonkeyPatch, **settings: str) -> Iterator[Api]:
    """The whole control plane on moto, with a fake clock."""
    environment = {
        "STACK_NAME": STACK,
        "TABLE_NAME": "table",
        "EDGE_URL": "https://edge.example",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    } | settings
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    clock = FakeClock()
    _one_call_at_a_time(monkeypatch)
    with mock_aws():
        # Clients live on from test to test: making them is what takes the time.
        wiring.use_clock(clock, lambda _seconds: None)  # a turn that does not come is not waited for
        context = wiring.context()
        started: list[Any] = []
        machines: Any = context.machines
        hooks = machines._clients.ec2_once.meta.events
        hooks.register(START_HOOK, remember := lambda params, **_: started.append(params))
        try:
            yield _made(clock, context, started)
        finally:
            hooks.unregister(START_HOOK, remember)
            wiring.use_clock(time.time)


def _one_call_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's single calls are atomic; moto's are not under threads. Calls still interleave."""
    lock = threading.RLock()
    base: Any = BaseClient
    plain = base._make_api_call

    def serial(client: Any, operation: str, arguments: Any) -> Any:
        with lock:
            return plain(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", serial)


@functools.cache
def _client(service: str) -> Any:
    client: Any = boto3.client(service, region_name=REGION)  # type: ignore[call-overload]  # not a literal
    return client


def _made(clock: FakeClock, context: Context, started: list[Any]) -> Api:
    _client("dynamodb").create_table(**table_definition("table"))
    ssm = _client("ssm")
    for name, content in documents(STACK).items():
        ssm.create_document(Name=name, DocumentType="Command", Content=json.dumps(content))
    ec2 = _client("ec2")
    gpu = run_instance(ec2, {"whisperlive-edge:stack": STACK, "whisperlive-edge:role": "gpu"}, "g4dn.xlarge")
    edge = run_instance(ec2, {"whisperlive-edge:stack": STACK, "whisperlive-edge:role": "edge"}, "t3.medium")
    ec2.stop_instances(InstanceIds=[gpu["InstanceId"]])
    made = {str(role): tokens.issue(context.store, role, now=clock(), label=role) for role in tokens.Role}
    made["other"] = tokens.issue(context.store, "speaker", now=clock(), label="other")
    api = Api(
        clock,
        gpu["InstanceId"],
        gpu["PrivateIpAddress"],
        edge["InstanceId"],
        context,
        made,
        ec2,
        started=started,
    )
    api.tick()
    return api


def run_instance(ec2: Any, tags: dict[str, str], kind: str) -> Any:
    """A machine with these tags and no others."""
    specs = [{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}] if tags else []
    answer = ec2.run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1, InstanceType=kind, TagSpecifications=specs)
    return answer["Instances"][0]
