"""`whisperctl init`: ask what a stack shall be like, say what each answer means, and keep the answers in one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from whisperctl.deployment.settings import (
    DEFAULT_STAGE,
    FILE,
    OWN_DEFAULTS,
    PROFILES,
    QUESTIONS,
    Settings,
    checked,
    default,
    from_stack,
    questions,
    template_parameters,
)
from whisperctl.errors import UsageError
from whisperctl.output import dry_run_option, errors_as_json, note, planned, print_json
from whisperctl.stack import stack_name_of

CODES = "Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 5 AWS not reachable."


def question_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each question."""
    for one in reversed(QUESTIONS):
        command = click.option(f"--{one.option}", one.key.lower(), metavar="VALUE", help=f"{one.ask}. {one.why}")(
            command
        )
    return command


@click.command(
    epilog=f"Example: whisperctl init --region eu-central-1 --domain speech.example.org --yes\n\n{CODES}"
)
@click.option("--stage", metavar="NAME", help=f"Names the stack whisperlive-NAME; left out: {DEFAULT_STAGE}.")
@click.option("--region", metavar="NAME", help="AWS region, such as eu-central-1; else AWS_REGION.")
@question_options
@click.option("--profile", type=click.Choice(PROFILES), help="What the GPU machine has; left out: cuda.")
@click.option("--python", metavar="VERSION", help="Python of the GPU machine: 3.12 if left out, Ubuntu 24.04's.")
@click.option(
    "--set",
    "more",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other parameter of the stack, such as AdoptedGpu=i-…; --list shows them.",
)
@click.option(
    "--from-stack", metavar="STAGE", help="Take the settings of a stack that is there, for a colleague."
)
@click.option("--list", "listing", is_flag=True, help="List every setting, its meaning and its default.")
@click.option("--yes", is_flag=True, help="Ask nothing: what is not given has its default.")
@click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=FILE,
    show_default=True,
    help="Where the answers are kept.",
)
@dry_run_option
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON.")
@errors_as_json
def init(
    stage: str | None,
    region: str | None,
    profile: str | None,
    python: str | None,
    more: tuple[str, ...],
    from_stack: str | None,
    listing: bool,
    yes: bool,
    file: Path,
    dry_run: bool,
    as_json: bool,
    **answers: str | None,
) -> None:
    """Say what the stack shall be like. Nothing happens in AWS; `whisperctl up` brings it about.

    Asks at a terminal; with --yes, and where nobody can be asked, options and defaults decide. Run it again to change
    a setting: what is not given stays. The file holds no secret.
    """
    if listing:
        show_settings(as_json)
        return
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    given = {one.key: answers[one.key.lower()] for one in QUESTIONS if answers[one.key.lower()] is not None}
    given |= dict(_pair(one) for one in more)
    if profile is not None:
        given["profile"] = profile
    if python is not None:
        given["python"] = python
    if from_stack is not None:
        settings = taken(from_stack, region, file)
    else:
        settings = started(stage, region, file)
        asking = not yes and sys.stdin.isatty()
        if not settings.region and not asking:
            raise UsageError("--region is missing: an AWS region such as eu-central-1")
        if asking:
            interview(settings, given)
    settings.values |= {key: str(value) for key, value in given.items()}
    settings.check()
    if dry_run:
        would = f"write the settings of {settings.stack} in {settings.region} to {file}"
        planned(would, as_json, settings=settings.values)
        return
    settings.write(file)
    if as_json:
        print_json(
            {"file": str(file), "stage": settings.stage, "region": settings.region, "settings": settings.values}
        )
    else:
        click.echo(
            f"{file} holds the settings of {settings.stack} in {settings.region}; next: whisperctl up --plan"
        )


def started(stage: str | None, region: str | None, file: Path) -> Settings:
    """The file's settings where there is one for this stage, else none yet."""
    if file.exists():
        held = Settings.read(file)
        if stage in (None, held.stage):
            if region not in (None, held.region):
                if held.agreed is not None:
                    raise UsageError(
                        f"{held.stack} is in {held.region}; a stack does not move: use another --file"
                    )
                held.region = str(region)
            return held
        raise UsageError(f"{file} is of the stage {held.stage}: use another --file for {stage}")
    return Settings(stage or DEFAULT_STAGE, region or "")


def taken(stage: str, region: str | None, file: Path) -> Settings:
    """The settings of a stack that is there."""
    from whisperctl.deployment import changes
    from whisperctl.deployment.cloud import Cloud
    from whisperctl.deployment.up import manifest_of, read_text

    stage = stage.removeprefix(stack_name_of(""))
    if region is None and file.exists():
        region = Settings.read(file).region
    if region is None:
        raise UsageError("--region is missing: where is the stack?")
    cloud = Cloud(region)
    seen = changes.look(cloud, stack_name_of(stage))
    if seen is None or seen.status not in changes.READY:
        state = "none" if seen is None else f"one that is {seen.status}"
        raise UsageError(f"there is no stack {stack_name_of(stage)} to take settings from in {region}, but {state}")
    bucket = seen.outputs["BucketName"]
    edge = read_text(cloud, Bucket=bucket, Key="settings/edge.env")
    return from_stack(stage, region, seen.parameters, edge, manifest_of(cloud, bucket, "gpu"))


def interview(settings: Settings, given: dict[str, Any]) -> None:
    """Ask for everything that was not given; an answer that cannot be is asked for again."""
    note("An empty answer takes what stands in brackets; a single - makes it empty.")
    if not settings.region:
        settings.region = click.prompt("AWS region", default="us-east-1", err=True)
    for one in questions():
        if one.key in given:
            continue
        note(f"\n{one.ask}. {one.why}")
        now = settings.values.get(one.key, default(one.key))
        if one.key == "certificate":
            now = settings.certificate
        while True:
            said = click.prompt(f"  {one.key}", default=now, show_default=bool(now), err=True)
            try:
                value = checked(one.key, "" if said == "-" else said)
                break
            except ValueError as error:
                note(f"  {error}")
        if value != default(one.key) or one.key in settings.values:
            settings.values[one.key] = value


def show_settings(as_json: bool) -> None:
    """Every parameter of the template and our own, for --list."""
    found = [
        {
            "name": one.key,
            "option": f"--{one.option}",
            "default": default(one.key),
            "meaning": f"{one.ask}. {one.why}",
        }
        for one in questions()
    ]
    known = {one.key for one in questions()}
    found += [
        {"name": key, "option": f"--set {key}=", "default": default(key), "meaning": str(about["Description"])}
        for key, about in template_parameters().items()
        if key not in known
    ]
    if as_json:
        print_json(found)
        return
    for entry in found:
        click.echo(f"{entry['option']:<24} [{entry['default']}]  {entry['meaning']}")


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or (key not in template_parameters() and key not in OWN_DEFAULTS):
        raise UsageError(f"--set {text!r} is not NAME=VALUE of a setting; --list shows them")
    return key, value
