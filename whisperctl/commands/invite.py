"""`whisperctl invite`: a link that makes a speaker of whoever opens it, and its QR code."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from whisperctl.api import Api
from whisperctl.errors import UsageError, codes
from whisperctl.output import dry_run_option, errors_as_json, note, planned, print_json, stack_options
from whisperctl.stack import find_stack


@click.command(epilog=f"Example: whisperctl invite --minutes 120 --qr talk.svg\n\n{codes(0, 2, 3, 5)}")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Life of the link; left out: two hours.")
@click.option("--booking", metavar="ID", help="Or until this booking ends; `bookings` shows ids.")
@click.option(
    "--qr", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.svg|FILE.png", help="Write the code there."
)
@dry_run_option
@stack_options
@errors_as_json
def invite(
    minutes: float | None,
    booking: str | None,
    qr: Path | None,
    dry_run: bool,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Print a link with a speaker's token that expires. On a terminal its QR code is drawn below, to be scanned.

    Whoever has the link can speak until then: hand it on as you would a key. `whisperctl token revoke ID` ends it.
    """
    if minutes is not None and booking is not None:
        raise UsageError("give either --minutes or --booking")
    if qr is not None and qr.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"--qr {qr}: the name must end in .svg or .png")
    asked = {name: value for name, value in (("minutes", minutes), ("booking", booking)) if value is not None}
    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    if dry_run:
        until = f"until booking {booking} ends" if booking else f"for {minutes or 120:g} minutes"
        planned(f"make a speaker's link for {stack.edge_url} {until}", as_json, **asked)
        return
    with Api(stack, "operator") as api:
        made = api.call("POST", "/v1/invites", asked)
    if qr is not None:
        draw(str(made["url"]), qr)
    if as_json:
        print_json(made)
        return
    click.echo(made["url"])
    if sys.stdout.isatty():
        import segno

        segno.make(made["url"], error="l").terminal(sys.stdout, border=2, compact=True)
    note(f"good until {made['expires_at']}; `whisperctl token revoke {made['id']}` ends it before")


def draw(link: str, path: Path) -> None:
    """The code as a picture for its owner only: it holds the token. UsageError when it cannot be written."""
    import segno

    try:
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        segno.make(link, error="m").save(str(path), scale=8, border=4)
    except OSError as error:
        raise UsageError(f"--qr {path}: {error.strerror}") from None
