"""Who has a place on which GPU: counted per machine, kept by whoever has one, by turns among tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.domain.machines import Machine, MachineState, Memory, Observation, Report, Role, Stream, View
from chalicelib.domain.places import moved, places
from chalicelib.domain.wishes import Session

NOW = 1000.0


def session(name: str, at: float = 0.0, owner: str = "anna", host: str = "") -> Session:
    return Session(name, owner, at, NOW, NOW + 3600, host=host)


def gpu(name: str, most: int, *sids: str, status: str = "ready") -> View:
    machine = Machine(name, Role.GPU, MachineState.RUNNING, "t", "z", f"10.0.0.{name[-1]}")
    memory = Memory(name, Role.GPU, MachineState.RUNNING, 0.0, awake_since=1.0)
    streams = tuple(Stream(sid) for sid in sids)
    return View(machine, memory, Report(NOW, f"boot{name[-1]}", status, streams=streams, max_streams=most))


def seen(*gpus: View) -> Observation:
    machine = Machine("i-e", Role.EDGE, MachineState.RUNNING, "t", "z", "10.0.1.1")
    report = Report(NOW, "e", "ready", upstreams=tuple(str(one.machine.private_ip) for one in gpus))
    return Observation.of([*gpus, View(machine, Memory("i-e", Role.EDGE, MachineState.RUNNING, 0.0), report)])


def test_the_oldest_go_first() -> None:
    three = [session("c", 3), session("a", 1), session("b", 2)]
    assert places(seen(gpu("i-1", 2)), three, NOW) == {"a": "i-1/boot1", "b": "i-1/boot1"}
    assert places(seen(gpu("i-1", 0)), three, NOW) == {}
    assert len(places(seen(gpu("i-1", 9)), three, NOW)) == 3


def test_places_are_counted_per_machine() -> None:
    """Strangers overfill the first; that takes nothing from the second."""
    five = [session(name, at) for at, name in enumerate("abcde")]
    found = places(seen(gpu("i-1", 2, "x", "y", "z"), gpu("i-2", 3)), five, NOW)
    assert found == {"a": "i-2/boot2", "b": "i-2/boot2", "c": "i-2/boot2"}


def test_whoever_streams_has_his_place_where_he_streams() -> None:
    late = session("late", 9, host="i-1/boot1")
    found = places(seen(gpu("i-1", 1), gpu("i-2", 1, "late")), [session("a", 1), late, session("b", 2)], NOW)
    assert found == {"late": "i-2/boot2", "a": "i-1/boot1"}


def test_a_place_is_kept_while_its_host_serves() -> None:
    kept = session("kept", 9, host="i-2/boot2")
    two = seen(gpu("i-1", 1), gpu("i-2", 1))
    assert places(two, [session("a", 1), session("b", 2), kept], NOW) == {"kept": "i-2/boot2", "a": "i-1/boot1"}
    booted = replace(kept, host="i-2/before")
    assert places(two, [session("a", 1), session("b", 2), booted], NOW) == {"a": "i-1/boot1", "b": "i-2/boot2"}


def test_what_is_free_goes_by_turns_among_tokens() -> None:
    many = [session(f"a{number}", number) for number in range(6)]
    other = session("b", 99, owner="ben")
    found = places(seen(gpu("i-1", 3)), [*many, other], NOW)
    assert found.keys() == {"a0", "b", "a1"}
    holding = [replace(one, host="i-1/boot1") for one in many[:2]]
    assert places(seen(gpu("i-1", 3)), [*holding, *many[2:], other], NOW).keys() == {"a0", "a1", "b"}


def test_one_token_may_fill_everything_while_nobody_else_asks() -> None:
    many = [session(f"a{number}", number) for number in range(6)]
    assert len(places(seen(gpu("i-1", 3), gpu("i-2", 3)), many, NOW)) == 6


@pytest.mark.parametrize("status", ["loading", "draining", "failed"])
def test_nobody_has_a_place_on_a_host_that_is_not_ready(status: str) -> None:
    assert places(seen(gpu("i-1", 3, "a", status=status)), [session("a")], NOW) == {}


def test_the_epoch_grows_with_another_host_only() -> None:
    first = moved(session("a"), "i-1/x")
    assert (first.host, first.epoch) == ("i-1/x", 1)
    assert moved(first, "i-1/x") is first
    assert moved(first, "i-2/y").epoch == 2
