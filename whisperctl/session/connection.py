"""One connection's numbers: what was sent, what the server has confirmed, how much may be on its way.

Source of the protocol: WhisperLive 0.10.0 with this project's additions (PROGRESS, END, NOTICE, close codes).
Samples are counted absolutely since capture began; the server counts seconds from the connection's own first
sample, which is `offset`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

RATE = 16000
FRAME_SAMPLES = RATE // 2
"""A frame carries at most 0.5 s."""
WINDOW_S = 45.0
"""How much may be on its way unconfirmed."""
BURST_S = 15.0
STOCK_SPEED = 2.0
"""A server that sends no PROGRESS gets a burst, then twice real time: beyond 45 s a stock one throws audio away."""


class State(enum.Enum):
    """`OPENING` until the socket is open, `GREETED` until SERVER_READY, `ENDING` from END_OF_AUDIO on."""

    OPENING = "opening"
    GREETED = "greeted"
    STREAMING = "streaming"
    ENDING = "ending"


@dataclass(slots=True)
class Connection:
    """Times are seconds of the caller's clock, samples absolute numbers."""

    id: int
    began_at: float
    """Since when it is being opened, then since when the handshake is on its way."""
    state: State = State.OPENING
    offset: int = 0
    next_sample: int = 0
    confirmed: int = 0
    """Everything before was processed by the server: its words are final, or there are none."""
    received: int | None = None
    """Everything before has reached the server, where it says so."""
    progress_seen: bool = False
    proved: bool = False
    """It confirmed something new: the connection works."""
    ready_at: float = 0.0
    heard_at: float = 0.0
    closing_soon: bool = False
    """The server has said that it will close this connection."""

    def ready(self, offset: int, now: float) -> None:
        """SERVER_READY: from here on audio goes out, from sample `offset` on."""
        self.state, self.ready_at, self.heard_at = State.STREAMING, now, now
        self.offset = self.next_sample = self.confirmed = offset

    def sample(self, seconds: Any) -> int | None:
        """Server seconds to an absolute sample, never beyond what was sent; None for what is not a number."""
        try:
            return min(self.offset + round(float(seconds) * RATE), self.next_sample)
        except (TypeError, ValueError, OverflowError):
            return None

    def confirm(self, seconds: Any) -> None:
        sample = self.sample(seconds)
        if sample is not None:
            self.confirmed = max(self.confirmed, sample)

    def allowance(self, now: float) -> int:
        """How many samples may be sent now without leaving too much unconfirmed."""
        if self.state is not State.STREAMING:
            return 0
        if self.progress_seen:
            limit = self.confirmed + WINDOW_S * RATE
        else:
            limit = self.offset + (BURST_S + STOCK_SPEED * (now - self.ready_at)) * RATE
        return max(0, int(limit) - self.next_sample)
