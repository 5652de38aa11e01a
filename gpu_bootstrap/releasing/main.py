"""The command: one step a run."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping

from . import __doc__ as about
from .errors import EX_LATE, EX_USAGE, EXIT_CODES, ReleaseError
from .fetch import fetch, read_plan
from .host import HOMES, Host
from .manifest import SHA, manifest_of
from .steps import activate, configure, prune, rollback, stage, status, verify

NAME_LENGTH = 16
"""A release is called by this many digits of its manifest's sha256."""


def run(arguments: list[str], environment: Mapping[str, str], say: Callable[[str], None]) -> int:
    """One step; the exit code."""
    parser = argparse.ArgumentParser(prog="release.py", description=about, epilog=EXIT_CODES)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = ("configure", "fetch", "stage", "activate", "verify", "rollback", "prune", "status")
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("--target", choices=sorted(HOMES), required=True)
    parser.add_argument("--release", metavar="SHA256", default="", help="sha256 of the manifest")
    parser.add_argument("--plan", metavar="URL", default="none", help="with configure and fetch")
    parser.add_argument("--until", metavar="EPOCH", type=float, default=0.0, help="do nothing after this moment")
    try:
        given = parser.parse_args(arguments)
    except SystemExit as ended:
        return EX_USAGE if ended.code else 0
    host = Host(given.target, environment.get("PREFIX", ""), say)
    try:
        if given.verb != "status" and not SHA.fullmatch(given.release):
            raise ReleaseError(EX_USAGE, "--release takes the 64 digits of the manifest's sha256")
        if given.until and time.time() > given.until:
            raise ReleaseError(EX_LATE, "this command comes too late: nothing was done")
        with host.locked():
            _step(host, given)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)  # noqa: T201
        return error.code
    return 0


def _step(host: Host, given: argparse.Namespace) -> None:
    release = given.release[:NAME_LENGTH]
    match given.verb:
        case "configure":
            configure(host, read_plan(_url(given)).get("settings"))
        case "fetch":
            plan = read_plan(_url(given))
            manifest, urls = manifest_of(plan.get("manifest"), host.target, given.release), plan.get("urls")
            fetch(host, manifest, urls if isinstance(urls, dict) else {}, release)
        case "status":
            status(host)
        case verb:
            {"stage": stage, "activate": activate, "verify": verify, "rollback": rollback, "prune": prune}[verb](
                host, release
            )


def _url(given: argparse.Namespace) -> str:
    if given.plan == "none":
        raise ReleaseError(EX_USAGE, f"{given.verb} takes --plan URL")
    return str(given.plan)


def main() -> int:
    return run(sys.argv[1:], os.environ, lambda words: print(words, flush=True))  # noqa: T201
