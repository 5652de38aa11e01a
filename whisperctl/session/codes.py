"""What a close code means for a session. The sentences are for a person; the server's own reason goes with them."""

from __future__ import annotations

import enum


class Then(enum.Enum):
    """What to do after a close."""

    RETRY = "retry"
    WAIT = "wait"
    """Every place is taken: wait for one."""
    REFUSED = "refused"
    """The ticket is of no use any more: never tried again with it."""
    FINAL = "final"


MEANINGS: dict[int, tuple[Then, str]] = {
    1012: (Then.RETRY, "the server restarts"),
    1013: (Then.WAIT, "every place on the GPU is taken"),
    4400: (Then.FINAL, "the server does not accept what was sent"),
    4401: (Then.REFUSED, "the ticket is not accepted"),
    4408: (Then.RETRY, "the server waited too long for the handshake"),
    4409: (Then.RETRY, "the connection reached its time limit"),
    4410: (Then.REFUSED, "the session is over"),
    4412: (Then.FINAL, "another window or command took over this session"),
}
LOST = (1001, 1005, 1006, 1011, None)


def meaning(code: int | None, reason: str) -> tuple[Then, str]:
    """What follows from the code, and one sentence without its full stop."""
    then, sentence = MEANINGS.get(code or 0, (Then.RETRY, ""))
    if code == 1000:
        sentence = "the server ended without confirming the last words"
    elif not sentence:
        sentence = "the connection was lost" if code in LOST else f"the server closed with code {code}"
    reason = reason.strip().rstrip(".")
    return then, f"{sentence}: {reason}" if reason else sentence
