"""The manuals against the code: what they name exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import app

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
