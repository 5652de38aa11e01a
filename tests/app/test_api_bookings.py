"""Bookings, costs, the budget's warning and receipts over the API, on moto."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from chalicelib.domain.times import to_text
from tests.app.api import Api, control_plane


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Sunday 12:00 in Berlin."""
    with control_plane(monkeypatch, TIME_ZONE="Europe/Berlin", MONTHLY_BUDGET="0.5", IDLE_MINUTES="10") as made:
        made.clock.now = datetime(2026, 11, 22, 11, tzinfo=UTC).timestamp()
        made.tick()
        yield made


def awake_for(api: Api, minutes: int) -> None:
    session = api.awake()
    for _ in range(minutes):
        api.clock.advance(60)
        api.gpu_report(sids=(session["id"],))
        api.tick()
    api.call("POST", f"/v1/sessions/{session['id']}/heartbeat", "speaker", {"lost_seconds": 1.5})
    api.gpu_report()
    assert api.call("DELETE", f"/v1/sessions/{session['id']}", "speaker").status == 204
    assert api.call("POST", "/v1/gpu/stop").status == 202
    assert api.state() == "stopped"


def test_a_booking_from_making_to_done(api: Api) -> None:
    body = {"start": "2026-11-22T18:00:00Z", "end": "2026-11-22T18:30:00Z", "note": "talk"}
    answer = api.call("POST", "/v1/bookings", body=body)
    assert answer.status == 201, answer
    made = answer.json
    assert {k: made[k] for k in ("start", "end", "state", "note", "weekly")} == {
        "start": "2026-11-22T18:00:00.000Z",
        "end": "2026-11-22T18:30:00.000Z",
        "state": "planned",
        "note": "talk",
        "weekly": None,
    }
    assert api.call("GET", "/v1/bookings").json == {"bookings": [made]}
    assert made["id"] in {wish["id"] for wish in api.status()["wishes"]}
    assert api.started == []
    api.clock.now = datetime(2026, 11, 22, 17, 55, tzinfo=UTC).timestamp()
    api.tick()
    assert len(api.started) == 1
    assert api.call("GET", "/v1/bookings").json["bookings"][0]["state"] == "waking"
    assert "booked it for 19:00" in api.status()["reason"]
    api.clock.advance(30)
    api.machine_event()
    api.edge_report()
    api.gpu_report()
    assert api.events()[-1]["reason"] == "ready for 19:00, not rehearsed"
    assert api.call("DELETE", f"/v1/bookings/{made['id']}").status == 204
    assert api.call("GET", "/v1/bookings").json["bookings"][0]["state"] == "done"
    api.clock.advance(601)
    api.gpu_report()
    api.tick()
    assert api.state() == "stopped"
    assert api.call("DELETE", "/v1/bookings/nothing").status == 404


def test_who_may_book_and_what_is_refused(api: Api) -> None:
    end = to_text(api.clock() + 3600)
    assert api.call("POST", "/v1/bookings", "speaker", {"end": end}).status == 403
    assert api.call("GET", "/v1/bookings", "viewer").status == 403
    for body, field in (
        ({}, "end"),
        ({"end": "tomorrow"}, "end"),
        ({"end": end, "weekly": "Mars/Base"}, "weekly"),
        ({"end": end, "weekly": 7}, "weekly"),
        ({"end": end, "start": "2020-01-01T00:00:00Z"}, "start"),
        ({"end": end, "room": 1}, "room"),
    ):
        answer = api.call("POST", "/v1/bookings", body=body)
        assert (answer.status, answer.json["field"]) == (422, field), body


def test_costs_receipt_and_csv(api: Api) -> None:
    awake_for(api, 30)
    answer = api.call("GET", "/v1/costs", "viewer")
    assert answer.status == 200
    costs = answer.json
    assert costs["from"] == "2026-11-21T23:00:00.000Z"  # midnight in Berlin
    assert costs["cost"] == pytest.approx(1802 / 3600 * 0.526, abs=0.001)
    assert costs["saved"] == pytest.approx(costs["always_on"] - costs["cost"])
    assert costs["budget"]["dollars"] == 0.5
    receipts = [one["reason"] for one in api.events() if one["action"] == "gpu.receipt"]
    assert receipts == ["awake 12:00-12:30, $0.26, 1 session, 1.5 s lost"]
    assert costs["spans"][0]["receipt"] == receipts[0]
    table = api.call("GET", "/v1/costs?period=month&format=csv", "viewer")
    assert table.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [(row["sessions"], row["lost_seconds"], row["seconds"]) for row in rows] == [("1", "1.5", "1802.0")]
    assert api.call("GET", "/v1/costs?period=year", "viewer").status == 422
    api.clock.advance(86400)
    assert api.call("GET", "/v1/costs", "viewer").json["cost"] == 0.0
    assert api.call("GET", "/v1/costs?period=month", "viewer").json["cost"] == costs["cost"]


def test_the_budget_warns_once_in_a_month(api: Api) -> None:
    awake_for(api, 40)
    assert "budget.spent" not in api.actions()
    api.clock.advance(60)
    awake_for(api, 40)
    spent = [one for one in api.events() if one["action"] == "budget.spent"]
    assert [one["target"] for one in spent] == ["2026-11"]
    assert "$0.50" in spent[0]["reason"]
    assert api.state() == "stopped"
