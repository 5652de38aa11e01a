"""What the person at the terminal sees of a long command: its phases, how long each is planned to take, and took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a command. `planned_s`: what it takes the first time, on AWS."""

    name: str
    planned_s: int
    does: str


@dataclass
class Progress:
    """Lines through `say`; `report` holds the same for --json."""

    phases: tuple[Phase, ...]
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    report: list[dict[str, Any]] = field(default_factory=list)
    current: str = ""

    @contextmanager
    def phase(self, name: str) -> Iterator[dict[str, Any]]:
        """Announce a phase and note how it ended; the block puts what it found into the dictionary."""
        number = [one.name for one in self.phases].index(name)
        about = self.phases[number]
        left = sum(one.planned_s for one in self.phases[number:])
        self.say(
            f"[{number + 1}/{len(self.phases)}] {about.does} (planned: {_minutes(about.planned_s)}; "
            f"{_minutes(left)} to the end)"
        )
        began = self.clock()
        entry: dict[str, Any] = {"phase": name, "state": "running"}
        self.report.append(entry)
        self.current = name
        try:
            yield entry
        except BaseException:
            entry |= {"state": "stopped", "seconds": round(self.clock() - began, 1)}
            raise
        entry |= {"state": "done", "seconds": round(self.clock() - began, 1)}
        self.say(f"      {entry.get('what', 'done')}, {self.clock() - began:.0f} s")


def _minutes(seconds: int) -> str:
    return f"{seconds} s" if seconds < 90 else f"{seconds / 60:.0f} min"
