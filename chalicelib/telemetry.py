"""Structured logs, and the one id that ties an HTTP call to all it caused.

No Tracer: its import alone costs 285 ms of a cold start.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

_known_as: ContextVar[str] = ContextVar("correlation_id", default="")


@contextmanager
def correlated(known_as: str) -> Iterator[None]:
    """Whatever is logged, written as an event or sent to a host in this block carries this id."""
    token = _known_as.set(known_as)
    try:
        yield
    finally:
        _known_as.reset(token)


def correlation_id() -> str:
    """The id of the call or the invocation that is being served; empty outside of one."""
    return _known_as.get()


class _Correlated(logging.Filter):
    """Puts the id into every line; a key of Powertools' is the whole process's, which may serve many at once."""

    def filter(self, record: logging.LogRecord) -> bool:
        if correlation_id() and not hasattr(record, "correlation_id"):
            record.correlation_id = correlation_id()
        return True


@lru_cache(maxsize=1)
def logger() -> Logger:
    """The one logger: JSON lines on stderr. Made on first use, since Powertools reads the environment."""
    from aws_lambda_powertools import Logger

    made = Logger(service="whisperlive-edge", stream=sys.stderr)
    made.addFilter(_Correlated())
    return made
