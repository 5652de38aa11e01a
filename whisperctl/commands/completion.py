"""`whisperctl completion`: what makes a shell complete verbs, options and their values."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from whisperctl.errors import CtlError, UsageError, codes
from whisperctl.output import errors_as_json, print_json

SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="Example: whisperctl completion bash > ~/.local/share/bash-completion/completions/whisperctl\n\n"
    + codes(0, 1, 2)
)
@click.argument("shell", required=False, type=click.Choice(SHELLS))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@errors_as_json
def completion(shell: str | None, as_json: bool) -> None:
    """Print a script that completes whisperctl in SHELL; left out: the one that SHELL in the environment names."""
    name = shell or Path(os.environ.get("SHELL") or "").name
    if name not in SHELLS:
        raise UsageError(f"name the shell: {', '.join(SHELLS)}")
    from whisperctl.cli import cli

    made = get_completion_class(name)
    assert made is not None
    try:
        script = made(cli, {}, "whisperctl", "_WHISPERCTL_COMPLETE").source()
    except RuntimeError as error:  # its own look at the version of bash
        raise CtlError(str(error)) from None
    if as_json:
        print_json({"shell": name, "script": script})
    else:
        click.echo(script)
