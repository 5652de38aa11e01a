"""Sessions over the API, on moto."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from tests.app.api import Api, control_plane, run_instance


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with control_plane(monkeypatch) as made:
        yield made


def test_a_session_wakes_the_gpu_and_gets_a_ticket(api: Api) -> None:
    assert api.phase() == "asleep"
    session = api.open(language="en", minutes=30)
    assert session["phase"] == "waking.boot"
    assert session["place"] == "waiting"
    assert session["ticket"] is None
    assert session["eta_seconds"] is None
    assert session["ws_url"] == "wss://edge.example/ws"
    assert len(api.started) == 1
    api.clock.advance(20)
    api.machine_event()
    answer = api.gpu_report("loading")
    assert answer["next_report_s"] == 5
    assert api.phase() == "waking.service"
    api.clock.advance(5)
    api.gpu_report("ready")
    assert api.phase() == "waking.service"  # the edge does not forward yet
    assert api.look(session)["ticket"] is None
    assert [one["host"] for one in api.edge_report([])["upstreams"]] == [api.gpu_ip]
    api.edge_report()
    ready = api.look(session)
    assert (ready["phase"], ready["place"]) == ("ready", "reserved")
    assert ready["upstream_epoch"] == 1
    keys = {key["kid"]: key["secret"] for key in api.gpu_report("ready")["ticket_keys"]}
    kid = jwt.get_unverified_header(ready["ticket"])["kid"]
    claims = jwt.decode(ready["ticket"], keys[kid], algorithms=["HS256"], options={"verify_exp": False})
    assert claims["sid"] == session["id"]
    assert claims["exp"] == int(api.clock() - 25 + 1800)
    assert api.actions() == ["session.open", "gpu.start"]


def test_the_model_a_session_names_reaches_the_host(api: Api) -> None:
    api.open(language="es", model="Systran/faster-whisper-base", task="translate")
    api.clock.advance(1)
    api.open(model="tiny.en")
    api.clock.advance(20)
    api.machine_event()
    assert api.gpu_report("loading")["model"] is None, "it has not said which it has"
    assert api.gpu_report("ready", models=["base", "tiny.en"])["model"] == "base"
    assert api.gpu_report("ready", models=["tiny.en"])["model"] == "tiny.en"
    gpu = api.status()["gpu"]
    assert (gpu["model"], gpu["models"]) == ("tiny.en", ["tiny.en"])


def test_the_models_to_choose_from_are_known_while_it_sleeps(api: Api) -> None:
    session = api.open()
    api.clock.advance(20)
    api.machine_event()
    api.gpu_report("ready", models=["base", "tiny.en"])
    api.call("DELETE", f"/v1/sessions/{session['id']}", "speaker")
    api.call("POST", "/v1/gpu/stop", body={"force": True})
    api.state("stopped", api.gpu)
    api.machine_event("stopped")
    gpu = api.status()["gpu"]
    assert (api.phase(), gpu["model"], gpu["models"]) == ("asleep", None, ["base", "tiny.en"])


def test_twenty_sessions_at_once_start_it_once(api: Api) -> None:
    with ThreadPoolExecutor(20) as pool:
        sessions = list(pool.map(lambda _: api.open(), range(20)))
    assert len({one["id"] for one in sessions}) == 20
    assert len(api.started) == 1
    assert api.actions().count("gpu.start") == 1
    assert api.made > 1


def test_the_edge_is_told_over_ssm_when_asked(api: Api) -> None:
    answer = api.call("POST", "/v1/edge/refresh")
    assert answer.status == 202, answer
    assert [one["host"] for one in answer.json["upstreams"]] == [api.gpu_ip]
    assert [one["instance_id"] for one in answer.json["commands"]] == [api.edge]
    assert api.actions() == ["edge.refresh"]
    api.state("stopped", api.edge)
    assert api.call("POST", "/v1/edge/refresh").status == 409


def test_the_edge_asleep_is_asked_for_less_and_gets_no_secret(api: Api) -> None:
    answer = api.edge_report([])
    assert answer["next_report_s"] == 60
    assert (answer["ticket_keys"], answer["revoked"], answer["drain"]) == ([], [], None)
    assert not api.status()["edge"]["upstream_ok"]
    api.open()
    assert api.edge_report([f"{api.gpu_ip}:9090"])["next_report_s"] == 5
    assert api.status()["edge"]["upstream_ok"]
    assert api.edge_report([{"host": api.gpu_ip, "port": 9090}])["upstreams"][0]["port"] == 9090


def test_a_gpu_that_failed_says_why_and_what_to_do(api: Api) -> None:
    api.awake()
    api.gpu_report("failed", cause="the model file has another hash")
    shown = api.status()
    assert (shown["phase"], shown["reason"]) == ("failed", "the model file has another hash")
    assert "restart" in shown["remedy"]


def test_a_closed_session_is_gone_and_revoked(api: Api) -> None:
    session = api.awake()
    assert api.call("DELETE", f"/v1/sessions/{session['id']}", "speaker").status == 204
    assert api.call("DELETE", f"/v1/sessions/{session['id']}", "speaker").status == 204
    answer = api.call("GET", f"/v1/sessions/{session['id']}", "speaker")
    assert answer.status == 410
    assert answer.json["reason"] == "closed by speaker"
    assert api.gpu_report()["revoked"] == [session["id"]]


def test_a_session_past_its_longest_life_is_revoked_while_its_stream_goes_on(api: Api) -> None:
    session = api.awake(minutes=1)
    api.clock.advance(61)
    api.tick()
    assert api.gpu_report(sids=(session["id"],))["revoked"] == [session["id"]]


def test_untagged_machines_are_never_touched(api: Api) -> None:
    stranger = run_instance(api.ec2, {}, "g4dn.xlarge")["InstanceId"]
    api.awake()
    api.call("POST", "/v1/gpu/stop", body={"force": True})
    assert api.state() == "stopped"
    assert api.state(instance_id=stranger) == "running"
    assert api.state(instance_id=api.edge) == "running"
