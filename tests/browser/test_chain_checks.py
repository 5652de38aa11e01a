"""What judges the runs on the real chain sees each fault that it is there for."""

from __future__ import annotations

import base64
from typing import Any, cast

import numpy as np
import pytest

from tests.browser.chain import RATE, Connection, Run, Samples, said_twice

RECORDED = np.random.default_rng(3).integers(-2000, 2000, 20 * RATE).astype("<i2")


class Page:
    """Gives back what was recorded, as the page does."""

    def evaluate(self, _: str) -> list[str]:
        return [base64.b64encode(part.tobytes()).decode() for part in np.array_split(RECORDED, 4)]


def connection(
    first_s: float, last_s: float, confirmed_s: float, *, ended: bool = False, lift: int = 0
) -> Connection:
    samples: Samples = RECORDED[round(first_s * RATE) : round(last_s * RATE)] + np.int16(lift)
    sent = bytearray((samples.astype("<f4") / np.float32(32767)).tobytes())
    return Connection(sent, confirmed_s=confirmed_s, ended=ended)


def judged(*connections: Connection) -> None:
    run = Run(cast(Any, Page()), cast(Any, None), cast(Any, None), list(connections))
    run.check_samples()


def test_one_connection_and_one_that_begins_again() -> None:
    judged(connection(0, 20, 20, ended=True))
    judged(connection(0, 9, 6), Connection(), connection(5, 20, 15, ended=True))


@pytest.mark.parametrize(
    ("connections", "complaint"),
    [
        ([connection(0, 9, 6), connection(6.5, 20, 13.5, ended=True)], "nobody sent"),
        ([connection(0, 9, 6), connection(3, 20, 17, ended=True)], "was never recorded|than the overlap"),
        ([connection(0, 9, 6), connection(5, 20, 15, ended=True, lift=3)], "was never recorded"),
        ([connection(0, 9, 6), connection(5, 20, 15)], "must have said END"),
        ([connection(0, 19, 19, ended=True)], "samples were confirmed"),
    ],
)
def test_holes_repeats_changes_and_missing_ends_are_seen(connections: list[Connection], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        judged(*connections)


@pytest.mark.parametrize(
    ("heard", "twice"),
    [
        ("The first train leaves the station. My brother walked to the market.", False),
        ("The first first train leaves the station.", True),
        ("The first train leaves the station. leaves the station. My brother", True),
        ("My brother walked to the market uh walked to the market", True),
        ("leaves to the station. My brother walked to the market.", False),
    ],
)
def test_words_said_twice(heard: str, twice: bool) -> None:
    assert bool(said_twice("The first train leaves the station. My brother walked to the market.", heard)) == twice
