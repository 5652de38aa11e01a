"""The client's transcript, by the vectors it shares with the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from whisperctl.transcript import Transcript

VECTORS = json.loads((Path(__file__).parents[1] / "browser/vectors/transcript.json").read_text())


@pytest.mark.parametrize("case", VECTORS, ids=[case["name"] for case in VECTORS])
def test_merging(case: dict[str, Any]) -> None:
    transcript = Transcript()
    partials, new = [], []
    for message in case["messages"]:
        new += transcript.update(message["segments"], message.get("offset", 0.0))
        partials.append(transcript.partial.text if transcript.partial else "")
    assert [segment.text for segment in transcript.finals] == case["finals"]
    assert new == transcript.finals, "each final is reported once"
    assert partials == case["partials"]
