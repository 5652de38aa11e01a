"""`whisperctl notify`: the webhook by which people are told, and a message to try it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from chalicelib.domain.notification import Notification, notification
from chalicelib.errors import NotifyFailed
from whisperctl.aws import Account, find_account, plainly
from whisperctl.deployment.cloud import TAG
from whisperctl.errors import CtlError, UsageError, codes
from whisperctl.output import dry_run_option, errors_as_json, note, planned, print_json, stack_options
from whisperctl.stack import StackInfo, find_stack

CODES = codes(0, 1, 2, 5)
STACK = click.option("--stack", "stack_name", help="The stack as CloudFormation calls it; else the stage's.")


@click.group(epilog=f"Example: whisperctl notify webhook < address.txt\n\n{CODES}")
def notify() -> None:
    """Say who is told of failures, bookings and receipts, and try it.

    A stack tells its SNS topic (e-mail, NotifyEmail of the stack) and a webhook, which Slack, Teams, Mattermost and
    ntfy take.
    """


@notify.command(epilog=f"Example: whisperctl notify webhook < address.txt\n\n{CODES}")
@click.option("--off", is_flag=True, help="Forget the webhook.")
@dry_run_option
@STACK
@stack_options
@errors_as_json
def webhook(
    off: bool,
    dry_run: bool,
    stack_name: str | None,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Set the webhook; its address is read from standard input, for it is a secret.

    The kind follows from the host; slack+https://…, teams+https://… and ntfy+https://… say it. The address is kept
    encrypted in the Parameter Store and is in force with the next message.
    """
    from chalicelib.aws.notifier import webhook as read

    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    account = find_account(stack, os.environ, name=stack_name)
    name = f"/{account.stack}/webhook"
    kind = ""
    if not off:
        if sys.stdin.isatty():
            note("paste the webhook's address and press Return")
        address = sys.stdin.readline().strip()
        try:
            kind = read(address).kind
        except NotifyFailed as error:
            raise UsageError(str(error)) from None
    if dry_run:
        planned(f"set {name} to a {kind} webhook" if kind else f"forget {name}", as_json, parameter=name, kind=kind)
        return
    ssm = account.client("ssm")
    with plainly():
        if off:
            ssm.delete_parameters(Names=[name])
        else:
            ssm.put_parameter(Name=name, Value=address, Type="SecureString", Overwrite=True)
            # Not in the call above, which takes either tags or Overwrite. With the tag, `destroy` finds it.
            ssm.add_tags_to_resource(
                ResourceType="Parameter", ResourceId=name, Tags=[{"Key": TAG, "Value": account.stack}]
            )
    if as_json:
        print_json({"parameter": name, "kind": kind or None})
    else:
        click.echo(f"{kind} webhook is set; whisperctl notify test tries it" if kind else "no webhook any more")


@notify.command(epilog=f"Example: whisperctl notify test\n\n{CODES}")
@dry_run_option
@STACK
@stack_options
@errors_as_json
def test(
    dry_run: bool, stack_name: str | None, url: str | None, token: str | None, state_dir: Path, as_json: bool
) -> None:
    """Send a message to the topic and to the webhook, with your own AWS rights, and say what each answered."""
    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    account = find_account(stack, os.environ, name=stack_name)
    if dry_run:
        planned(f"send a message to the topic and the webhook of {account.stack}", as_json)
        return
    answers = tell(account, stack)
    if as_json:
        print_json({"channels": answers})
    else:
        for name, answer in answers.items():
            click.echo(f"{name:<8} {answer}")
    failed = [name for name, answer in answers.items() if answer not in ("told", "not set")]
    if failed or "told" not in answers.values():
        error = CtlError(f"{' and '.join(failed)} did not take it" if failed else "nobody is told: no channel is set")
        error.reported = as_json
        raise error


def tell(account: Account, stack: StackInfo) -> dict[str, str]:
    """Each channel's answer: told, not set, or a sentence."""
    from chalicelib.aws.notifier import NoWebhook, SnsNotifier, parameter, post
    from chalicelib.aws.notifier import webhook as read
    from whisperctl.doctor.account import topics

    message = notification("test", "test", "", "somebody tried whether this arrives", account.stack, stack.edge_url)
    answers = {"topic": "not set", "webhook": "not set"}
    with plainly():
        clients = Clients(account.client("sns"), account.client("ssm"))
        for arn in topics(clients.sns, account.stack):
            answers["topic"] = _answer(SnsNotifier(clients, arn).tell, message)
        try:
            address = parameter(clients, f"/{account.stack}/webhook")()
        except NoWebhook:
            return answers
        except NotifyFailed as error:
            return {**answers, "webhook": str(error)}
        answers["webhook"] = _answer(lambda one: post(read(address), one), message)
    return answers


@dataclass(frozen=True)
class Clients:
    """The two that the adapters need, with the operator's own rights."""

    sns: Any
    ssm: Any


def _answer(send: Callable[[Notification], None], message: Notification) -> str:
    try:
        send(message)
    except NotifyFailed as error:
        return str(error)
    return "told"
