"""The client's carrier, by the vectors it shares with the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.session.carriers import Player

VECTORS = json.loads((Path(__file__).parent / "vectors/carrier.json").read_text())


@pytest.mark.parametrize("case", VECTORS, ids=[case["name"] for case in VECTORS])
def test_vector(case: dict[str, Any]) -> None:
    player = Player(case.get("jitter", 0.5))
    for number, (now, event, *arguments) in enumerate(case["steps"]):
        expected = dict(arguments.pop())
        where = f"step {number} at {now}: {event}"
        assert player.step(now, event, arguments) == expected.pop("then", []), where
        looks = player.looks()
        assert {name: looks[name] for name in expected} == expected, where
