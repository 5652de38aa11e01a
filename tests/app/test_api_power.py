"""Start, stop, restart, idle and night over the API, on moto."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from chalicelib.domain.times import to_text
from tests.app.api import Api, control_plane


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with control_plane(monkeypatch) as made:
        yield made


@pytest.fixture
def nightly(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The clock stands at 21:50 in Berlin."""
    with control_plane(monkeypatch, NIGHT="22:00-06:00 Europe/Berlin") as made:
        made.clock.now = datetime(2026, 11, 22, 20, 50, tzinfo=UTC).timestamp()
        yield made


def test_idle_minutes_after_the_last_session_it_stops_and_not_before(api: Api) -> None:
    session = api.awake()
    assert api.call("DELETE", f"/v1/sessions/{session['id']}", "speaker").status == 204
    api.clock.advance(590)
    api.gpu_report()
    api.tick()
    assert api.state() == "running"
    status = api.status()
    assert "lingers 10 minutes" in status["reason"]
    assert status["next"]["action"] == "stop"
    assert status["next"]["at"] == to_text(api.clock() + 10)
    api.clock.advance(11)
    api.gpu_report()
    api.tick()
    assert api.state() == "stopped"
    assert api.actions() == ["session.open", "gpu.start", "session.close", "gpu.stop", "gpu.receipt"]
    assert api.events()[-2]["reason"] == "no wish for 10 minutes"
    api.clock.advance(60)
    api.tick()
    assert api.phase() == "asleep"
    assert api.status()["cost_today"] == pytest.approx(603 / 3600 * 0.526, abs=0.001)


def test_silence_of_the_host_forbids_the_idle_stop_but_not_the_linger(api: Api) -> None:
    session = api.awake()
    api.call("DELETE", f"/v1/sessions/{session['id']}", "speaker")
    api.clock.advance(700)
    api.tick()
    assert api.state() == "running"
    assert "has not reported" in api.status()["reason"]
    api.gpu_report()  # the first report after the silence makes a pass: nothing streams, the linger is over
    assert api.state() == "stopped"


def test_a_live_stream_is_its_sessions_heartbeat(api: Api) -> None:
    session = api.awake()
    for _ in range(20):
        api.clock.advance(60)
        api.gpu_report(sids=(session["id"],))
        api.tick()
    assert api.state() == "running"
    assert api.look(session)["place"] == "reserved"
    api.gpu_report(sids=())
    api.clock.advance(181)
    api.gpu_report()
    api.tick()
    assert api.call("GET", f"/v1/sessions/{session['id']}", "speaker").status == 410
    assert "session.close" in api.actions()


def test_without_heartbeats_a_session_ends_and_the_gpu_follows(api: Api) -> None:
    session = api.awake()
    api.clock.advance(170)
    assert api.call("POST", f"/v1/sessions/{session['id']}/heartbeat", "speaker", {"lost_seconds": 0}).status == 200
    for _ in range(15):
        api.clock.advance(60)
        api.gpu_report()
        api.tick()
    assert api.state() == "stopped"
    answer = api.call("POST", f"/v1/sessions/{session['id']}/heartbeat", "speaker")
    assert answer.status == 410
    assert "no heartbeat" in answer.json["detail"]


def test_an_operator_started_machine_lingers_then_stops(api: Api) -> None:
    api.ec2.start_instances(InstanceIds=[api.gpu])
    api.machine_event()
    api.clock.advance(5)
    api.edge_report()
    api.gpu_report()
    assert api.phase() == "ready"
    api.clock.advance(596)
    api.gpu_report()
    api.tick()
    assert api.state() == "stopped"


def test_start_is_a_booking_capped_and_stop_ends_it(api: Api) -> None:
    answer = api.call("POST", "/v1/gpu/start", "speaker", {"minutes": 9999, "reason": "talk"})
    assert answer.status == 202
    assert answer.json["phase"] == "waking.boot"
    booking = answer.json["wishes"][0]
    assert booking["until"] == to_text(api.clock() + 240 * 60)
    api.clock.advance(30)
    api.machine_event()
    api.edge_report()
    api.gpu_report()
    answer = api.call("POST", "/v1/gpu/stop", body={"reason": "done"})
    assert answer.status == 202
    assert answer.json["phase"] == "stopping"
    assert answer.json["wishes"] == []
    assert api.state() == "stopped"
    assert api.actions() == ["booking.open", "gpu.start", "booking.close", "gpu.stop", "gpu.receipt"]


def test_stop_with_a_live_stream_drains_first(api: Api) -> None:
    session = api.awake()
    api.gpu_report(sids=(session["id"],))
    assert api.call("POST", "/v1/gpu/stop").json["phase"] == "draining"
    assert api.state() == "running"
    assert api.call("GET", f"/v1/sessions/{session['id']}", "speaker").status == 410
    told = api.gpu_report(sids=(session["id"],))
    assert told["drain"]["closing_at"] == to_text(api.clock() + 15)
    assert not told["drain"]["restarts"]
    assert told["revoked"] == []  # the drain ends the stream, not the revocation
    api.clock.advance(300)
    api.gpu_report("draining", sids=(session["id"],))
    api.tick()
    assert api.state() == "running"  # never under a live stream unless forced
    api.gpu_report("draining")
    assert api.state() == "stopped"
    assert [one for one in api.actions() if one.startswith("gpu")][:3] == ["gpu.start", "gpu.drain", "gpu.stop"]


