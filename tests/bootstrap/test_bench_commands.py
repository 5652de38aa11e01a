"""The benches as one runs them, on a few seconds of the reading: each prints its figures and leaves them as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import corpus
from tests.bootstrap.launcher import ROOT


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first paragraph only; needs espeak-ng, as .ci/run says."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus.make(folder, corpus.Reading(corpus.PARAGRAPHS[:1]))
    return folder


def bench(command: str, reading: Path, *options: str) -> tuple[str, Any]:
    target = reading / f"{command}.json"
    line = [sys.executable, "-m", f"bench.{command}", "--corpus", str(reading), "--json", str(target), *options]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(target.read_text())


def test_tail(reading: Path) -> None:
    text, stops = bench("tail", reading, "--stops", "2")
    assert text.startswith("2 stops: END after p50")
    assert all(0 < stop["end_s"] < 60 and stop["text"] for stop in stops)


def test_backlog(reading: Path) -> None:
    text, (caught,) = bench("backlog", reading, "--seconds", "16", "--times", "1")
    assert "ratio" in text
    assert 0 < caught["took_s"] < 60
    assert caught["wer"] < 0.5


def test_streaming(reading: Path) -> None:
    text, result = bench("streaming", reading, "--seconds", "10", "--parts", "1", "--runs", "1", "--servers", "ours")
    assert "| first | ours | 1 |" in text
    (row,) = result["rows"]
    assert row["wer_completed"] == row["wer_all"] < 0.5
    assert 0 < row["final_p95_s"] < 30


def test_batches(reading: Path) -> None:
    text, rows = bench("batches", reading, "--seconds", "6", "--streams", "2", "--servers", "ours,stock-batch")
    assert text.startswith("2 streams at once")
    ours, batch = rows
    assert (ours["server"], batch["server"]) == ("ours", "stock-batch")
    # How much stock hears in six seconds says more of the machine than of the bench.
    assert ours["wer_all"] < 0.5
    assert batch["cpu_per_audio_s"] > 0


def test_streams(reading: Path) -> None:
    # The parts of the three begin at 0, 100 and 200 s; a short reading is spoken from its beginning by each.
    text, (pair,) = bench("streams", reading, "--seconds", "10", "--backlog", "12", "--times", "1", "--once")
    assert "alone" in text
    assert pair["caught_up"] == 1
    assert 0 < pair["beside_p95_s"] < 60
