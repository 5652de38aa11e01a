from __future__ import annotations

import threading

import pytest

from chalicelib.domain import tickets
from gpu_bootstrap import closing
from gpu_bootstrap.errors import HostFullError
from gpu_bootstrap.registry import CANARY, Registry, Stream


class Endings:
    def __init__(self) -> None:
        self.said: list[closing.Ending] = []

    def stream(self, sid: str, since: float = 0.0) -> Stream:
        return Stream(sid, f"uid-{sid}", self.said.append, since)


def test_places_are_given_and_come_back() -> None:
    registry, make = Registry(2), Endings()
    first = make.stream("a")
    registry.admit(first)
    registry.admit(make.stream("b"))
    with pytest.raises(HostFullError):
        registry.admit(make.stream("c"))
    registry.release(first)
    registry.release(first)
    registry.admit(make.stream("c"))
    assert [stream.sid for stream in registry.live()] == ["b", "c"]


def test_a_canary_takes_no_place_and_is_no_stream() -> None:
    registry, make = Registry(2), Endings()
    registry.admit(make.stream("a"))
    canary = make.stream("canary-1")
    registry.admit(canary)
    registry.admit(make.stream("b"))
    assert [one["sid"] for one in registry.report()] == ["a", "b"], "nobody speaks there"
    assert make.said == []
    with pytest.raises(HostFullError):
        registry.admit(make.stream("canary-2"))
    registry.release(canary)
    with pytest.raises(HostFullError):
        registry.admit(make.stream("c"))


def test_both_sides_know_a_canary_by_the_same_name() -> None:
    assert tickets.CANARY == CANARY


def test_a_sessions_newer_stream_takes_the_place_even_of_a_full_host() -> None:
    registry, old, new = Registry(1), Endings(), Endings()
    older, newer = old.stream("a"), new.stream("a")
    registry.admit(older)
    registry.admit(newer)
    assert old.said == [closing.TAKEN_OVER]
    assert new.said == []
    registry.release(older)
    assert registry.live() == [newer], "the displaced one has no place to give back"


def test_the_report_counts_seconds_before_now() -> None:
    now = 100.0
    registry = Registry(2, clock=lambda: now)
    stream = Endings().stream("a", since=90.0)
    registry.admit(stream)
    stream.last_audio = 99.5
    assert registry.report() == [{"sid": "a", "since": 10.0, "last_audio_s": 0.5}]


def test_names_of_streams_without_a_session_differ() -> None:
    registry = Registry(1)
    assert registry.name_anonymous() != registry.name_anonymous()


def test_many_threads_never_get_more_places_than_there_are() -> None:
    registry, make = Registry(3), Endings()
    outcomes: list[bool] = []

    def try_one(name: str) -> None:
        try:
            registry.admit(make.stream(name))
            outcomes.append(True)
        except HostFullError:
            outcomes.append(False)

    threads = [threading.Thread(target=try_one, args=(f"s{n}",)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 3


def test_quiet_is_when_every_connection_is_closed() -> None:
    registry = Registry(1)
    assert registry.wait_until_quiet(0)
    registry.connection_opened()
    assert not registry.wait_until_quiet(0.01)
    registry.connection_closed()
    assert registry.wait_until_quiet(0)