def test_forced_stop_does_not_wait(api: Api) -> None:
    session = api.awake()
    api.gpu_report(sids=(session["id"],))
    api.call("POST", "/v1/gpu/stop")
    assert api.state() == "running"
    assert api.call("POST", "/v1/gpu/stop", body={"force": True}).status == 202
    assert api.state() == "stopped"


def test_stop_while_it_boots_waits_for_ec2(api: Api) -> None:
    api.open()
    api.state("pending")
    api.tick()
    answer = api.call("POST", "/v1/gpu/stop")
    assert answer.status == 202
    assert api.state() == "pending"
    api.state("running")
    api.machine_event()
    assert api.state() == "stopped"


def test_a_session_while_it_stops_starts_it_again(api: Api) -> None:
    api.awake()
    api.call("POST", "/v1/gpu/stop", body={"force": True})
    api.state("stopping")
    session = api.open()
    assert session["phase"] == "waking.capacity"
    assert len(api.started) == 1
    api.clock.advance(5)
    api.state("stopped")
    api.machine_event("stopped")
    assert len(api.started) == 2
    assert api.look(session)["phase"] == "waking.boot"


def test_closed_until_keeps_it_off(api: Api) -> None:
    until = to_text(api.clock() + 3600)
    assert api.call("POST", "/v1/gpu/stop", body={"closed_until": until}).status == 202
    refused = api.call("POST", "/v1/sessions", "speaker")
    assert refused.status == 409
    assert refused.json["closed_until"] == until
    assert api.call("POST", "/v1/gpu/start", "speaker").status == 409
    assert api.started == []
    api.clock.advance(3601)
    assert api.call("POST", "/v1/sessions", "speaker").status == 201
    api.call("POST", "/v1/gpu/stop", body={"closed_until": to_text(api.clock() + 60), "force": True})
    assert api.call("POST", "/v1/gpu/start").status == 202
    assert api.status()["admission"]["open"]


def test_closed_for_ever_is_refused_and_changes_nothing(api: Api) -> None:
    for ever in ("9999-12-31T23:59:59-05:00", "2999-01-01T00:00:00Z"):
        refused = api.call("POST", "/v1/gpu/stop", body={"closed_until": ever})
        assert refused.status == 422, refused.text
        assert "a year" in refused.json["detail"]
    assert api.call("POST", "/v1/sessions", "speaker").status == 201


def test_restart_drains_and_sends_the_document_once(api: Api) -> None:
    assert api.call("POST", "/v1/gpu/restart").status == 409
    session = api.awake()
    api.gpu_report(sids=(session["id"],))
    answer = api.call("POST", "/v1/gpu/restart")
    assert answer.status == 202
    assert answer.json["phase"] == "draining"
    assert api.look(session)["notice"]
    assert api.gpu_report("draining", sids=(session["id"],))["drain"]["restarts"]
    api.gpu_report("draining")
    assert "gpu.restart" in api.actions()
    assert api.gpu_report("loading")["drain"] is None
    api.clock.advance(5)
    api.gpu_report("ready")
    assert api.look(session)["ticket"]
    api.tick()
    assert api.actions().count("gpu.restart") == 1


def test_night_gives_notice_and_grace_then_stops(nightly: Api) -> None:
    api = nightly
    session = api.awake()
    api.gpu_report(sids=(session["id"],))
    api.clock.advance(600)  # 22:00, and every tick since was missed
    api.gpu_report(sids=(session["id"],))
    api.tick()
    told = api.gpu_report(sids=(session["id"],))
    assert "06:00" in told["drain"]["reason"]
    assert told["drain"]["closing_at"] == to_text(api.clock() + 300)
    assert "06:00" in api.look(session)["notice"]
    refused = api.call("POST", "/v1/sessions", "speaker")
    assert refused.status == 409
    assert "closed until 06:00" in refused.json["detail"]
    assert api.call("POST", "/v1/gpu/start", "speaker").status == 409
    api.clock.advance(290)
    api.gpu_report(sids=(session["id"],))
    api.tick()
    assert api.state() == "running"
    assert api.look(session)["phase"] == "draining"
    api.clock.advance(15)
    api.gpu_report("draining")
    api.clock.advance(1)  # two passes of one second are one
    api.tick()
    assert api.state() == "stopped"
    assert api.call("GET", f"/v1/sessions/{session['id']}", "speaker").status == 410
    assert api.status()["next"]["at"] == "2026-11-23T05:00:00.000Z"


def test_night_stops_even_a_stream_that_does_not_end(nightly: Api) -> None:
    api = nightly
    session = api.awake()
    api.clock.advance(600)
    api.gpu_report(sids=(session["id"],))
    api.tick()
    api.clock.advance(331)
    api.gpu_report(sids=(session["id"],))
    api.tick()
    assert api.state() == "stopped"


def test_an_operators_start_overrides_the_night(nightly: Api) -> None:
    api = nightly
    api.clock.advance(3600)
    api.tick()
    assert api.call("POST", "/v1/gpu/start", body={"minutes": 30}).status == 202
    assert api.call("POST", "/v1/sessions", "speaker").status == 201
    assert len(api.started) == 1


def test_past_the_hard_maximum_nothing_keeps_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with control_plane(monkeypatch, HARD_MAX_MINUTES="60") as api:
        session = api.awake()
        for _ in range(58):
            api.clock.advance(60)
            api.gpu_report(sids=(session["id"],))
            api.tick()
        assert api.phase() == "draining"
        assert api.state() == "running"
        api.clock.advance(120)
        api.gpu_report(sids=(session["id"],))
        stop = api.events()[-2]
        assert (stop["action"], "hard maximum" in stop["reason"]) == ("gpu.stop", True)
        assert api.state() == "stopped"
