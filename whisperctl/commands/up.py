"""`whisperctl up`: from an empty account to a first spoken word, or from one checkout to the next."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from whisperctl.errors import CtlError, Interrupted, UsageError
from whisperctl.output import errors_as_json, note, print_json

CODES = (
    "Exit codes: 0 done, 1 failed, 2 usage, 3 refused (rights, quota, a replacement, a name that leads elsewhere), "
    "5 AWS not reachable, 130 Ctrl-C."
)


@click.command(epilog=f"Example: whisperctl up --plan\n\n{CODES}")
@click.option(
    "--plan", "--dry-run", "plan", is_flag=True, help="Show what would change in the stack; change nothing of it."
)
@click.option(
    "--replace", is_flag=True, help="Allow that a machine, the address, the table or the bucket is replaced."
)
@click.option("--no-check", is_flag=True, help="Leave the first spoken word out.")
@click.option(
    "--token-days",
    type=click.FloatRange(0, min_open=True),
    default=365,
    show_default=True,
    help="Life of the first operator's token.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what AWS answered there, without what is yours.",
)
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
def up(
    plan: bool, replace: bool, no_check: bool, token_days: float, record: Path | None, file: Path, as_json: bool
) -> None:
    """Bring the stack into the account: package, stack, releases, rollouts, first token and invite.

    Run it again at any time: what is there already is left alone, what an interrupted run left is gone on with.
    """
    from whisperctl.deployment.cloud import Cloud
    from whisperctl.deployment.settings import Settings
    from whisperctl.deployment.up import Tools, Up, build_release

    settings = Settings.read(file)
    cloud = Cloud(settings.region)
    run = Up(settings, file, cloud, Tools(build_release, None if no_check else heard), note, replace, token_days)
    with recording(cloud, record), going_on():
        if plan:
            show_plan(run, as_json)
            return
        run.run()
        show(run.report, as_json)
        run.handed_over()


def show_plan(run: Any, as_json: bool) -> None:
    """The change set as lines, or as JSON."""
    proposed = run.plan()
    if as_json:
        listed = [
            {"action": one.action, "resource": one.logical, "type": one.type, "replaces": one.replacement}
            for one in proposed.changes
        ]
        print_json({"stack": proposed.stack, "changes": listed})
        return
    for one in proposed.changes:
        click.echo(one.line)
    click.echo(
        f"{len(proposed.changes)} changes to {proposed.stack}" if proposed.changes else "nothing to change"
    )


def show(report: dict[str, Any], as_json: bool) -> None:
    """The last words: where it is, and what the first operator needs."""
    if as_json:
        print_json(report)
        return
    outputs = report["outputs"]
    if not report["changed"]:
        click.echo(f"{report['stack']} is as it should be: {outputs['EdgeUrl']}; nothing was changed")
        return
    click.echo(f"{report['stack']} serves at {outputs['EdgeUrl']}")
    if "token" in report:
        click.echo(f"the operator's token, shown this once: {report['token']}")
        click.echo(f"an invite for a speaker, good for two hours: {report['invite']}")
        lines = [
            f"export AWS_REGION={report['region']} WHISPERCTL_STAGE={report['stage']}",
            f"export WHISPERCTL_URL={outputs['EdgeUrl']}",
            "read -rs WHISPERCTL_TOKEN && export WHISPERCTL_TOKEN   # then paste the token",
        ]
        if "ca_cert" in report:
            lines.append(f"export WHISPERCTL_CA={report['ca_cert']}")
        click.echo("\n".join(["", "for the other commands:", *lines]))
    if not report["told"]:
        note("nobody is told of failures yet: `whisperctl init --email ADDRESS` and `whisperctl up`, or, for Slack,")
        note(f"Teams or ntfy, `whisperctl notify webhook --stage {report['stage']}`")


def heard(stack: Any) -> dict[str, Any]:
    """The built-in speech through the edge; CtlError where its words did not come back."""
    from whisperctl.checks import first_words

    result = first_words(stack)
    if result.problem:
        raise CtlError(f"the hosts are installed, and the first word was not heard: {result.problem}")
    return result.as_dict()


@contextlib.contextmanager
def going_on() -> Iterator[None]:
    """Ctrl-C leaves at once; AWS goes on with what it was told, and the next run goes on from there."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            "interrupted; what AWS was told to do goes on there. Run the same command again to go on, "
            "or `whisperctl destroy` to take everything back"
        ) from None


@contextlib.contextmanager
def recording(cloud: Any, path: Path | None) -> Iterator[None]:
    """With a path: keep what AWS answers until the block ends, and write it, whatever ended the block."""
    if path is None:
        yield
        return
    from whisperctl.deployment.record import Recorder

    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):  # not after twenty minutes
        raise UsageError(f"--record: {path} cannot be written")
    recorder = Recorder()
    cloud.on_session = recorder.hook
    try:
        yield
    finally:
        recorder.write(path, cloud.region)
        note(f"{len(recorder.calls)} calls are recorded in {path}")
