"""The GPU host's side of the link: reports what the launcher says, and leaves the answer for it."""

from __future__ import annotations

import http.client
import json
import urllib.request
from typing import Any

from .files import write_private
from .reports import GpuMemory, Health
from .settings import Settings
from .wire import HEALTH_TIMEOUT_S, MOST_BYTES, ask


class Gpu:
    def __init__(self, settings: Settings) -> None:
        self._health_url = settings.health_url
        assert settings.control_file is not None
        self._control_file = settings.control_file
        self._memory = GpuMemory()

    def observe(self) -> dict[str, Any]:
        return self._memory.report(read_health(self._health_url))

    def obey(self, answer: dict[str, Any], received_at: float) -> None:
        write_private(self._control_file, json.dumps({**answer, "received_at": received_at}))


def read_health(url: str) -> Health:
    """Ask the launcher how it is."""
    try:
        with ask(urllib.request.Request(url), HEALTH_TIMEOUT_S) as answer:  # noqa: S310 - checked in the settings
            report = json.loads(answer.read(MOST_BYTES))
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Health(refused=isinstance(reason, ConnectionRefusedError))
    return Health(report if isinstance(report, dict) else None)
