"""How a stream ends: WebSocket close codes and reasons that a person understands.

A browser sees no HTTP status of a refused upgrade, so every connection is accepted first and then closed
with one of these codes. RFC 6455 allows a reason 123 bytes of UTF-8.
"""

from __future__ import annotations

from dataclasses import dataclass

NORMAL = 1000
SERVER_ERROR = 1011
RESTART = 1012
FULL = 1013
PROTOCOL = 4400
TICKET = 4401
TIMEOUT = 4408
ROLL_OVER = 4409
SESSION_OVER = 4410
DISPLACED = 4412

NAMES = {RESTART: "restart", FULL: "full", PROTOCOL: "protocol", TICKET: "ticket", TIMEOUT: "timeout"}
"""What refusals are counted as."""
MAX_REASON_BYTES = 123


@dataclass(frozen=True)
class Ending:
    """Why and how a stream ends. With `flush` the words of all audio received so far are sent before.

    `returns`: a client that resumes will be back in a moment, so a sentence cut here is left open for it: what is
    final of half a sentence is what its last word sounds like when it is cut in two.
    """

    code: int
    reason: str
    flush: bool = False
    returns: bool = False

    def fitting_reason(self) -> str:
        """The reason, cut to what a close frame holds."""
        return self.reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")


FINISHED = Ending(NORMAL, "finished")
GONE = Ending(NORMAL, "the client is gone")
DECODER_FAILED = Ending(SERVER_ERROR, "the speech recogniser failed on this audio; connect again")
RESTARTING = Ending(RESTART, "the server restarts; connect again in a moment", flush=True, returns=True)
NO_KEYS_YET = Ending(RESTART, "this host has not heard from its control plane yet; connect again in a moment")
HANDSHAKE_LATE = Ending(TIMEOUT, "no handshake came in time; the first message must be JSON with a uid")
ROLLING_OVER = Ending(
    ROLL_OVER, "this connection has reached its time limit; open a new one", flush=True, returns=True
)
SESSION_ENDED = Ending(SESSION_OVER, "the session is over; start a new one", flush=True)
TAKEN_OVER = Ending(DISPLACED, "a newer connection of this session has taken over")
NO_PLACE = Ending(FULL, "all places of this host are taken; try again in a minute")


def drained(reason: str, *, returns: bool = False) -> Ending:
    """The ending on a host that is being drained; `reason` is the control plane's, e.g. "stopping for the night"."""
    why = reason or "this host is being stopped; connect again in a moment"
    return Ending(RESTART, why, flush=True, returns=returns)
