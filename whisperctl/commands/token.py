"""`whisperctl token`: access tokens and the keys of tickets, straight in the table with the operator's AWS rights."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click
import httpx

from whisperctl.aws import outputs, plainly
from whisperctl.errors import CtlError, NotReachable, UsageError, codes
from whisperctl.output import clean, dry_run_option, errors_as_json, planned, print_json, stage_option
from whisperctl.stack import DEFAULT_STATE_DIR, LOCAL, ROLES, chosen_stage, read_stack, stack_name_of

if TYPE_CHECKING:
    from chalicelib.aws.store import DynamoStore

P = ParamSpec("P")
R = TypeVar("R")
LOCAL_REGION = "us-east-1"
CODES = codes(0, 1, 2, 5)


def store_options(command: Callable[P, R]) -> Callable[P, R]:
    """The options by which the table is found."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout."),
        click.option(
            "--state-dir",
            type=click.Path(file_okay=False, path_type=Path),
            default=DEFAULT_STATE_DIR,
            show_default=True,
            help="Where a local stack keeps stack.json.",
        ),
        click.option("--table", help="DynamoDB table in AWS; else the stage's, TABLE_NAME, the local one."),
        stage_option,
    ):
        command = option(command)
    return command


@click.group(epilog=f"Example: whisperctl token add speaker --minutes 120 --label 'Monday talk'\n\n{CODES}")
def token() -> None:
    """Add, list and revoke access tokens; rotate the keys of sessions' tickets."""


@token.command(epilog=f"Example: whisperctl token add speaker --minutes 120\n\n{CODES}")
@click.argument("role", type=click.Choice(ROLES))
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Life of the token; left out: no end.")
@click.option("--label", default="", help="A name for the list and the audit trail.")
@dry_run_option
@store_options
@errors_as_json
def add(
    role: str, minutes: float | None, label: str, dry_run: bool, table: str | None, state_dir: Path, as_json: bool
) -> None:
    """Make a token and print it; it is not stored and cannot be shown again."""
    from chalicelib.services.tokens import issue

    if dry_run:
        life = "without an end" if minutes is None else f"for {minutes:g} minutes"
        planned(f"make a {role}'s token {life}", as_json, role=role, minutes=minutes, label=label)
        return
    with opened_table(table, state_dir) as (store, now):
        plain = issue(store, role, now=now, minutes=minutes, label=label)
    if as_json:
        print_json({"token": plain, "role": role, "label": label, "minutes": minutes})
    else:
        click.echo(plain)


@token.command("list", epilog=f"Example: whisperctl token list --json\n\n{CODES}")
@store_options
@errors_as_json
def list_tokens(table: str | None, state_dir: Path, as_json: bool) -> None:
    """List tokens by id, role, label and state; the tokens themselves are not known."""
    from chalicelib.services.tokens import TOKENS

    with opened_table(table, state_dir) as (store, now):
        found = [_described(record.data, now) for record in store.partition(TOKENS)]
    found.sort(key=lambda entry: str(entry["created_at"]))
    if as_json:
        print_json(found)
        return
    for entry in found:
        line = f"{entry['id']}  {entry['role']:<8}  {entry['state']:<7}  {entry['expires_at'] or 'no end':<20}"
        click.echo(f"{line}  {clean(entry['label'])}".rstrip())
    if not found:
        click.echo("no tokens")


@token.command(epilog=f"Example: whisperctl token revoke 3f9a0c1d2e4b\n\n{CODES}")
@click.argument("token_id", metavar="ID")
@dry_run_option
@store_options
@errors_as_json
def revoke(token_id: str, dry_run: bool, table: str | None, state_dir: Path, as_json: bool) -> None:
    """Revoke the token with this id, as `token list` shows it. An invite's is revoked the same way."""
    from chalicelib.services.tokens import TOKENS
    from chalicelib.services.tokens import revoke as revoke_token

    with opened_table(table, state_dir) as (store, now):
        known = [one.data for one in store.partition(TOKENS) if one.data["id"] == token_id]
        if not known:
            raise UsageError(f"there is no token with the id {clean(token_id)}; `whisperctl token list` shows them")
        if dry_run:
            about = _described(known[0], now)
            planned(f"revoke the {about['role']}'s token {token_id} ({about['state']})", as_json, token=about)
            return
        revoke_token(store, token_id, now=now)
    if as_json:
        print_json({"id": token_id, "revoked": True})
    else:
        click.echo(f"{token_id} is revoked")


