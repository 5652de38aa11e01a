"""`whisperctl doctor`: what is wrong, and what to do about it; and an archive for asking for help."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import click

from whisperctl.api import Api
from whisperctl.aws import Account, find_account
from whisperctl.doctor.account import AWAKE, AwsLook
from whisperctl.doctor.bundle import write
from whisperctl.doctor.entry import Entry, clip
from whisperctl.doctor.findings import Finding, Verdict, skipped
from whisperctl.doctor.hosts import HostsLook
from whisperctl.errors import CtlError, UsageError, codes
from whisperctl.output import clean, errors_as_json, note, print_json, stack_options
from whisperctl.stack import StackInfo, find_stack

MARKS = {
    Verdict.OK: ("ok", "green"),
    Verdict.PROBLEM: ("problem", "red"),
    Verdict.WARNING: ("warning", "yellow"),
    Verdict.SKIPPED: ("skipped", "bright_black"),
}


@click.command(
    epilog="Examples: whisperctl doctor; whisperctl doctor --bundle help.tar.gz\n\n"
    + codes(0, 1, 2, zero="no problem", one="problems were found")
)
@click.option("--all", "everything", is_flag=True, help="Show what is well, too.")
@click.option(
    "--bundle",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.tar.gz",
    help="Write findings, status, events and logs there, without secrets.",
)
@click.option(
    "--clip",
    "audio",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Look at raw audio as your client sends it.",
)
@click.option("--stack", "stack_name", help="The stack as CloudFormation calls it; else the stage's.")
@stack_options
@errors_as_json
def doctor(
    everything: bool,
    bundle: Path | None,
    audio: Path | None,
    stack_name: str | None,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Look at everything that is known to go wrong, from the account to the browser, and say what helps.

    It wakes nothing and changes nothing: on hosts that sleep nobody looks. Without AWS credentials it looks from
    outside only.
    """
    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    examined = Examination(stack, _account(stack, stack_name))
    if audio is not None:
        examined.add(clip(audio))
    examined.run()
    if bundle is not None:
        write(bundle, examined.files(), examined.secrets())
        note(f"{bundle} is written; look into it before you hand it on")
    if as_json:
        print_json({"ok": not examined.problems, "findings": [dataclasses.asdict(one) for one in examined.findings]})
    else:
        show(examined.findings, everything=everything or sys.stdout.isatty())
    if examined.problems:
        error = CtlError(f"{_many(len(examined.problems), 'problem')} found")
        error.reported = True
        raise error


def _account(stack: StackInfo, stack_name: str | None) -> Account | None:
    try:
        return find_account(stack, os.environ, name=stack_name)
    except UsageError:
        return None


class Examination:
    """All looks, in the order in which they build on each other."""

    def __init__(self, stack: StackInfo, account: Account | None) -> None:
        self._stack = stack
        self._account = account
        self.findings: list[Finding] = []
        self._entry = Entry(stack)
        self._logs: dict[str, str] = {}

    @property
    def problems(self) -> list[Finding]:
        return [one for one in self.findings if one.verdict is Verdict.PROBLEM]

    def add(self, *found: Finding) -> None:
        self.findings += found

    def run(self) -> None:
        """Look from outside, at AWS, and on the hosts."""
        self.add(*self._entry.look())
        if self._account is None:
            self.add(skipped("account", "no stack in AWS is named: --stage or --stack looks there too"))
            return
        aws = AwsLook(self._account)
        self.add(*aws.look())
        awake = [
            {"role": role, "instance_id": one["InstanceId"], "private_ip": one.get("PrivateIpAddress")}
            for role in ("edge", "gpu")
            for one in aws.of(role, AWAKE)
        ]
        agents = {one.name.removeprefix("agent of "): one.verdict for one in self.findings if "agent of" in one.name}
        hosts = HostsLook(self._account, awake)
        self.add(*hosts.look(agents))
        self._logs = hosts.logs
        asleep = [str(one["InstanceId"]) for one in aws.machines if one["State"]["Name"] not in AWAKE]
        self.add(*(skipped(f"inside {one}", "it sleeps; nobody looks there, and nobody wakes it") for one in asleep))

    def files(self) -> dict[str, Any]:
        """What goes into the archive, by name."""
        found: dict[str, Any] = {"findings.json": [dataclasses.asdict(one) for one in self.findings]}
        found |= {f"logs/{name}.log": text for name, text in self._logs.items()}
        if self._entry.status is not None:
            found["status.json"] = self._entry.status
            with Api(self._stack, "viewer") as api:
                found["events.json"] = api.call("GET", "/v1/events")
                found["costs.json"] = api.call("GET", "/v1/costs?period=week")
        return found

    def secrets(self) -> dict[str, str]:
        """Secrets that are known here, by value."""
        known = {value: f"{role}'s token" for role, value in self._stack.tokens.items()}
        return known | ({self._stack.token: "token"} if self._stack.token else {})


def show(findings: list[Finding], *, everything: bool) -> None:
    """A line for each, problems last so that they are what is left on the screen; remedies below them."""
    order = [Verdict.OK, Verdict.SKIPPED, Verdict.WARNING, Verdict.PROBLEM]
    wanted = order if everything else order[2:]
    shown = [one for verdict in wanted for one in findings if one.verdict is verdict]
    width = max((len(one.name) for one in shown), default=0)
    for one in shown:
        word, colour = MARKS[one.verdict]
        click.echo(f"{click.style(f'{word:<8}', fg=colour)} {one.name:<{width}}  {clean(one.detail)}")
        if one.remedy:
            click.echo(f"{'':<8} {'':<{width}}  {click.style('what helps: ' + clean(one.remedy), bold=True)}")
    count = {verdict: sum(1 for one in findings if one.verdict is verdict) for verdict in order}
    click.echo(
        f"{count[Verdict.OK]} well, {_many(count[Verdict.WARNING], 'warning')}, "
        f"{_many(count[Verdict.PROBLEM], 'problem')}, {count[Verdict.SKIPPED]} not looked at"
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
