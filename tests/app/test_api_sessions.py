"""Sessions over the API, on moto."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from tests.app.api import Api, control_plane


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


def test_twenty_sessions_at_once_start_it_once(api: Api) -> None:
    with ThreadPoolExecutor(20) as pool:
        sessions = list(pool.map(lambda _: api.open(), range(20)))
    assert len({one["id"] for one in sessions}) == 20
    assert len(api.started) == 1
    assert api.actions().count("gpu.start") == 1
    assert api.made > 1
