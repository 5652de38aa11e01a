"""A second GPU host joins, the first one drains: the edge follows, and streams on the other host are not touched."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.hosts.conftest import GRACE_S, Installed
from tests.hosts.deploying import deploy
from tests.hosts.streams import LiveStream, awake, open_stream
from tests.hosts.world import World
from tests.waiting import wait_until
from tests.wss import SHORT, said, word_error_rate

pytestmark = [pytest.mark.timeout(600), pytest.mark.endurance]
HARD_MAX_S = 12 * 3600.0
LEFT_S = 480.0
"""How long before the drain of the first host the second one comes."""
FOLLOWS_S = 10.0
"""Two reports."""


def upstreams(world: World) -> set[str]:
    """The addresses that the edge forwards to."""
    return set(world.must(world.edge, "/opt/edge/current/bootstrap/set-upstream.sh --show").split())


def sids(world: World, host: str) -> set[str]:
    """The sessions that stream on a host, as its launcher says; the probe's own streams are none."""
    health = json.loads(world.must(host, "curl -fsS http://127.0.0.1:9091/health"))
    return {one["sid"] for one in health["streams"] if not one["sid"].startswith("canary-")}


@pytest.fixture
def joining(installed: Installed) -> Iterator[str]:
    """A machine that somebody has put there with the stack's tags: blank, running. Its id."""
    world = installed.world
    tags = {"whisperlive-edge:stack": "local", "whisperlive-edge:role": "gpu", "Name": "local-gpu-2"}
    ec2 = world.client("ec2")
    made = ec2.run_instances(
        ImageId="ami-00000000",
        MinCount=1,
        MaxCount=1,
        InstanceType="g4dn.xlarge",
        Placement={"AvailabilityZone": "us-east-1b"},
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        ],
    )["Instances"][0]["InstanceId"]
    wait_until(lambda: world.booted(made), 60, "the second host to boot", every=0.2)
    yield made
    ec2.terminate_instances(InstanceIds=[made])


def wait_beside(world: World, streams: list[LiveStream], seconds: float) -> None:
    """Let the stand-in's clock pass; sessions are kept alive as a client does."""

    def keep_alive() -> None:
        for one in streams:
            world.stack.call("POST", f"/v1/sessions/{one.session['id']}/heartbeat", role="speaker", body={})

    world.let_pass(seconds, keep_alive)


@pytest.fixture
def aged(installed: Installed) -> float:
    """The first host is booked, and awake for nearly the hard maximum; when that ends, by the stand-in's clock."""
    world = installed.world
    world.stack.asleep()
    end = datetime.fromtimestamp(world.now(), UTC) + timedelta(hours=12, minutes=-1)
    booked = world.stack.call("POST", "/v1/bookings", body={"end": end.isoformat()})
    assert booked.status_code == 201, booked.text
    began = world.now()
    world.stack.wait_phase("ready", 90)
    world.settle()  # or the edge would say after the jump that it cannot connect, and the host were given up
    world.stack.advance(HARD_MAX_S - GRACE_S - LEFT_S - (world.now() - began))
    world.stack.wait_phase("ready", 30)
    return began + HARD_MAX_S


def test_a_second_host_joins_and_the_first_one_drains(installed: Installed, aged: float, joining: str) -> None:
    world = installed.world
    release = world.must(world.gpu, "readlink /opt/whisperlive/current").rpartition("/")[2]
    rollout = deploy(world, "gpu", "--release", release)["rollout"]
    assert rollout["state"] == "succeeded", rollout
    assert [one["name"] for one in rollout["steps"] if one["host"] == world.gpu] == ["already current"]
    first, second = world.address(world.gpu), world.address(joining)
    wait_until(lambda: upstreams(world) == {first, second}, 30, "the edge to know both", every=0.3)

    with open_stream(world) as one, open_stream(world) as other:
        streams = {live.session["id"]: live for live in (one, other)}
        wait_until(lambda: len(sids(world, world.gpu)) == len(sids(world, joining)) == 1, 10, "a stream on each")
        leaving = streams[next(iter(sids(world, world.gpu)))]
        staying = streams[next(iter(sids(world, joining)))]
        assert leaving is not staying
        wait_beside(world, [one, other], aged - GRACE_S - world.now())
        notice = leaving.wait_for("NOTICE", FOLLOWS_S + 10)
        assert "hard maximum" in notice["reason"]
        wait_until(lambda: upstreams(world) == {second}, FOLLOWS_S, "the edge to follow", every=0.2)
        took = time.monotonic() - leaving.moment_of("NOTICE")
        sys.stdout.write(f"from the speaker's NOTICE to an edge that forwards to the other host only: {took:.1f} s\n")
        leaving.speak()
        wait_beside(world, [one, other], aged + 1 - world.now())
        leaving.wait_closed()
        assert leaving.heard.close_code == 1012
        assert word_error_rate(said(SHORT), leaving.heard.text()) <= 0.15
        wait_until(lambda: world.state(world.gpu) in ("stopping", "stopped"), 60, "the first host to stop", every=0.3)
        # Caddy looks at the hosts file every few seconds.
        with open_stream(world, asks_for_s=FOLLOWS_S) as third:
            wait_until(lambda: third.session["id"] in sids(world, joining), 10, "the new one on the second host")
            third.finish()
            assert third.heard.close_code == 1000
        assert staying.is_open
        assert "NOTICE" not in staying.heard.statuses()
        staying.finish()
        assert staying.heard.close_code == 1000
        assert word_error_rate(said(SHORT), staying.heard.text()) <= 0.15
    for booking in world.stack.call("GET", "/v1/bookings").json()["bookings"]:
        world.stack.call("DELETE", f"/v1/bookings/{booking['id']}").raise_for_status()
    world.stack.asleep()
    awake(world)
