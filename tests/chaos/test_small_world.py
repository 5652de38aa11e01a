"""Every history of a small world: two machines, two wishes, eight events, none left out up to a length.

Three events each in `make test`, four in `make chaos`; each event is followed by two minutes, and every history
shares the walk of its beginning with its siblings.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable

import pytest

from tests.chaos.world import World

DEPTH = 4 if "CHAOS_HISTORIES" in os.environ else 3
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


@pytest.mark.parametrize("first", EVENTS)
@pytest.mark.timeout(0)
def test_every_history_that_begins_so(first: str) -> None:
    histories = 0
    world = World(2, hour=21.7)
    walks: list[tuple[World, tuple[str, ...]]] = [(world, (first,))]
    while walks:
        here, names = walks.pop()
        EVENTS[names[-1]](here)
        try:
            here.advance(AFTER_S)
        except AssertionError as broken:
            raise AssertionError(f"{' / '.join(names)}: {broken}") from broken
        histories += 1
        if len(names) < DEPTH:
            walks += [(copy.deepcopy(here), (*names, following)) for following in EVENTS]
    assert histories == sum(len(EVENTS) ** length for length in range(DEPTH))
