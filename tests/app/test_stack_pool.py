"""Two machines, a night and people who speak, on the embedded cloud: drains, the night, capacity, a GPU that dies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.app.lifecycle import (
    Log,
    Speaker,
    close,
    go_on,
    look,
    now,
    open_session,
    opened,
    recovered,
    rest,
    serving,
    states,
    until,
    with_ticket,
)
from tests.stack import Stack, start_stack
from tests.waiting import wait_until
from tests.wss import TRAIN, pcm, said, word_error_rate

# Three minutes with people who speak in real time: `make endurance`.
pytestmark = pytest.mark.endurance

NIGHT = "22:00-06:00 UTC"
GRACE_S = 300
ROOMY = ("--gpus", "2", "--gpu-types", "g4dn.xlarge g5.xlarge", "--boot-seconds", "1", "--stop-seconds", "1")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two GPUs in two zones."""
    with start_stack(tmp_path_factory.mktemp("pool"), *ROOMY, "--night", NIGHT) as started:
        yield started


@pytest.fixture
def pool(running: Stack) -> Stack:
    """Everything asleep, no fault, no wish; noon."""
    rest(running)
    until(running, 12)
    return running


def test_a_stop_drains_and_the_last_words_arrive_before_it(pool: Stack) -> None:
    session = with_ticket(pool, opened(pool))
    log = Log(pool)
    with Speaker(pool, session) as speaker:
        speaker.say(pcm(TRAIN))
        serving(pool)  # who connects in the same moment is not known yet, and gets 1012 without a notice
        pool.call("POST", "/v1/gpu/stop", body={"reason": "maintenance"}).raise_for_status()
        notice = speaker.notice()
        assert "maintenance" in notice["reason"]
        code, reason = speaker.closed()
        pool.wait_phase("asleep")
    assert code == 1012, (code, reason)
    assert word_error_rate(said(TRAIN), speaker.heard.text()) <= 0.1, speaker.heard.text()
    assert log.acts() == ["gpu.drain", "gpu.stop"]
    # The stop waited for the closing that the stream was promised; the log's times are to the millisecond.
    closing_at = datetime.fromisoformat(notice["closing_at"])
    assert datetime.fromisoformat(log.events("gpu.stop")[0]["at"]) >= closing_at
    assert len(log.reasons("gpu.receipt")) == 1


def test_the_night_ends_streams_after_notice_and_grace_though_its_ticks_are_lost(pool: Stack) -> None:
    until(pool, 21.975)
    session = with_ticket(pool, opened(pool))
    log = Log(pool)
    with Speaker(pool, session) as speaker:
        serving(pool)
        assert log.acts() == []
        pool.faults(ticks={"lost": True})
        until(pool, 22.001)
        notice = speaker.notice()
        assert "night" in notice["reason"]
        left = datetime.fromisoformat(notice["closing_at"]) - datetime.fromisoformat(now(pool))
        assert 0 < left.total_seconds() <= GRACE_S
        assert speaker.heard.close_code is None, "nobody is cut off without the grace"
        refused = open_session(pool)
        assert (refused.status_code, refused.json()["closed_until"][11:16]) == (409, "06:00")
        pool.advance(GRACE_S)
        code, _ = speaker.closed()
        assert code == 1012
        pool.wait_phase("asleep")
    pool.faults()
    assert log.acts() == ["gpu.drain", "gpu.stop"]
    until(pool, 5.9)
    assert set(states(pool)) == {"stopped"}
    assert not log.calls("StartInstances"), "nothing runs in the night"
    until(pool, 6.02)
    assert pool.status()["admission"]["open"] is True


def test_a_night_whose_every_trigger_was_lost_is_made_up_for_by_the_next_tick(pool: Stack) -> None:
    """Nobody speaks, the GPU lingers, and every Lambda fails until long after the night began."""
    until(pool, 21.9)
    close(pool, with_ticket(pool, opened(pool)))
    log = Log(pool)
    pool.faults(throttling=[{"service": "dynamodb"}])
    until(pool, 22.5)
    assert "running" in states(pool), "nobody could stop it"
    pool.faults()
    pool.advance(61)
    wait_until(lambda: set(states(pool)) == {"stopped"}, 90, "the night to be made up for")
    # A drain before it, where the tick came before the host's report had said that nobody speaks.
    assert log.acts()[-1] == "gpu.stop"
    assert set(log.acts()) <= {"gpu.drain", "gpu.stop"}
    assert "night" in log.reasons("gpu.stop")[0]


