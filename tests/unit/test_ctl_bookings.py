"""`whisperctl book`, `bookings`, `events` and `cost` against a scripted API."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from tests.browser.scripted import TOKEN, Scripted, scripted_stack
from whisperctl.cli import cli

BOOKING = {
    "id": "3f9a0c1d2e4b5a69",
    "start": "2027-01-05T18:00:00.000Z",
    "end": "2027-01-05T19:30:00.000Z",
    "wake_at": "2027-01-05T17:54:00.000Z",
    "state": "planned",
    "weekly": "Europe/Berlin",
    "note": "talk",
}
EVENT = {
    "at": "2027-01-05T18:00:00.123Z",
    "actor": "eve",
    "action": "gpu.start",
    "target": "i-1",
    "reason": "one session is open, and more",
    "trigger": "tick",
}
RECEIPT = "awake 18:52-22:41, $2.01, 3 sessions, 0.0 s lost"
SPAN = {
    "start": "2027-01-05T18:00:00.000Z", "end": None, "instance_id": "i-1", "type": "g4dn.xlarge",
    "seconds": 60.0, "cost": 0.5, "sessions": 3, "lost_seconds": 0.0,
}  # fmt: skip
COSTS = {
    "period": "month", "gpu_hours": 3.82, "cost": 2.01, "always_on": 60.0, "saved": 57.99,
    "budget": {"month": "2027-01", "dollars": 50.0, "spent": 2.01},
    "spans": [{**SPAN, "receipt": RECEIPT}, {**SPAN, "receipt": None}],
}  # fmt: skip


class Booked(Scripted):
    """One booking, one event, one month."""

    def answer(self, method: str, path: str, authorization: str, body: Any) -> tuple[int, Any]:
        match method, path:
            case "POST", "/v1/bookings":
                self.requests.append((method, path, body))
                return 201, BOOKING
            case "GET", "/v1/bookings":
                return 200, {"bookings": [BOOKING]}
            case "DELETE", _:
                self.requests.append((method, path, body))
                return 204, None
            case "GET", "/v1/events":
                self.requests.append((method, path, body))
                first = self.count("GET", "/v1/events") == 1
                return 200, {"events": [EVENT] if first else [], "next": "2027_1"}
            case "GET", "/v1/costs":
                return 200, COSTS
        return super().answer(method, path, authorization, body)


def call(*arguments: str) -> tuple[Result, Booked]:
    script = Booked()
    env = {"WHISPERCTL_TOKEN": TOKEN, "WHISPERCTL_CA": ""}
    with scripted_stack(script) as server:
        return CliRunner().invoke(cli, [*arguments, "--url", server.http_url], env=env), script


def test_book() -> None:
    when = ("--start", "2027-01-05T19:00:00+01:00", "--minutes", "90")
    result, script = call("book", *when, "--zone", "Europe/Berlin")
    assert result.exit_code == 0, result.output
    assert script.requests == [("POST", "/v1/bookings", {
        "start": "2027-01-05T19:00:00+01:00", "end": "2027-01-05T20:30:00+01:00", "weekly": "Europe/Berlin",
    })]  # fmt: skip
    line = "3f9a0c1d2e4b5a69  planned    2027-01-05T18:00Z - 2027-01-05T19:30Z  weekly (Europe/Berlin)  talk\n"
    assert result.stdout == line


def test_what_cannot_be_booked_is_a_sentence() -> None:
    for arguments in (("book",), ("book", "--end", "x", "--minutes", "1"), ("book", "--start", "7", "--minutes", "1"),
                      ("book", "--start", "2027-01-05T19:00", "--minutes", "1"), ("book", "--minutes", "1e12"),
                      ("bookings", "--cancel", "../status")):  # fmt: skip
        result, script = call(*arguments)
        assert result.exit_code == 2, arguments
        assert script.requests == []
        assert "Traceback" not in result.output


def test_bookings_and_taking_one_back() -> None:
    assert json.loads(call("bookings", "--json")[0].stdout)["bookings"] == [BOOKING]
    result, script = call("bookings", "--cancel", BOOKING["id"])
    assert result.exit_code == 0
    assert script.requests == [("DELETE", f"/v1/bookings/{BOOKING['id']}", None)]


def test_events_follow_all_pages() -> None:
    plain = call("events")[0].stdout
    assert plain == "2027-01-05 18:00:00  gpu.start             i-1                   one session is open, and more\n"
    table = call("events", "--csv")[0].stdout.splitlines()
    assert table[0] == "at,actor,action,target,reason,trigger"
    assert '"one session is open, and more"' in table[1]
    assert json.loads(call("events", "--json")[0].stdout) == {"events": [EVENT], "next": "2027_1"}


def test_cost() -> None:
    lines = call("cost")[0].stdout.splitlines()
    assert lines == [
        "month: 3.82 GPU hours, $2.01",
        "saved $57.99 against one that is always on ($60.00)",
        "budget for 2027-01: $2.01 of $50.00",
        RECEIPT,
        "awake since 2027-01-05T18:00:00.000Z, $0.50 so far",
    ]
    table = call("cost", "--csv")[0].stdout.splitlines()
    assert table[0] == "start,end,instance_id,type,seconds,cost,sessions,lost_seconds"
    assert len(table) == 3
    assert json.loads(call("cost", "--json")[0].stdout) == COSTS
