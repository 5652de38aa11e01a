"""The manuals against the code: what they name exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import app
from chalicelib.domain.notification import TITLES
from chalicelib.services import measures
from tests.mistakes import MISTAKES
from tests.unit.test_ctl_rules import FILED, walk
from whisperctl.cli import cli
from whisperctl.errors import EXIT_CODES

ROOT = Path(__file__).resolve().parents[2]


def test_the_api_manual_names_every_call_and_no_other() -> None:
    served = {f"{method} {path}" for path, methods in app.app.routes.items() for method in methods}
    manual = (ROOT / "docs" / "http-api.md").read_text()
    named = set(re.findall(r"^\| `((?:GET|POST|PUT|DELETE) /v1/[^ `]+)`", manual, re.MULTILINE))
    assert named == served


@pytest.mark.parametrize("page", [*sorted(path.name for path in (ROOT / "docs").glob("*.md")), "../README.md"])
def test_links_within_the_project_lead_somewhere(page: str) -> None:
    path = ROOT / "docs" / page
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{page}: {target}"


def test_the_operators_manual_names_every_metric_and_every_message() -> None:
    manual = (ROOT / "docs" / "operate.md").read_text()
    table = re.findall(r"^\| `(\w+)` ", measures.__doc__ or "", re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", manual, re.MULTILINE) == table
    for action, title in TITLES.items():
        assert title in manual or action.startswith(("booking.", "test")), title

def test_the_commands_manual_shows_each_of_them_and_every_mistake() -> None:
    manual = (ROOT / "docs" / "whisperctl.md").read_text()
    shown = re.findall(r"^\$ whisperctl (.*)$", manual, re.MULTILINE)
    for path, command in walk(cli):
        # Those of FILED need an account, and have a manual of their own.
        if path and not isinstance(command, click.Group) and path not in FILED:
            assert [line for line in shown if f"{line} ".startswith(f"{path} ")], path
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in manual
    for one in MISTAKES:
        assert f"{one.name[0].upper()}{one.name[1:]}: code {one.code}." in manual
        assert one.says in " ".join(manual.split()), one.name
    assert not re.search(r"wle_[A-Za-z0-9_-]{8,}|/tmp/|/root|/work", manual)
