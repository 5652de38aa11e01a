"""The metrics port: what the adapter writes is CloudWatch's Embedded Metric Format, and threads do not mix it."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from chalicelib.aws.metrics import NAMESPACE, EmfMetrics
from chalicelib.ports import Measure, Metrics, NoMetrics, Unit
from tests.fakes import FakeMetrics


@pytest.mark.parametrize("made", [EmfMetrics("s"), FakeMetrics(), NoMetrics()], ids=lambda one: type(one).__name__)
def test_any_number_of_measures_is_taken(made: Metrics, capsys: pytest.CaptureFixture[str]) -> None:
    made.emit()
    made.emit(Measure("Streams", 2), Measure("WakeSeconds", 1.5, Unit.SECONDS, ("Phase", "boot")))
    assert len(capsys.readouterr().out.splitlines()) == (2 if isinstance(made, EmfMetrics) else 0)


def described(line: dict[str, Any]) -> tuple[str, list[list[str]], dict[str, str]]:
    (about,) = line["_aws"]["CloudWatchMetrics"]
    return about["Namespace"], about["Dimensions"], {one["Name"]: one["Unit"] for one in about["Metrics"]}


def test_a_line_names_its_metrics_and_holds_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    EmfMetrics("stack").emit(
        Measure("WakeSeconds", 41.25, Unit.SECONDS, ("Phase", "boot")), Measure("Streams", 3), Measure("GpusAwake", 1)
    )
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    namespace, (dimensions,), units = described(first)
    assert (namespace, sorted(dimensions), units) == (NAMESPACE, ["Phase", "service"], {"WakeSeconds": "Seconds"})
    assert (first["Phase"], first["service"], first["WakeSeconds"]) == ("boot", "stack", [41.25])
    assert described(second) == (NAMESPACE, [["service"]], {"Streams": "Count", "GpusAwake": "Count"})
    assert (second["Streams"], second["GpusAwake"]) == ([3], [1])


def test_threads_do_not_mix_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def work(number: int) -> None:
        for _ in range(50):
            EmfMetrics("s").emit(Measure("Words", number, dimension=("Layer", str(number))))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    text = capsys.readouterr().out
    found, decoder = [], json.JSONDecoder()
    while text.strip():
        line, end = decoder.raw_decode(text.lstrip())
        found.append(line)
        text = text.lstrip()[end:]
    assert len(found) == 200
    assert all(line["Words"] == [float(line["Layer"])] for line in found)
