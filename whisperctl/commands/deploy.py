"""`whisperctl deploy`: build a release, upload what the bucket lacks, roll it out, and watch it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from whisperctl.api import Api, ApiProblem
from whisperctl.aws import find_account
from whisperctl.errors import CtlError, UsageError, codes
from whisperctl.output import errors_as_json, note, print_json, stack_options
from whisperctl.releases import sources
from whisperctl.releases.manifest import Built, Source, build
from whisperctl.releases.upload import upload, upload_settings
from whisperctl.stack import find_stack

POLL_S = 1.0
TARGETS = ("gpu", "edge")
PYTHONS = {"cuda": ("3.12",), "cpu": ("3.11",)}
"""What the images of these hosts bring: Ubuntu 24.04 has Python 3.12, Debian 12 3.11."""
_SETTING = re.compile(r"[A-Z][A-Z0-9_]{0,63}=[^\x00-\x1f\x7f\"'\\$`]{0,1000}")
CODES = codes(0, 1, 2, 3, 5, one="failed or rolled back", three="refused (streams are live, another rollout runs)")


@click.command(epilog=f"Example: whisperctl deploy gpu --profile cpu --watch\n\n{CODES}")
@click.argument("target", type=click.Choice(TARGETS))
@click.option("--release", metavar="NAME", help="Roll out this one, uploaded before; nothing is built.")
@click.option("--force", is_flag=True, help="Roll out also while streams are live, and where it is current already.")
@click.option("--watch", is_flag=True, help="Stay until the rollout is over, and show its steps.")
@click.option("--dry-run", is_flag=True, help="Build and say what would be uploaded; change nothing.")
@click.option("--profile", type=click.Choice(("cuda", "cpu")), default="cuda", show_default=True, help="GPU hosts.")
@click.option("--model", default="tiny.en", show_default=True, metavar="NAME[=FOLDER]", help="The model they serve.")
@click.option(
    "--arch", type=click.Choice(("x86_64", "aarch64")), help="The hosts' machine type; left out: this one's."
)
@click.option("--python", "pythons", multiple=True, help="The hosts' Python; left out: 3.12 for cuda, 3.11 for cpu.")
@click.option("--index-url", help="Package index; left out: pip's own.")
@click.option("--settings", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="KEY=VALUE lines.")
@click.option("--stack", "stack_name", help="The stack as CloudFormation calls it; else the stage's.")
@click.option("--bucket", help="Its bucket; else WHISPERCTL_BUCKET, else as the stack says.")
@stack_options
@errors_as_json
def deploy(
    target: str,
    release: str | None,
    force: bool,
    watch: bool,
    dry_run: bool,
    profile: str,
    model: str,
    arch: str | None,
    pythons: tuple[str, ...],
    index_url: str | None,
    settings: Path | None,
    stack_name: str | None,
    bucket: str | None,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Build a release of this checkout, upload it, and roll it out to the hosts.

    The same input has the same name on any machine, and a release that serves already changes nothing. To go back,
    give an older release's name.
    """
    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    account = find_account(stack, os.environ, name=stack_name, bucket=bucket)
    report: dict[str, Any] = {"target": target, "release": release}
    if settings is not None:
        check_settings(settings)
    if release is None:
        begun = time.monotonic()
        gathered = gather(target, profile, model, arch or sources.this_machine(), pythons, index_url)
        facts = {"profile": profile, "model": model.partition("=")[0]} if target == "gpu" else {}
        built = build(target, gathered, **facts)
        note(f"[{time.monotonic() - begun:5.1f} s] release {built.name}: {_size(built)}")
        sent = upload(account.client("s3"), account.releases(), built, dry_run=dry_run, say=note)
        report |= {"release": built.name, "sha256": built.sha256, "size": built.size}
        report |= {"uploaded_files": sent.files, "uploaded_bytes": sent.bytes}
        verb = "would be uploaded" if dry_run else "uploaded"
        note(f"{sent.files} files, {sent.bytes / 1e6:.1f} MB {verb}")
    if dry_run:
        _answer(report, as_json)
        return
    if settings is not None:
        upload_settings(account.client("s3"), account.releases(), target, settings)
    with Api(stack, "operator") as api:
        try:
            rollout = api.roll_out(target, report["release"], force=force)
        except ApiProblem as problem:
            for one in problem.problem.get("streams") or []:
                note(f"live: {one.get('sid')} on {one.get('instance_id')}")
            raise
        if watch:
            rollout = follow(api, rollout)
    _answer(report | {"rollout": rollout}, as_json)
    if rollout["state"] in ("failed", "rolled_back"):
        error = CtlError(str(rollout["verdict"]))
        error.reported = as_json
        raise error


def gather(
    target: str, profile: str, model: str, arch: str, pythons: tuple[str, ...], index_url: str | None
) -> Iterator[Source]:
    """Every file of the release."""
    yield from sources.bootstrap(target)
    cache = sources.cache_directory()
    if target == "edge":
        yield from sources.caddy(arch, index_url, cache)
        return
    name, _, folder = model.partition("=")
    yield from sources.model(name, Path(folder) if folder else None)
    lock = sources.ROOT / "gpu_bootstrap" / f"lock-{profile}.txt"
    yield from sources.wheels(lock, arch, pythons or PYTHONS[profile], index_url, cache)


def check_settings(path: Path) -> None:
    """UsageError names the first line that is not KEY=VALUE as host.env can hold it."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.strip() and not line.startswith("#") and not _SETTING.fullmatch(line.strip()):
            raise UsageError(f"{path}, line {number} is not KEY=VALUE without quotes, dollar signs and backslashes")


def follow(api: Api, rollout: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Poll until the rollout is over, with a line for everything that changes."""
    said: set[str] = set()
    while True:
        for step in rollout["steps"]:
            about = f" (waits for {step['waits_for']})" if step.get("waits_for") else ""
            took = "" if step["seconds"] is None else f" after {step['seconds']:.0f} s"
            line = f"{step['host']}  {step['name']}: {step['state']}{took}{about}"
            if line not in said:
                said.add(line)
                note(line)
        if rollout["state"] != "running":
            return rollout
        sleep(POLL_S)
        rollout = api.rollout(rollout["id"])


def _size(built: Built) -> str:
    return f"{len(built.manifest['files'])} files, {built.size / 1e6:.1f} MB"


def _answer(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    rollout = report.get("rollout")
    if rollout is None:
        click.echo(f"release {report['release']}")
    elif rollout["state"] == "running":
        click.echo(f"rollout {rollout['id']} of release {report['release']} runs; --watch follows it")
    elif rollout["state"] == "succeeded":
        click.echo(str(rollout["verdict"]))