@token.command("rotate-keys", epilog=f"Example: whisperctl token rotate-keys\n\n{CODES}")
@click.option("--drop", is_flag=True, help="Forget the older keys at once: tickets that are out open nothing more.")
@dry_run_option
@store_options
@errors_as_json
def rotate_keys(drop: bool, dry_run: bool, table: str | None, state_dir: Path, as_json: bool) -> None:
    """Make a new key for sessions' tickets; hosts hear of it with their next report, live streams go on."""
    from chalicelib.services.ticket_keys import rotate

    if dry_run:
        planned(f"make a new ticket key and {'forget' if drop else 'keep'} the older ones", as_json, drop=drop)
        return
    with opened_table(table, state_dir) as (store, now):
        keys = rotate(store, now, drop=drop)
    kids = [key.kid for key in keys.keys]
    if as_json:
        print_json({"kid": kids[-1], "kids": kids})
    else:
        click.echo(f"{kids[-1]} is the new key; {', '.join(kids[:-1]) or 'no other'} still opens streams")


@contextmanager
def opened_table(table: str | None, state_dir: Path) -> Iterator[tuple[DynamoStore, float]]:
    """The stack's table and the time there (epoch seconds); what AWS says against it becomes one sentence."""
    from chalicelib.aws.clients import Clients
    from chalicelib.aws.store import DynamoStore
    from chalicelib.errors import StoreConflict, Unavailable

    stage, _ = chosen_stage(os.environ)
    name = table or os.environ.get("TABLE_NAME") or None
    if stage and stage != LOCAL and table is None:
        stack = stack_name_of(stage)
        name = outputs(stack).get("TableName", stack)
    try:
        with plainly():
            if name is None or (stage == LOCAL and table is None):
                with _local_aws(state_dir) as (local_name, now):
                    yield DynamoStore(Clients(), local_name), now
            else:
                yield DynamoStore(Clients(), name), time.time()
    except Unavailable as error:
        raise NotReachable(str(error)) from None
    except StoreConflict:
        raise CtlError("somebody else changed it at the same moment; try again") from None


@contextmanager
def _local_aws(state_dir: Path) -> Iterator[tuple[str, float]]:
    """Point boto3 at the stand-in of a running local stack, and at nothing else, for as long as the block lasts.

    Yields the table's name and the stand-in's time, which may be ahead of this machine's.
    """
    stack = read_stack(state_dir)
    assert stack is not None
    if not stack.aws_endpoint:
        raise UsageError(f"{state_dir}/stack.json names no AWS endpoint; give --table for a stack in AWS")
    before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    wanted = {
        "AWS_ENDPOINT_URL": stack.aws_endpoint,
        "AWS_REGION": LOCAL_REGION,
        "AWS_DEFAULT_REGION": LOCAL_REGION,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    for name in before:
        del os.environ[name]
    os.environ.update(wanted)
    try:
        yield stack.stack_name, _time_there(stack.aws_endpoint)
    finally:
        for name in wanted:
            os.environ.pop(name, None)
        os.environ.update(before)


def _time_there(aws_endpoint: str) -> float:
    """The stand-in's clock, epoch seconds."""
    try:
        said = httpx.get(f"{aws_endpoint}/_standin/clock", timeout=10).raise_for_status().json()["now"]
    except httpx.HTTPError as error:
        raise NotReachable(f"the local stack does not answer at {aws_endpoint}: {error}") from None
    return datetime.fromisoformat(said).timestamp()


def _described(data: Mapping[str, Any], now: float) -> dict[str, Any]:
    expires_at = data["expires_at"]
    state = "valid"
    if data["revoked_at"] is not None:
        state = "revoked"
    elif expires_at is not None and now >= expires_at:
        state = "expired"
    return {
        "id": data["id"],
        "role": data["role"],
        "label": data["label"],
        "state": state,
        "created_at": _time(data["created_at"]),
        "expires_at": _time(expires_at),
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
