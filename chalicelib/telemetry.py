"""Structured logs. No Tracer: its import alone costs 285 ms of a cold start."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger


@lru_cache(maxsize=1)
def logger() -> Logger:
    """The one logger: JSON lines on stderr. Made on first use, since Powertools reads the environment."""
    from aws_lambda_powertools import Logger

    return Logger(service="whisperlive-edge", stream=sys.stderr)
