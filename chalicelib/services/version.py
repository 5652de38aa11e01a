"""The control plane's own version."""

from __future__ import annotations

VERSION = "0.1.0"


def version() -> str:
    """As in pyproject.toml, which does not ship to Lambda; a test compares the two."""
    return VERSION
