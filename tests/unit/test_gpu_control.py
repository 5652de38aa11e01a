from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpu_bootstrap.control import Control, ControlFile, Drain, parse, rfc3339

AT = datetime(2026, 1, 31, 22, tzinfo=UTC).timestamp()
FULL: dict[str, Any] = {
    "received_at": AT - 3600,
    "now": "2026-01-31T22:00:00Z",
    "ticket_keys": [{"kid": "a", "secret": "b"}],
    "revoked": ["s1"],
    "drain": {"closing_at": "2026-01-31T22:05:00Z", "reason": "night"},
    "model": "base",
    "next_report_s": 5,
}


def read(drain_since: float = 0.0, **change: Any) -> Control:
    return parse(json.dumps({**FULL, **change}), drain_since=drain_since)


def test_times_are_told_in_this_hosts_clock() -> None:
    control = read()
    assert control.ahead_s == 3600
    assert control.drain == Drain(AT - 3600 + 300, "2026-01-31T22:05:00Z", "night")
    assert control.ticket_keys == {"a": "b"}
    assert (control.revoked, control.model) == (frozenset(["s1"]), "base")


def test_a_drain_without_a_time_is_now() -> None:
    assert read(drain={"reason": "stop"}).drain == Drain(AT - 3600, "2026-01-31T22:00:00.000Z", "stop")


def test_a_drain_from_before_this_run_is_over() -> None:
    control = read(drain_since=AT)
    assert control.drain is None
    assert control.ticket_keys == {"a": "b"}, "keys stay good"


def test_nothing_said_is_nothing_wanted() -> None:
    assert parse("{}", drain_since=0) == Control()


@pytest.mark.parametrize(
    "change",
    [
        {"received_at": "now"},
        {"now": "today"},
        {"now": "2026-01-31T22:00:00"},
        {"now": 5},
        {"ticket_keys": {"a": "b"}},
        {"ticket_keys": [{"kid": "a"}]},
        {"revoked": "s1"},
        {"revoked": [1]},
        {"drain": True},
        {"drain": {"closing_at": 5}},
        {"drain": {"reason": "restart", "restarts": "yes"}},
        {"drain": {"reason": 5}},
        {"model": 5},
    ],
)
def test_another_form_is_refused_whole(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        read(**change)


def test_the_file_is_read_anew_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control.json"
    file = ControlFile(path, started_at=0)
    file.read()
    assert file.current == Control()
    path.write_text(json.dumps(FULL))
    file.read()
    assert file.current.revoked == {"s1"}
    for bad in (b"{", b"[]", b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(bad)
        file.read()
        assert file.current.revoked == {"s1"}
    path.unlink()
    file.read()
    assert file.current.revoked == {"s1"}


def test_waiting_for_a_state_gives_up() -> None:
    assert not ControlFile(None, started_at=0).wait_for(lambda control: bool(control.revoked), 0.01)


def test_rfc3339() -> None:
    assert rfc3339(AT + 0.25) == "2026-01-31T22:00:00.250Z"
