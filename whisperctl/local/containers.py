"""The end of a Lambda container in the middle of an invocation, as a fault.

An invocation is a thread of this process, and a thread cannot be killed. So it is cut off instead: the stand-in
marks the answer to the call after which it shall end, and from there on its every AWS call raises `LambdaKilled`
before anything is sent. No `except Exception` stops that, and a `finally` that wants to write cannot.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import botocore

INVOCATION = "X-Standin-Invocation"
"""Request header of a call that an invocation makes."""
KILL = "X-Standin-Kill"
"""Answer header: the invocation that made the call ends here."""

_here = threading.local()


class LambdaKilled(BaseException):
    """The container is gone; not an Exception, so that no code of it goes on."""


@contextlib.contextmanager
def invocation() -> Iterator[None]:
    """This thread is one Lambda invocation until the block ends."""
    _here.state = "alive"
    try:
        yield
    finally:
        _here.state = None


@contextlib.contextmanager
def mortal() -> Iterator[None]:
    """Every boto3 session made in the block can be cut off."""
    botocore.register_initializer(_wire)
    try:
        yield
    finally:
        botocore.unregister_initializer(_wire)


def _wire(session: Any) -> None:
    session.register("before-send", _before_send)
    session.register("response-received", _received)


def _before_send(request: Any, **_: Any) -> None:
    state = getattr(_here, "state", None)
    if state == "dead":
        raise LambdaKilled
    if state == "alive":
        request.headers[INVOCATION] = "1"


def _received(response_dict: dict[str, Any] | None, **_: Any) -> None:
    if getattr(_here, "state", None) == "alive" and response_dict and KILL in response_dict["headers"]:
        _here.state = "dead"
        raise LambdaKilled
