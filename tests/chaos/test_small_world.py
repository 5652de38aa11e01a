"""Every history of a small world: two machines, two wishes, eight events.

On the whole engine, each event followed by two minutes: every sequence of three, repetitions included, and four of
the events in every order. On the decisions alone (`small.py`), each event followed by one minute: five of them in
every order, and in `make chaos` all eight, 40,320 histories. Histories are walked together: two that have led to the
same state with the same events left go on as one.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from chalicelib.domain.lifecycle import Action, Decision, decide
from chalicelib.domain.machines import Observation
from chalicelib.domain.rules import Rules
from chalicelib.domain.wishes import Wishes
from chalicelib.services.control import CONTROL
from tests.chaos import small as decisions
from tests.chaos.fakes import Violation
from tests.chaos.world import World

LENGTH = 3
AFTER_S = 120.0
EVENTS: dict[str, Callable[[World], object]] = {
    "somebody comes": lambda world: world.open(),
    "all leave": lambda world: _all_leave(world),
    "booked": lambda world: world.book(400, 600),
    "stop": lambda world: world.stop(),
    "the first machine dies": lambda world: world.dies(world.gpus[0]),
    "no room in the first zone": lambda world: _no_room(world),
    "killed": lambda world: world.kill_at(2),
    "a quarter of an hour": lambda world: world.advance(900),
}


def _all_leave(world: World) -> None:
    for sid in sorted(world.clients):
        world.close(sid)


def _no_room(world: World) -> None:
    world.ec2.no_room = {(kind, "z-a") for kind in ("g4dn.xlarge", "g5.xlarge")}
    world.excuse()


def small() -> World:
    """Two machines, twenty minutes before the night."""
    return World(2, hour=21.7)


def played(world: World, name: str, before: tuple[str, ...]) -> World:
    """A copy of the world in which this happened; AssertionError tells the whole history."""
    twin = copy.deepcopy(world)
    try:
        EVENTS[name](twin)
        twin.advance(AFTER_S)
    except AssertionError as broken:
        raise AssertionError(f"{' / '.join((*before, name))}: {broken}") from broken
    return twin


@pytest.mark.parametrize("first", EVENTS)
@pytest.mark.timeout(0)
def test_every_history_that_begins_so(first: str) -> None:
    histories = 0
    walks: list[tuple[World, tuple[str, ...]]] = [(played(small(), first, ()), (first,))]
    while walks:
        here, names = walks.pop()
        histories += 1
        if len(names) < LENGTH:
            walks += [(played(here, following, names), (*names, following)) for following in EVENTS]
    assert histories == sum(len(EVENTS) ** length for length in range(LENGTH))


def orders(events: frozenset[str]) -> tuple[int, int]:
    """Play the events in every order; how many histories that were, and how many steps were walked."""
    level: dict[tuple[frozenset[str], str], tuple[World, tuple[str, ...], int]]
    level = {(events, ""): (small(), (), 1)}
    steps = 0
    while not all(not left for left, _ in level):
        following: dict[tuple[frozenset[str], str], tuple[World, tuple[str, ...], int]] = {}
        for (left, _), (world, names, count) in level.items():
            for name in sorted(left):
                twin = played(world, name, names)
                steps += 1
                key = (left - {name}, fingerprint(twin))
                # The first history that led there stands for all; it is the one a failure tells.
                known = following.get(key)
                following[key] = (twin, (*names, name), count) if known is None else (*known[:2], known[2] + count)
        level = following
    return sum(count for *_, count in level.values()), steps


def test_four_of_the_events_in_every_order_on_the_whole_engine() -> None:
    histories, steps = orders(frozenset(sorted(EVENTS)[::2]))
    assert histories == math.factorial(4)
    assert steps <= sum(math.perm(4, length) for length in range(1, 5))


@pytest.mark.timeout(0)
def test_the_events_in_every_order_on_the_decisions() -> None:
    """All eight in `make chaos`; each five of them that follow one another otherwise."""
    names = sorted(decisions.EVENTS)
    whole = "CHAOS_WHOLE" in os.environ
    for chosen in [names] if whole else [names[:5], names[3:]]:
        walk = decisions.orders(chosen)
        assert walk.histories == math.factorial(len(chosen))
        sys.stdout.write(
            f"{walk.histories} histories in {walk.steps} steps; states after each event: {walk.states}\n"
        )


Decide = Callable[[Observation, Wishes, Rules, float], tuple[Decision, ...]]


def _holds(action: Action) -> Callable[[Decide], Decide]:
    """Decisions without one kind of act."""

    def broken(decide: Decide) -> Decide:
        return lambda *asked: tuple(
            dataclasses.replace(one, action=Action.HOLD) if one.action is action else one for one in decide(*asked)
        )

    return broken


def _never_drains(decide: Decide) -> Decide:
    return lambda *asked: tuple(
        dataclasses.replace(one, action=Action.STOP) if one.action is Action.DRAIN else one for one in decide(*asked)
    )


def _knows_no_night(decide: Decide) -> Decide:
    return lambda seen, wishes, rules, now: decide(seen, wishes, dataclasses.replace(rules, night=None), now)


def _starts_anything(decide: Decide) -> Decide:
    return lambda *asked: tuple(dataclasses.replace(one, action=Action.START) for one in decide(*asked))


@pytest.mark.parametrize(
    ("invariant", "broken", "events"),
    [
        ("I1", _never_drains, ["somebody comes", "stop"]),
        ("I2", _holds(Action.STOP), ["somebody comes", "all leave", "five minutes"]),
        ("I3", _holds(Action.START), ["somebody comes", "five minutes", "booked"]),
        ("I4", _knows_no_night, ["somebody comes", "five minutes", "no room in the first zone", "killed"]),
        ("I5", _starts_anything, ["somebody comes"]),
    ],
)
def test_the_walk_finds_decisions_that_break_an_invariant(
    invariant: str, broken: Callable[[Decide], Decide], events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert decisions.orders(events).histories == math.factorial(len(events))
    monkeypatch.setattr(decisions, "decide", broken(decide))
    with pytest.raises(Violation, match=f"^{invariant} "):
        decisions.orders(events)


def test_states_that_differ_are_told_apart_and_names_are_nothing() -> None:
    """Two worlds with other ids are the same; one with another clock, drain or stream is not."""
    one, two = small(), small()
    for world in (one, two):
        world.open()
        world.advance(AFTER_S)
    assert one.clients.keys() != two.clients.keys()
    assert fingerprint(one) == fingerprint(two)
    changes: list[Callable[[], object]] = [
        lambda: two.stop(),
        lambda: two.advance(5),
        lambda: two.excuse(1000),
        lambda: two.kill_at(1),
    ]
    for change in changes:
        before = fingerprint(two)
        change()
        assert fingerprint(two) != before


UNSEEN = {"_control", "store", "settings", "rules", "commands", "awake_s", "slack_s", "boots", "steps"}
"""What of a world no later step depends on, or is written out below; whatever is added to it counts."""


RANDOM = {"wishes", "ticket-keys"}
"""Records that say nothing but how often something was counted, or a secret."""


def fingerprint(world: World) -> str:
    """All that the future of a world depends on; ids as numbers in the order in which they were made."""
    wishes = world.control.wishes
    made = [*sorted(wishes.sessions, key=lambda one: one.created_at)]
    names = {one.id: f"session {number}" for number, one in enumerate(made)}
    booked = sorted(wishes.bookings, key=lambda one: one.created_at)
    names |= {one.id: f"booking {number}" for number, one in enumerate(booked)}
    names |= {host.boot_id: f"boot of {name}" for name, host in world.hosts.items()}
    fields = {name: value for name, value in vars(world).items() if name not in UNSEEN}
    fields["clock"] = world.clock()
    fields["ec2"] = {name: getattr(world.ec2, name) for name in ("machines", "no_room", "refuse_start", "late")}
    fields["ec2"] |= {"describe": world.ec2.refuse_describe, "meanwhile": world.ec2.meanwhile is not None}
    fields["kill_in"] = world.store.kill_in
    records = {one.key.sk: one.data for one in world.store.partition(CONTROL) if one.key.sk not in RANDOM}
    return json.dumps(_plain([fields, records], names), default=str)


def _plain(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"[0-9a-f]{16,24}|boot-\d+", lambda found: names.get(found[0], "gone"), value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(vars(value), names)
    if isinstance(value, Mapping):
        return sorted([_plain(key, names), _plain(one, names)] for key, one in value.items())
    if isinstance(value, set | frozenset):
        return sorted(json.dumps(_plain(one, names), default=str) for one in value)
    if isinstance(value, list | tuple):
        return [_plain(one, names) for one in value]
    return value
