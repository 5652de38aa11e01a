"""`whisperctl wake`, `stop` and `status`: the GPU's power, by hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from whisperctl.api import Api
from whisperctl.errors import CtlError, Refused, codes
from whisperctl.output import (
    PHASES,
    Waiting,
    clean,
    dry_run_option,
    errors_as_json,
    planned,
    print_json,
    stack_options,
)
from whisperctl.stack import find_stack

POLL_S = 1.0
CODES = codes(0, 1, 2, 3, 5, one="not in time")


@click.command(epilog=f"Example: whisperctl wake --minutes 30 --wait\n\n{CODES}")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="How long; capped by the stack.")
@click.option("--reason", help="Kept in the audit trail.")
@click.option("--wait", is_flag=True, help="Return only when the GPU is ready.")
@click.option(
    "--timeout", type=click.FloatRange(0), default=600.0, show_default=True, help="Longest --wait, in seconds."
)
@dry_run_option
@stack_options
@errors_as_json
def wake(
    minutes: float | None,
    reason: str | None,
    wait: bool,
    timeout: float,
    dry_run: bool,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Wake the GPU for some minutes, as a booking from now."""
    with Api(find_stack(os.environ, url=url, token=token, state_dir=state_dir), "speaker") as api:
        if dry_run:
            told = api.status()
            span = f"for {minutes:g} minutes" if minutes else "for as long as the stack allows"
            words = f"book the GPU from now {span}; it is {_now(told)}"
            planned(words, as_json, minutes=minutes, phase=told["phase"])
            return
        status = api.start_gpu(minutes, reason)
        if wait:
            status = await_phase(api, "ready", timeout, status)
    _show(status, as_json)


@click.command(epilog=f"Example: whisperctl stop --reason 'end of the meeting'\n\n{CODES}")
@click.option("--force", is_flag=True, help="Cut live streams instead of letting them finish.")
@click.option("--closed-until", metavar="TIME", help="Admit no session before, for example 2027-01-05T06:00:00Z.")
@click.option("--reason", help="Kept in the audit trail.")
@click.option("--wait", is_flag=True, help="Return only when the GPU is asleep.")
@click.option(
    "--timeout", type=click.FloatRange(0), default=600.0, show_default=True, help="Longest --wait, in seconds."
)
@dry_run_option
@stack_options
@errors_as_json
def stop(
    force: bool,
    closed_until: str | None,
    reason: str | None,
    wait: bool,
    timeout: float,
    dry_run: bool,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Drain the GPU and put it to sleep; ends sessions and the running booking."""
    with Api(find_stack(os.environ, url=url, token=token, state_dir=state_dir), "operator") as api:
        if dry_run:
            told = api.status()
            ends = [f"{one['kind']} {one['id']}" for one in told.get("wishes") or [] if _running(one, told)]
            wishes = f", end {', '.join(ends)}" if ends else ""
            how = "cut its streams and stop the GPU" if force else "drain and stop the GPU"
            planned(f"{how}{wishes}; it is {_now(told)}", as_json, force=force, ends=ends, phase=told["phase"])
            return
        status = api.stop_gpu(force=force, closed_until=closed_until, reason=reason)
        if wait:
            status = await_phase(api, "asleep", timeout, status)
    _show(status, as_json)


@click.command(epilog=f"Example: whisperctl status --watch\n\n{codes(0, 2, 3, 5)}")
@click.option(
    "--watch", is_flag=True, help="Follow it until Ctrl-C: live on a terminal, else a line for each change."
)
@stack_options
@errors_as_json
def status(watch: bool, url: str | None, token: str | None, state_dir: Path, as_json: bool) -> None:
    """Say what the GPU does, why, and what comes next."""
    with Api(find_stack(os.environ, url=url, token=token, state_dir=state_dir), "viewer") as api:
        if watch:
            from whisperctl.watch import watch as follow

            follow(api.status, as_json=as_json)
        else:
            _show(api.status(), as_json)


def await_phase(
    api: Api,
    phase: str,
    timeout_s: float,
    status: dict[str, Any],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Poll until the GPU is in `phase`; CtlError after `timeout_s`, Refused when it failed on the way."""
    began = clock()
    waiting = Waiting()
    try:
        while status["phase"] != phase:
            seen = str(status["phase"])
            if seen == "failed":
                raise Refused(f"the GPU cannot start: {status.get('reason') or 'no cause given'}")
            if clock() - began > timeout_s:
                raise CtlError(f"not {phase} after {timeout_s:.0f} s; it is {seen}: {status.get('reason')}")
            left = (status.get("eta_seconds") or {}).get("p50") if phase == "ready" else None
            waiting.show(seen, clock() - began, left)
            sleep(POLL_S)
            status = api.status()
    finally:
        waiting.done()
    return status


def _now(status: dict[str, Any]) -> str:
    return f"{status['phase']} now ({clean(status.get('reason') or PHASES.get(status['phase'], ''))})"


def _running(wish: dict[str, Any], status: dict[str, Any]) -> bool:
    """A session, or a booking whose time has come: what a stop ends."""
    return wish["kind"] == "session" or str(wish["since"]) <= str(status.get("now") or "")


def last_probe(probe: dict[str, Any]) -> str:
    """`green at …`, or what is broken since when and what was tried."""
    layers = {one["name"]: one for one in probe["layers"]}
    if probe["ok"]:
        asleep = any(one["verdict"] == "asleep" for one in layers.values())
        return f"{'asleep and well' if asleep else 'green'} at {probe['at']}"
    if not probe["cause"]:
        return f"not proven at {probe['at']}"
    broken = layers[probe["cause"]]
    tried = ", ".join(f"{one['kind']} at {one['at']}" for one in probe["repairs"])
    words = f"{probe['cause']} FAILED since {probe['failing_since']}: {broken['detail']}"
    return f"{words}; tried: {tried}" if tried else words


def _show(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(status)
        return
    phase = str(status.get("phase"))
    click.echo(clean(f"GPU    {phase}: {status.get('reason') or PHASES.get(phase, phase)}"))
    if status.get("remedy"):
        click.echo(clean(f"remedy {status['remedy']}"))
    following = status.get("next") or {}
    if following.get("action"):
        because = f" ({following['because']})" if following.get("because") else ""
        at = f" at {following['at']}" if following.get("at") else ""
        click.echo(f"next   {following['action']}{at}{because}")
    gpu = status.get("gpu") or {}
    if gpu:
        parts = [gpu.get("instance_id"), gpu.get("type"), gpu.get("zone"), gpu.get("state"), gpu.get("model")]
        if gpu.get("active_streams"):
            parts.append(f"{gpu['active_streams']} of {gpu.get('capacity')} streams")
        click.echo("host   " + " ".join(str(part) for part in parts if part))
    edge = status.get("edge") or {}
    if edge:
        points = "points at a ready GPU" if edge.get("upstream_ok") else "points at no ready GPU"
        parts = [edge.get("instance_id"), edge.get("state"), points]
        click.echo("edge   " + " ".join(str(part) for part in parts if part))
    if status.get("last_probe"):
        click.echo(clean(f"probe  {last_probe(status['last_probe'])}"))
    for wish in status.get("wishes") or []:
        who = f", {wish['by']}" if wish.get("by") else ""
        noted = f", {wish['note']}" if wish.get("note") else ""
        speaks = ", speaking" if wish.get("streaming") else ""
        when = f"{wish['since']} to {wish['until']}"
        click.echo(clean(f"wish   {wish['kind']} {wish['id']}, {when}{who}{noted}{speaks}"))
