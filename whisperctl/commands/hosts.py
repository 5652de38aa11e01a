"""`whisperctl restart`, `refresh`, `logs` and `shell`: a host, without any port of its own open."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from chalicelib.domain.remote import RemoteCommand, restart_edge
from chalicelib.domain.remote import logs as logs_command
from whisperctl.api import Api
from whisperctl.aws import Account, find_account, plainly
from whisperctl.errors import CtlError, UsageError, codes
from whisperctl.output import dry_run_option, errors_as_json, planned, print_json, stack_options
from whisperctl.stack import StackInfo, find_stack

POLL_S = 0.5
FOLLOW_S = 2.0
LONGEST_S = 150.0
UNITS = {"gpu": "whisperlive", "edge": "caddy"}
CURSOR = "-- cursor: "
ROOTS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CODES = codes(0, 1, 2, 3, 5, 130, one="failed on the host")
TARGET = click.argument("target", type=click.Choice(tuple(UNITS)))
STACK = click.option("--stack", "stack_name", help="The stack as CloudFormation calls it; else the stage's.")
INSTANCE = click.option("--instance", metavar="ID", help="Which host; left out: the one that `status` shows.")


@click.command(epilog=f"Example: whisperctl restart gpu\n\n{CODES}")
@TARGET
@click.option("--force", is_flag=True, help="Cut live streams instead of letting them finish.")
@dry_run_option
@STACK
@INSTANCE
@stack_options
@errors_as_json
def restart(
    target: str,
    force: bool,
    dry_run: bool,
    stack_name: str | None,
    instance: str | None,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Restart the service of the GPU hosts, drained first, or Caddy on the edge.

    Streams that the edge carries are cut by its restart, so --force is needed while one is live.
    """
    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    with Api(stack, "operator") as api:
        if target == "gpu" and dry_run:
            status = api.status()
            streams = int((status.get("gpu") or {}).get("active_streams") or 0)
            how = "cut" if force else "let finish"
            planned(f"{how} {streams} streams and restart the GPU hosts' service", as_json, streams=streams)
            return
        if target == "gpu":
            answer = api.restart_gpu(force=force)
            _say({"phase": answer.get("phase")}, f"the GPU hosts restart: {answer.get('phase')}", as_json)
            return
        status = api.status()
    streams = int((status.get("gpu") or {}).get("active_streams") or 0)
    if streams and not force:
        raise UsageError(f"{streams} streams are live and would be cut; --force does it")
    account = find_account(stack, os.environ, name=stack_name)
    host = instance or _host(status, target)
    if dry_run:
        planned(f"restart Caddy on {host} and cut {streams} streams", as_json, instance_id=host, streams=streams)
        return
    run_on(account.client("ssm"), host, restart_edge(account.stack))
    _say({"instance_id": host, "restarted": True}, f"{host} restarted Caddy", as_json)


@click.command(epilog=f"Example: whisperctl refresh\n\n{codes(0, 2, 3, 5)}")
@dry_run_option
@stack_options
@errors_as_json
def refresh(dry_run: bool, url: str | None, token: str | None, state_dir: Path, as_json: bool) -> None:
    """Point the edge at the GPU hosts anew, over SSM: for when its own link to the control plane is down."""
    with Api(find_stack(os.environ, url=url, token=token, state_dir=state_dir), "operator") as api:
        if dry_run:
            held = (api.status().get("edge") or {}).get("upstreams") or []
            planned(f"tell the edge its GPU hosts again; it has {', '.join(held) or 'none'}", as_json, upstreams=held)
            return
        answer = api.call("POST", "/v1/edge/refresh", {})
    hosts = ", ".join(str(one["host"]) for one in answer["upstreams"])
    _say(answer, f"the edge is told to forward to {hosts or 'nobody'}", as_json)


