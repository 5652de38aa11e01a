"""The SSM documents as they lie in `.chalice/documents`: one source for the stand-in, the template and the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).resolve().parents[1] / ".chalice" / "documents"


def documents(stack_name: str, directory: Path = DIRECTORY) -> dict[str, dict[str, Any]]:
    """Name in the account → content (SSM schema 2.2); a document NAME.json is called STACK-NAME."""
    return {f"{stack_name}-{path.stem}": json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}
