"""The manuals against the code: what they name exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import app
from chalicelib.domain.notification import TITLES
from chalicelib.services import measures

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
