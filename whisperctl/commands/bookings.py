"""`whisperctl book`, `bookings`, `events` and `cost`: what will be, what was, and what it cost."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from typing import Any

import click

from whisperctl.api import Api
from whisperctl.errors import UsageError, codes
from whisperctl.output import clean, dry_run_option, errors_as_json, planned, print_json, stack_options
from whisperctl.stack import find_stack

CODES = codes(0, 2, 3, 5)
TIME = "for example 2027-01-05T19:00:00Z, or with +01:00"


@click.command(epilog=f"Example: whisperctl book --start 2027-01-05T19:00:00+01:00 --minutes 90 --weekly\n\n{CODES}")
@click.option("--start", metavar="TIME", help=f"When it begins, {TIME}; left out: now.")
@click.option("--end", metavar="TIME", help="When it ends; or give --minutes.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="How long it lasts.")
@click.option("--weekly", is_flag=True, help="Every week at this time, on the stack's calendar or --zone's.")
@click.option("--zone", help="IANA time zone of a weekly booking, for example Europe/Berlin.")
@click.option("--note", help="What it is for.")
@dry_run_option
@stack_options
@errors_as_json
def book(
    start: str | None,
    end: str | None,
    minutes: float | None,
    weekly: bool,
    zone: str | None,
    note: str | None,
    dry_run: bool,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Book the GPU: it wakes in time, through the night too."""
    if (end is None) == (minutes is None):
        raise UsageError("give either --end TIME or --minutes N")
    ends = end if end is not None else _after(start, minutes or 0.0)
    body = {"start": start, "end": ends, "weekly": (zone or True) if weekly or zone else None, "note": note}
    asked = {name: value for name, value in body.items() if value is not None}
    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    if dry_run:
        often = " every week" if weekly or zone else ""
        planned(f"book the GPU from {start or 'now'} to {ends}{often}", as_json, **asked)
        return
    with Api(stack, "operator") as api:
        made = api.call("POST", "/v1/bookings", asked)
    if as_json:
        print_json(made)
    else:
        click.echo(_line(made))


@click.command(epilog=f"Example: whisperctl bookings --cancel 3f9a0c1d2e4b5a69\n\n{CODES}")
@click.option("--cancel", metavar="ID", help="Take this one back; a weekly one for good, one that runs ends.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header.")
@dry_run_option
@stack_options
@errors_as_json
def bookings(
    cancel: str | None,
    as_csv: bool,
    dry_run: bool,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """List the bookings, the next first."""
    with Api(find_stack(os.environ, url=url, token=token, state_dir=state_dir), "operator") as api:
        if cancel is not None:
            if not cancel.isalnum():
                raise UsageError(f"{cancel!r} is no id of a booking")
            if dry_run:
                known = [one for one in api.call("GET", "/v1/bookings")["bookings"] if one["id"] == cancel]
                if not known:
                    raise UsageError(f"there is no booking {cancel}")
                planned(f"take back {_line(known[0])}", as_json, booking=known[0])
                return
            api.call("DELETE", f"/v1/bookings/{cancel}")
        answer = api.call("GET", "/v1/bookings")
    if as_json:
        print_json(answer)
        return
    if as_csv:
        _csv(["id", "kind", "start", "end", "weekly", "wake_at", "state", "by", "note"], answer["bookings"])
        return
    for one in answer["bookings"]:
        click.echo(_line(one))
    if not answer["bookings"]:
        click.echo("no bookings")


@click.command(epilog=f"Example: whisperctl events --since 2027-01-05T00:00:00Z\n\n{CODES}")
@click.option("--since", default="", metavar="TIME", help="Events after this; left out: the last day's.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header.")
@stack_options
@errors_as_json
def events(since: str, as_csv: bool, url: str | None, token: str | None, state_dir: Path, as_json: bool) -> None:
    """Say what was done, by whom and why, newest last."""
    from urllib.parse import quote

    found: list[dict[str, Any]] = []
    with Api(find_stack(os.environ, url=url, token=token, state_dir=state_dir), "viewer") as api:
        while True:
            page = api.call("GET", f"/v1/events?since={quote(since)}")
            found += page["events"]
            since = page["next"]
            if not page["events"]:
                break
    if as_json:
        print_json({"events": found, "next": since})
    elif as_csv:
        _csv(["at", "actor", "action", "target", "reason", "trigger"], found)
    else:
        for one in found:
            at = one["at"][:19].replace("T", " ")
            click.echo(clean(f"{at}  {one['action']:<20}  {one['target']:<20}  {one['reason']}"))


@click.command(epilog=f"Example: whisperctl cost --period month --csv\n\n{CODES}")
@click.option("--period", type=click.Choice(["day", "week", "month"]), default="month", show_default=True)
@click.option("--csv", "as_csv", is_flag=True, help="Print the times awake as CSV with a header.")
@stack_options
@errors_as_json
def cost(period: str, as_csv: bool, url: str | None, token: str | None, state_dir: Path, as_json: bool) -> None:
    """Say what the GPU cost, and what was saved against one that is always on."""
    with Api(find_stack(os.environ, url=url, token=token, state_dir=state_dir), "viewer") as api:
        answer = api.call("GET", f"/v1/costs?period={period}")
    if as_json:
        print_json(answer)
    elif as_csv:
        columns = ["start", "end", "instance_id", "type", "seconds", "cost", "sessions", "lost_seconds"]
        _csv(columns, answer["spans"])
    else:
        click.echo(f"{period}: {answer['gpu_hours']:.2f} GPU hours, {_dollars(answer['cost'])}")
        if answer["saved"] is not None:
            always = _dollars(answer["always_on"])
            click.echo(f"saved {_dollars(answer['saved'])} against one that is always on ({always})")
        budget = answer.get("budget")
        if budget:
            click.echo(f"budget for {budget['month']}: {_dollars(budget['spent'])} of {_dollars(budget['dollars'])}")
        for one in answer["spans"]:
            click.echo(one["receipt"] or f"awake since {one['start']}, {_dollars(one['cost'])} so far")


def _after(start: str | None, minutes: float) -> str:
    from datetime import UTC, datetime, timedelta

    try:
        begin = datetime.now(UTC) if start is None else datetime.fromisoformat(start)
    except ValueError as error:
        raise UsageError(f"--start {start!r} is not a time; {TIME}") from error
    if begin.tzinfo is None:
        raise UsageError(f"--start {start!r} needs its zone; {TIME}")
    try:
        return (begin + timedelta(minutes=minutes)).isoformat()
    except OverflowError as error:
        raise UsageError(f"--minutes {minutes:g} is too many") from error


def _line(one: dict[str, Any]) -> str:
    weekly = f"  weekly ({one['weekly']})" if one.get("weekly") else ""
    note = f"  {one['note']}" if one.get("note") else ""
    return clean(f"{one['id']}  {one['state']:<9}  {one['start'][:16]}Z - {one['end'][:16]}Z{weekly}{note}")


def _dollars(amount: float | None) -> str:
    return "price unknown" if amount is None else f"${amount:.2f}"


def _csv(columns: list[str], rows: list[dict[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
