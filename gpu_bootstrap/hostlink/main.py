"""The program: the loop for ever, or the timer's one look."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from .edge import Edge
from .errors import LinkError, SettingsError
from .files import log
from .gpu import Gpu, read_health
from .loop import Link
from .settings import Settings
from .switch import Switch


def boot_id(settings: Settings) -> str:
    return settings.boot_id or Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def look_once(settings: Settings) -> int:
    """The timer's look, for the case that the loop hangs."""
    if settings.role != "gpu":
        print("--deadman is for a GPU host", file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2
    health = read_health(settings.health_url)
    streaming = bool(health.report.get("streams")) if health.report is not None else None
    try:
        Switch(settings, boot_id(settings), settings.boot_id is None).look(False if health.refused else streaming)
    except LinkError as error:
        log("deadman.trouble", cause=str(error))
        return 1
    return 0


def main(arguments: list[str]) -> int:
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2
    if arguments == ["--deadman"]:
        return look_once(settings)
    if arguments:
        print(f"unknown: {' '.join(arguments)}; there is only --deadman", file=sys.stderr)  # noqa: T201 - likewise
        return 2
    # A host that stops has no time for a report; EC2's state says the same.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(0))
    log("link.started", role=settings.role, instance=settings.instance_id, release=settings.release)
    boot = boot_id(settings)
    if settings.role == "gpu":
        Link(settings, Gpu(settings), boot, Switch(settings, boot, settings.boot_id is None)).run()
    Link(settings, Edge(settings), boot).run()
