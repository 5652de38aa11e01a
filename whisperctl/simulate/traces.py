"""Traces: read from CSV (columns start, minutes), or made by seeded generators."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from whisperctl.errors import UsageError

DAY_S = 86400.0
BEGIN = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
"""A Monday."""
MOST_MINUTES = 24 * 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Somebody wants to speak: from when (epoch seconds), for how long (seconds)."""

    start: float
    length: float


def read_csv(path: Path) -> list[Wanted]:
    """A trace from a file; UsageError names the line that cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not rows:
        raise UsageError(f"{path} has no session in it; it needs the columns start and minutes")
    return sorted((_row(path, number, row) for number, row in enumerate(rows, 2)), key=lambda one: one.start)


def _row(path: Path, number: int, row: dict[str, str]) -> Wanted:
    try:
        moment = datetime.fromisoformat(row["start"].strip())
        minutes = float(row["minutes"])
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        words = 'expected columns start and minutes, e.g. "2026-03-02T09:00:00Z,25"'
        raise UsageError(f"{path}, line {number}: {words}") from error
    if not 0 < minutes <= MOST_MINUTES:
        raise UsageError(f"{path}, line {number}: minutes must be above 0 and at most {MOST_MINUTES:g}")
    start = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return Wanted(start.timestamp(), minutes * 60)


def office_hours(rng: random.Random, day: int) -> Iterator[Wanted]:
    """Meetings of a team, Monday to Friday from nine to five."""
    if day % 7 >= 5:
        return
    at = 9 * 3600 + rng.uniform(0, 900)
    while at < 17 * 3600:
        length = rng.uniform(20, 60) * 60
        yield Wanted(at, length)
        at += length + rng.choice((0, 60, 180, 300, 300, 3600)) + rng.uniform(0, 120)


def evening_talks(rng: random.Random, day: int) -> Iterator[Wanted]:
    """One talk at seven on three evenings a week."""
    if day % 7 in (1, 3, 4):
        yield Wanted(19 * 3600 + rng.uniform(-600, 600), rng.uniform(60, 120) * 60)


def all_day_events(rng: random.Random, day: int) -> Iterator[Wanted]:
    """Two days in a fortnight full of talks with short breaks."""
    if day % 14 not in (4, 5):
        return
    at = 8.5 * 3600
    while at < 20 * 3600:
        yield Wanted(at, 45 * 60 + rng.uniform(-300, 600))
        at += 3600


def scattered(rng: random.Random, _day: int) -> Iterator[Wanted]:
    """A few sessions at any hour."""
    for _ in range(rng.randint(0, 5)):
        yield Wanted(rng.uniform(7, 23) * 3600, rng.expovariate(1 / 1200) + 60)


def bursts(rng: random.Random, _day: int) -> Iterator[Wanted]:
    """Short sessions in bursts: the worst case for anything that lingers."""
    for _ in range(rng.randint(1, 3)):
        at = rng.uniform(8, 20) * 3600
        for _ in range(rng.randint(4, 12)):
            length = rng.uniform(60, 300)
            yield Wanted(at, length)
            at += length + rng.expovariate(1 / 120)


GENERATORS: dict[str, Callable[[random.Random, int], Iterator[Wanted]]] = {
    "office": office_hours,
    "evenings": evening_talks,
    "events": all_day_events,
    "scattered": scattered,
    "bursts": bursts,
}


def generate(kind: str, days: int, seed: int) -> list[Wanted]:
    """A trace of so many days; the same seed gives the same trace."""
    rng = random.Random(f"{kind}/{seed}")  # noqa: S311  # repeatable on purpose
    made = [
        Wanted(BEGIN + day * DAY_S + one.start, one.length)
        for day in range(days)
        for one in GENERATORS[kind](rng, day)
    ]
    return sorted(made, key=lambda one: one.start)
