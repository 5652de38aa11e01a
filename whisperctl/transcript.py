"""Merging what WhisperLive sends into one text; `site/js/transcript.js` follows the same rules.

Each message repeats the last completed segments and carries at most one that is not complete. The rules, shared
with the page through `tests/browser/vectors/transcript.json`:

1. A completed segment is taken once, and never changes: one whose middle lies before the end of the last taken
   one was seen already.
2. The incomplete segment stays as it was while messages come without one, until a completed one reaches into it.
3. Times are moved by the connection's offset, so that they count from the first captured sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

SLACK_S = 0.05
"""Segment times are rounded by the server; this much is no difference."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text; `start` and `end` in seconds from the first captured sample."""

    start: float
    end: float
    text: str
    completed: bool

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Transcript:
    """The text so far. `finals` only grows; `partial` is what the server still thinks about."""

    def __init__(self) -> None:
        self.finals: list[Segment] = []
        self.partial: Segment | None = None

    @property
    def end(self) -> float:
        """Where the last final word ends, in seconds."""
        return self.finals[-1].end if self.finals else 0.0

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.finals)

    def update(self, segments: Iterable[Mapping[str, Any]], offset_s: float = 0.0) -> list[Segment]:
        """Take one message's segments; return the finals that are new. Broken segments are left out."""
        seen = [segment for segment in (_read(raw, offset_s) for raw in segments) if segment]
        new: list[Segment] = []
        for segment in sorted((s for s in seen if s.completed), key=lambda s: s.start):
            if not self.finals or segment.middle > self.end + SLACK_S:
                self.finals.append(segment)
                new.append(segment)
        partial = next((s for s in reversed(seen) if not s.completed), None)
        if partial is not None and (not self.finals or partial.end > self.end + SLACK_S):
            self.partial = partial
        elif self.partial is not None and self.end > self.partial.start + SLACK_S:
            self.partial = None
        return new

    def finish(self) -> None:
        """The server confirmed everything: what is still incomplete was not speech."""
        self.partial = None


def _read(raw: Mapping[str, Any], offset_s: float) -> Segment | None:
    try:
        start, end = float(raw["start"]) + offset_s, float(raw["end"]) + offset_s
        text = str(raw["text"]).strip()
    except (KeyError, TypeError, ValueError):
        return None
    return Segment(round(start, 3), round(end, 3), text, bool(raw.get("completed"))) if text else None
