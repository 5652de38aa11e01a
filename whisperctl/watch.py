"""`whisperctl status --watch`: the status as it changes, live on a terminal, as lines anywhere else."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from whisperctl.commands.power import last_probe
from whisperctl.errors import NotReachable
from whisperctl.output import PHASES

EVERY_S = 2.0
COLOURS = {"ready": "green", "failed": "red", "asleep": "blue", "draining": "magenta", "stopping": "blue"}
NOWHERE = "-"

Ask = Callable[[], dict[str, Any]]


def watch(ask: Ask, *, as_json: bool, sleep: Callable[[float], None] = time.sleep, rounds: int | None = None) -> None:
    """Follow `ask` until Ctrl-C (or for so many rounds). A stack that does not answer is shown as that, and asked on.

    On a terminal one picture that changes; else a line (with `as_json` an object a line) whenever something does.
    """
    console = Console()
    if as_json or not console.is_terminal:
        for status in _answers(ask, sleep, rounds, told_apart if as_json else line):
            if as_json:
                click.echo(json.dumps(status, ensure_ascii=False))
            else:
                click.echo(f"{clock(status.get('now'))}  {line(status)}")
            sys.stdout.flush()
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        for status in _answers(ask, sleep, rounds, None):
            live.update(picture(status), refresh=True)


def _answers(
    ask: Ask, sleep: Callable[[float], None], rounds: int | None, essence: Callable[[dict[str, Any]], str] | None
) -> Iterator[dict[str, Any]]:
    told: object = None
    done = 0
    while rounds is None or done < rounds:
        if done:
            sleep(EVERY_S)
        done += 1
        try:
            status = ask()
        except NotReachable as error:
            if done == 1:
                raise  # a wrong address is the caller's mistake
            status = {"phase": "unknown", "reason": error.message}
        if essence is None or essence(status) != told:
            told = essence(status) if essence is not None else None
            yield status


def told_apart(status: dict[str, Any]) -> str:
    """What makes a status another one: not its own time, and not when the hosts reported last."""
    gpu = {**(status.get("gpu") or {}), "reported_at": None}
    edge = {**(status.get("edge") or {}), "reported_at": None}
    return json.dumps({**status, "now": None, "cost_today": None, "gpu": gpu, "edge": edge}, default=str)


def line(status: dict[str, Any]) -> str:
    """One line: phase, why, what next."""
    following = status.get("next") or {}
    at = f" at {clock(following['at'])}" if following.get("at") else ""
    after = f"; next: {following['action']}{at}" if following.get("action") else ""
    return f"{status['phase']:<16}  {status.get('reason') or ''}{after}"


def picture(status: dict[str, Any]) -> RenderableType:
    """What a person watches."""
    phase = str(status["phase"])
    colour = COLOURS.get(phase, "yellow")
    head = Text.assemble((f" {phase} ", f"bold reverse {colour}"), "  ", PHASES.get(phase, ""))
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("why", str(status.get("reason") or NOWHERE))
    if status.get("remedy"):
        facts.add_row("remedy", Text(str(status["remedy"]), style="bold"))
    following = status.get("next") or {}
    if following:
        at = f" at {clock(following['at'])}" if following.get("at") else ""
        facts.add_row("next", f"{following['action']}{at}, {following['because']}")
    gpu = status.get("gpu") or {}
    if gpu:
        seats = f"{gpu['active_streams']} of {gpu['capacity']} streams" if gpu.get("capacity") else None
        parts = [gpu.get("instance_id"), gpu.get("type"), gpu.get("zone"), gpu.get("state"), gpu.get("model"), seats]
        facts.add_row("GPU", "  ".join(str(one) for one in parts if one))
    edge = status.get("edge") or {}
    if edge:
        points = "points at a ready GPU" if edge.get("upstream_ok") else "points at no ready GPU"
        facts.add_row("edge", f"{edge.get('instance_id', '')}  {edge.get('state', '')}  {points}")
    if status.get("last_probe"):
        facts.add_row("probe", last_probe(status["last_probe"]))
    for wish in status.get("wishes") or []:
        speaks = "  speaking" if wish.get("streaming") else ""
        who = f"  {wish['by']}" if wish.get("by") else ""
        noted = f"  {wish['note']}" if wish.get("note") else ""
        until = f"{clock(wish['since'])} to {clock(wish['until'])}"
        facts.add_row(str(wish["kind"]), f"{until}{who}{noted}{speaks}")
    cost = status.get("cost_today")
    if "cost_today" in status:
        facts.add_row("today", "price unknown" if cost is None else f"${cost:.2f}")
    foot = Text(f"{clock(status.get('now'))}  Ctrl-C ends", style="dim")
    return Group(head, Text(), facts, Text(), foot)


def clock(text: Any) -> str:
    """`18:52:07 CET`, by this machine's clocks."""
    moment = datetime.fromisoformat(text) if text else datetime.now().astimezone()
    return moment.astimezone().strftime("%H:%M:%S %Z")
