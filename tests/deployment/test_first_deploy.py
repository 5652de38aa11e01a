"""Every command in the manual of the first deployment exists, with its options."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import botocore.session
import click
import pytest
from botocore import xform_name

from whisperctl.cli import cli
from whisperctl.deployment.settings import template_parameters

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "first-deploy.md").read_text()
PROGRAMS = ("whisperctl", "python", "make", "aws", "git", "export", "nvidia-smi")


def commands() -> list[str]:
    """What stands in code, inline or indented, and begins with a program."""
    inline = re.findall(r"`([^`\n]+)`", PAGE)
    indented = [line.strip() for line in PAGE.splitlines() if line.startswith("    ")]
    found = [one.rstrip(",.") for one in [*inline, *indented]]
    return sorted({one for one in found if one.split()[0] in PROGRAMS and (" " in one or one == "nvidia-smi")})


def test_there_are_commands_to_look_at() -> None:
    assert len(commands()) > 25


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_manual_exists_with_its_options(command: str) -> None:
    words = shlex.split(command.replace("…", "x"))
    program, arguments = words[0], words[1:]
    if program == "whisperctl":
        check_ours(arguments)
    elif program == "python":
        assert arguments[0] == "-m"
        spec = importlib.util.find_spec(arguments[1])
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text()
        for option in (one for one in arguments[2:] if one.startswith("--")):
            assert f'"{option}"' in source
    elif program == "make":
        assert re.search(rf"^{re.escape(arguments[0])}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "aws":
        check_aws(arguments)
    elif program == "git":
        assert arguments[0] == "checkout"


def check_ours(arguments: list[str]) -> None:
    """Click itself parses the arguments, without running the command."""
    command: click.Command | None = cli
    context = click.Context(cli, info_name="whisperctl")
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.get_command(context, name)
        assert command is not None, name
        context = click.Context(command, info_name=name, parent=context)
    assert command is not None
    command.make_context(str(command.name), list(arguments), resilient_parsing=False)
    for option in (one for one in arguments if one.startswith("--set")):
        pair = arguments[arguments.index(option) + 1]
        assert pair.partition("=")[0] in template_parameters(), pair


def check_aws(arguments: list[str]) -> None:
    """The AWS CLI's names are the service models'."""
    model = botocore.session.get_session().get_service_model(arguments[0])
    operations = {xform_name(one, "-"): one for one in model.operation_names}
    assert arguments[1] in operations
    shape = model.operation_model(operations[arguments[1]]).input_shape
    members = {xform_name(one, "-") for one in shape.members} if shape is not None else set()
    for option in (one for one in arguments[2:] if one.startswith("--")):
        assert option.removeprefix("--") in members, option