def test_a_booking_holds_through_the_night(pool: Stack) -> None:
    """It wakes the GPU in the night, lets people in, and when it ends the night takes over."""
    until(pool, 22)
    day = now(pool)[:10]
    body = {"start": f"{day}T22:30:00Z", "end": f"{day}T22:33:00Z", "note": "late talk"}
    booking = pool.call("POST", "/v1/bookings", body=body)
    assert booking.status_code == 201, booking.text
    assert open_session(pool).status_code == 409
    log = Log(pool)
    wake_at = datetime.fromisoformat(booking.json()["wake_at"])
    until(pool, wake_at.hour + wake_at.minute / 60 + (wake_at.second + 2) / 3600)
    pool.wait_phase("ready")
    assert log.acts() == ["gpu.start"]
    assert "booked it for 22:30" in log.reasons("gpu.start")[0]
    session = with_ticket(pool, opened(pool))
    with Speaker(pool, session) as speaker:
        serving(pool)
        go_on(pool, 22.5 + 2 / 60)
        assert log.acts() == ["gpu.start"], "the booking covers the night"
        go_on(pool, 22.55 + 2 / 3600)
        assert "night" in speaker.notice()["reason"]
        pool.advance(GRACE_S)
        assert speaker.closed()[0] == 1012
        pool.wait_phase("asleep")
    assert log.acts() == ["gpu.start", "gpu.drain", "gpu.stop"]


def test_no_room_in_one_zone_climbs_to_the_standby_in_another(pool: Stack) -> None:
    first, second = sorted(pool.gpu_instance_ids)  # the ladder's order, where nothing else decides
    zone = _zone(pool, first)
    pool.faults(capacity=[{"zone": zone}])
    log = Log(pool)
    session = with_ticket(pool, opened(pool))
    assert log.acts() == ["gpu.start_refused", "gpu.start_refused", "gpu.start"]
    assert [one["target"] for one in log.events("gpu.start_refused")] == [first, first]
    assert ["g4dn.xlarge" in one for one in log.reasons("gpu.start_refused")] == [True, False]
    assert log.switched("StartInstances") == [second]
    assert all(zone in one for one in log.reasons("gpu.start_refused"))
    close(pool, session)


def test_no_room_for_one_type_starts_the_same_machine_as_another(pool: Stack) -> None:
    pool.faults(capacity=[{"type": "g4dn.xlarge"}])
    log = Log(pool)
    session = with_ticket(pool, opened(pool))
    assert log.acts() == ["gpu.start_refused", "gpu.start"]
    # Which machine is tried first depends on what the tests before left; that one takes the other type.
    refused, started = (log.events(f"gpu.{name}")[0]["target"] for name in ("start_refused", "start"))
    assert [one["target"] for one in log.events("gpu.change_type")] == [refused]
    assert started == refused
    assert pool.status()["gpu"]["type"] == "g5.xlarge"
    close(pool, session)


def test_no_room_anywhere_says_so_and_is_tried_again(pool: Stack) -> None:
    pool.faults(capacity=[{}])
    log = Log(pool)
    session = opened(pool)
    wait_until(lambda: log.events("gpu.no_capacity"), 10, "every rung to be asked")
    seen = pool.status()
    assert seen["phase"] == "waking.capacity"
    assert "AWS has no" in seen["reason"]
    assert set(log.acts()) == {"gpu.start_refused"}
    assert len(log.events("gpu.no_capacity")) == 1
    asked = len(log.calls("StartInstances"))
    pool.advance(61)
    look(pool, session)
    assert len(log.calls("StartInstances")) == asked, "it cools down"
    pool.faults()
    for _ in range(2):
        pool.advance(91)
        look(pool, session)
    close(pool, with_ticket(pool, session))
    assert log.acts()[-1] == "gpu.start"


@pytest.mark.parametrize("how", ["failed", "lost"])
def test_speech_goes_on_when_the_gpu_dies_under_it(pool: Stack, how: str) -> None:
    """`failed`: EC2 says so by an event. `lost`: it goes on saying running, and host and edge are the witnesses."""
    log = Log(pool)
    seconds = recovered(pool, how)
    # 5 to 8 s and 20 to 60 s on a machine that does much else (docs/lifecycle.md).
    assert seconds < 100, f"live again after {seconds:.1f} s"
    started = log.switched("StartInstances")
    assert len(started) == 2
    if how == "failed":
        # The ladder begins with the lowest id of those that are stopped, the dead one's included.
        assert "1 streams were on it" in log.reasons("gpu.stopped_by_itself")[0]
        return
    assert len(set(started)) == 2, "the standby, beside one that EC2 calls running"
    assert len(log.events("gpu.lost")) == 1
    pool.advance(130)
    dead = pool.gpu_instance_ids.index(started[0])
    wait_until(lambda: "stop" in states(pool)[dead], 60, "the dead machine to be stopped")


def test_throttled_starts_are_asked_again(pool: Stack) -> None:
    pool.faults(throttling=[{"service": "ec2", "operation": "StartInstances", "times": 1}])
    log = Log(pool)
    session = opened(pool)
    wait_until(log.acts, 5, "the first start")  # the call may return before the pass of its second
    assert log.acts()[0] == "gpu.start_refused"
    assert "EC2 asks for a pause" in log.reasons("gpu.start_refused")[0]
    pool.advance(61)
    close(pool, with_ticket(pool, session))
    log.assert_no_double_act()


def _zone(pool: Stack, instance_id: str) -> str:
    """Where a GPU is."""
    import boto3

    ec2 = boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=pool.aws_endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106  the stand-in's
    )
    (found,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    return str(found["Instances"][0]["Placement"]["AvailabilityZone"])
