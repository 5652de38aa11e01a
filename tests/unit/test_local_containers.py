"""A Lambda that ends right after an AWS call: nothing of it runs on, its container serves no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.unit.local_cloud import Cloud
from tests.waiting import wait_until
from whisperctl.local.containers import LambdaKilled, mortal
from whisperctl.local.lambdas import AppPool, AsyncInvoker

APP = """
import json, boto3
from chalice import Chalice
app = Chalice("test")
LOG = []
CLIENTS = {}

def work(event, context):
    CLIENT = CLIENTS["ec2"]
    LOG.append("begun")
    try:
        CLIENT.start_instances(InstanceIds=[event["id"]])
        LOG.append("acted")
    except Exception:
        LOG.append("caught")
    finally:
        try:
            CLIENT.stop_instances(InstanceIds=[event["id"]])
        finally:
            CLIENT.describe_instances()
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    yield made
    made.close()


def pool_of(cloud: Cloud, tmp_path: Path) -> AppPool:
    path = tmp_path / "app.py"
    path.write_text(APP)
    pool = AppPool(path)
    with mortal(), pool.lease() as app:
        session = boto3.Session(region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")  # noqa: S106
        app.CLIENTS["ec2"] = session.client("ec2", endpoint_url=cloud.server.url)
    return pool


def test_the_invocation_is_dead_from_the_answer_on(cloud: Cloud, tmp_path: Path) -> None:
    gpu, pool = cloud.gpu(), pool_of(cloud, tmp_path)
    cloud.post("faults", {"lambdas": [{"after": "StartInstances"}]}).raise_for_status()
    with pytest.raises(LambdaKilled), pool.lease() as app:
        app.work({"id": gpu}, None)
    assert app.LOG == ["begun"]
    assert [call["operation"] for call in cloud.calls.all()] == ["StartInstances"]
    assert cloud.state(gpu) == "pending"
    assert pool.made == 0  # its container is gone with it
    assert cloud.faults.now.lambdas[0].times == 0


def test_a_call_of_somebody_else_kills_nobody_and_counts_for_nothing(cloud: Cloud) -> None:
    cloud.post("faults", {"lambdas": [{"after": "StartInstances", "times": 2}]}).raise_for_status()
    cloud.client("ec2").start_instances(InstanceIds=[cloud.gpu()])
    assert cloud.faults.now.lambdas[0].times == 2


def test_an_asynchronous_one_is_tried_again(cloud: Cloud, tmp_path: Path) -> None:
    gpu = cloud.gpu()
    pool = pool_of(cloud, tmp_path)
    with pool.lease() as app:
        clients, log = app.CLIENTS, app.LOG
    cloud.post("faults", {"lambdas": [{"after": "StartInstances"}]}).raise_for_status()
    AsyncInvoker(pool, cloud.timeline, "us-east-1").invoke("work", {"id": gpu})
    wait_until(lambda: pool.made == 0, 5, "the end of the first container")
    with pool.lease() as fresh:
        assert fresh is not app
        fresh.CLIENTS.update(clients)
    cloud.advance(61)
    wait_until(lambda: fresh.LOG == ["begun", "acted"], 5, "the second try")
    assert log == ["begun"]
