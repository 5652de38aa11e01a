"""`whisperctl destroy`: take the stack out of the account, and prove that nothing of it is left."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from whisperctl.commands.up import going_on
from whisperctl.errors import Refused, UsageError
from whisperctl.output import errors_as_json, note, print_json

CODES = "Exit codes: 0 nothing is left, 1 failed, 2 usage, 3 refused, 5 AWS not reachable, 130 Ctrl-C."


@click.command(epilog=f"Example: whisperctl destroy --confirm whisperlive-prod\n\n{CODES}")
@click.option(
    "--plan", "--dry-run", "plan", is_flag=True, help="Show what is there and what it costs; change nothing."
)
@click.option("--confirm", metavar="STACK", help="The stack's name, in place of being asked for it.")
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where ledger, audit and logs are kept; left out: a folder named after stack and time.",
)
@click.option("--discard", is_flag=True, help="Keep neither ledger nor logs.")
@click.option("--stage", metavar="NAME", help="The stage, where there is no file of settings; with --region.")
@click.option("--region", metavar="NAME", help="Its region.")
@click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("whisperctl.json"),
    show_default=True,
    help="The settings that `init` wrote.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@errors_as_json
def destroy(
    plan: bool,
    confirm: str | None,
    keep: Path | None,
    discard: bool,
    stage: str | None,
    region: str | None,
    file: Path,
    as_json: bool,
) -> None:
    """Delete the stack, its machines and disks, its buckets and table, and whatever else carries its tag.

    Ledger, audit and logs are written to this machine first. What does not carry the tag is never touched; a machine
    that was there before the stack loses the tags and stays.
    """
    from whisperctl.deployment.cloud import Cloud
    from whisperctl.deployment.destroy import Destroy
    from whisperctl.deployment.settings import Settings

    if keep is not None and discard:
        raise UsageError("give either --keep or --discard")
    if (stage is None) != (region is None):
        raise UsageError("--stage and --region go together")
    settings = Settings(stage, region) if stage and region else Settings.read(file)
    settings.check()
    run = Destroy(Cloud(settings.region), settings.stack, note)
    with going_on():
        account = run.cloud.account()
        found = run.inventory()
        lines, monthly = described(found, settings.region)
        if not as_json or not plan:
            note(f"{settings.stack} in account {account}, {settings.region}:")
            for line in lines:
                note(f"  {line}")
            note(f"about {monthly:.2f} $ a month while the GPU sleeps")
        if plan:
            show_plan(found, monthly, as_json)
            return
        folder = None if discard else kept_folder(keep, settings.stack, account, settings.region)
        if not found.nothing:
            confirmed(settings.stack, confirm)
        report = run.run(found, folder)
    if as_json:
        print_json(report)
    else:
        kept = f"; ledger and logs are in {report['kept']}" if report["kept"] else ""
        click.echo(f"nothing of {settings.stack} is left{kept}")


def kept_folder(named: Path | None, stack: str, account: str, region: str) -> Path:
    """Where ledger and logs go: the folder that is named, else an interrupted run's, else a new one."""
    from whisperctl.deployment.keep import check, unfinished

    if named is None:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        return unfinished(Path(), stack, account, region) or Path(f"{stack}-kept-{stamp}")
    check(named, stack, account, region)
    return named


def confirmed(stack: str, given: str | None) -> None:
    """Refused unless the stack's name is given, or typed."""
    if given is None:
        if not sys.stdin.isatty():
            raise UsageError(f"nobody is there to be asked: give --confirm {stack}")
        asked = "This cannot be taken back. Type the stack's name to go on"
        given = click.prompt(asked, default="", show_default=False, err=True)
    if given != stack:
        raise Refused(f"that is not {stack}: nothing was deleted")


def described(found: Any, region: str) -> tuple[list[str], float]:
    """Lines for a person, and dollars a month."""
    from whisperctl.costs.prices import monthly_of

    lines, total = [], 0.0
    if found.stack is not None:
        lines.append(f"the stack, {found.stack.status}, {len(found.resources)} resources")
    counts: dict[str, list[str]] = {}
    for thing in found.things:
        counts.setdefault(thing.kind, []).append(thing.id)
        total += monthly_of(thing.kind, thing.about, region)
    total += sum(monthly_of(str(one["ResourceType"]), "", region) for one in found.resources)
    for kind, ids in counts.items():
        shown = ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")
        lines.append(f"{len(ids)} × {kind}: {shown}")
    lines += [f"of a kind that is not known here: {arn}" for arn in found.unknown]
    lines += [f"{machine} was there before the stack: it stays" for machine in found.adopted]
    return lines or ["nothing"], total


def show_plan(found: Any, monthly: float, as_json: bool) -> None:
    """--plan's result."""
    if not as_json:
        click.echo("nothing was changed")
        return
    print_json(
        {
            "stack": None if found.stack is None else found.stack.status,
            "things": [{"kind": one.kind, "id": one.id} for one in found.things],
            "unknown": list(found.unknown),
            "stays": list(found.adopted),
            "monthly": round(monthly, 2),
        }
    )
