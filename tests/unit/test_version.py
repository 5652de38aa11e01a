"""The version stands twice, since pyproject.toml does not ship to Lambda."""

from __future__ import annotations

import tomllib
from pathlib import Path

from chalicelib.services.version import version


def test_both_say_the_same() -> None:
    about = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    assert version() == about["project"]["version"]