@click.command(epilog=f"Example: whisperctl logs gpu --lines 50 -f\n\n{CODES}")
@TARGET
@click.option("--unit", type=click.Choice(("whisperlive", "link", "caddy")), help="Left out: the target's main one.")
@click.option("--lines", type=click.IntRange(1, 9999), default=100, show_default=True, help="How many to begin with.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@STACK
@INSTANCE
@stack_options
@errors_as_json
def logs(
    target: str,
    unit: str | None,
    lines: int,
    follow: bool,
    stack_name: str | None,
    instance: str | None,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Show the last lines of a host's log, by SSM: the journal, or the log file of a local stack's host."""
    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    account = find_account(stack, os.environ, name=stack_name)
    host = instance or host_of(stack, target)
    ssm, name = account.client("ssm"), unit or UNITS[target]
    text, cursor = split(run_on(ssm, host, logs_command(account.stack, name, lines)))
    if as_json:
        print_json({"instance_id": host, "unit": name, "lines": text.splitlines()})
        return
    click.echo(text, nl=False)
    while follow:
        time.sleep(FOLLOW_S)
        text, cursor = split(run_on(ssm, host, logs_command(account.stack, name, lines, cursor)), cursor)
        click.echo(text, nl=False)


@click.command(epilog=f"Example: whisperctl shell gpu\n\n{CODES}")
@TARGET
@click.option("--dry-run", is_flag=True, help="Print the program that would open it; open nothing.")
@STACK
@INSTANCE
@stack_options
@errors_as_json
def shell(
    target: str,
    dry_run: bool,
    stack_name: str | None,
    instance: str | None,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Open a shell on a host: Session Manager in AWS, the host's own root in a local stack."""
    if as_json and not dry_run:
        raise UsageError("a shell is not JSON; --dry-run --json says what would open it")
    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    account = find_account(stack, os.environ, name=stack_name)
    argv, env = shell_of(account, stack, instance or host_of(stack, target))
    if dry_run:
        planned(f"run {shlex.join(argv)}", as_json, argv=argv)
        return
    sys.stdout.flush()
    os.execvpe(argv[0], argv, env)  # noqa: S606  it is the point of this command


def shell_of(account: Account, stack: StackInfo, host: str) -> tuple[list[str], dict[str, str]]:
    """The program to become, and its environment; UsageError says what is missing here."""
    if account.endpoint:
        root = (stack.state_dir or Path(".local")).resolve() / "hosts" / host
        if (root / "disk").is_dir():
            return _inside(root, host), dict(os.environ)
        if not (root / "run").is_dir():
            raise UsageError(f"{host} has no root at {root}: is the machine awake?")
        path = f"{root}/usr/local/bin:{os.environ.get('PATH', '/usr/bin:/bin')}"
        # As root of the host would stand: its files under PREFIX, its own systemctl first.
        return ["/bin/sh", "-c", 'cd "$PREFIX" && exec /bin/sh -i'], {**os.environ, "PREFIX": str(root), "PATH": path}
    for program, where in (("aws", "the AWS CLI"), ("session-manager-plugin", "AWS's Session Manager plugin")):
        if shutil.which(program) is None:
            raise UsageError(f"{where} ({program}) is not installed here; a shell on a host in AWS needs it")
    return ["aws", "ssm", "start-session", "--target", host], dict(os.environ)


def _inside(directory: Path, host: str) -> list[str]:
    """The shell of a host with systemd on this machine, as root; UsageError when it is off."""
    from whisperctl.local.nspawn import entering

    leader = directory / "leader"
    if not leader.exists():
        raise UsageError(f"{host} is off: is the machine awake?")
    if os.geteuid() != 0:
        raise UsageError(f"only root can enter {host}")
    home = ("env", "-i", "HOME=/root", f"TERM={os.environ.get('TERM', 'dumb')}", f"PATH={ROOTS_PATH}")
    return [*entering(int(leader.read_text())), "--", *home, "/bin/sh", "-c", "cd && exec /bin/sh -i"]


def run_on(ssm: Any, host: str, command: RemoteCommand, sleep: Callable[[float], None] = time.sleep) -> str:
    """Run a command and wait for its output; CtlError when it fails on the host or never gets there."""
    with plainly(), _awake(host, ssm):
        sent = ssm.send_command(
            InstanceIds=[host],
            DocumentName=command.document,
            Parameters=command.parameters,
            Comment=command.comment,
            TimeoutSeconds=30,
        )["Command"]["CommandId"]
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline:
            sleep(POLL_S)
            try:
                said = ssm.get_command_invocation(CommandId=sent, InstanceId=host)
            except ssm.exceptions.InvocationDoesNotExist:
                continue
            if said["Status"] == "Success":
                return str(said["StandardOutputContent"])
            if said["Status"] not in ("Pending", "InProgress", "Delayed"):
                error = said["StandardErrorContent"].strip().splitlines()
                raise CtlError(f"{host}: {said['StatusDetails']}" + (f": {error[0]}" if error else ""))
    raise CtlError(f"{host} did not answer within {LONGEST_S:.0f} s")


@contextmanager
def _awake(host: str, ssm: Any) -> Iterator[None]:
    try:
        yield
    except ssm.exceptions.InvalidInstanceId:
        raise CtlError(f"{host} is not there for SSM: it sleeps, or its agent has not come up yet") from None


def split(output: str, before: str = "-") -> tuple[str, str]:
    """A log's text and the cursor of its end, which is its last line."""
    lines = output.splitlines(keepends=True)
    if lines and lines[-1].startswith(CURSOR):
        return "".join(lines[:-1]), lines[-1].removeprefix(CURSOR).strip()
    return output, before


def host_of(stack: StackInfo, target: str) -> str:
    """The host of a kind that the status shows; UsageError when there is none."""
    with Api(stack, "viewer") as api:
        return _host(api.status(), target)


def _host(status: dict[str, Any], target: str) -> str:
    found = (status.get(target) or {}).get("instance_id")
    if not found:
        raise UsageError(f"the stack shows no {target} host; give --instance ID")
    return str(found)


def _say(answer: dict[str, Any], words: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        click.echo(words)
