"""The client's transcript, by the vectors it shares with the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from whisperctl.session.transcript import Segment, Transcript

VECTORS = json.loads((Path(__file__).parent / "vectors/transcript.json").read_text())


@pytest.mark.parametrize("case", VECTORS, ids=[case["name"] for case in VECTORS])
def test_merging(case: dict[str, Any]) -> None:
    transcript = Transcript()
    partials: list[str] = []
    stable: list[int] = []
    new: list[Segment] = []
    for message in case["messages"]:
        if "begin" in message:
            transcript.begin(*message["begin"])
        new += transcript.update(message["segments"])
        partials.append(transcript.partial.text if transcript.partial else "")
        stable.append(transcript.stable)
    assert [segment.text for segment in transcript.finals] == case["finals"]
    assert new == transcript.finals, "each final is reported once"
    assert partials == case["partials"]
    assert stable == case.get("stable", stable)
    words = [[word["word"], word["start"], word["end"]] for final in new for word in final.words]
    assert words == case.get("words", words)
    ends = [segment.start for segment in transcript.finals]
    assert ends == sorted(ends)


def test_finish_drops_what_never_became_words() -> None:
    transcript = Transcript()
    transcript.update([{"start": 0, "end": 1, "text": "hm", "completed": False}])
    transcript.finish()
    assert transcript.partial is None
