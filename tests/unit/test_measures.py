"""What is measured, by the table in the module's docstring."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from chalicelib.domain.ledger import Span, Wake
from chalicelib.ports import Measure
from chalicelib.services import measures, sessions
from tests.fakes import FakeMetrics
from tests.unit.test_reconcile import GPU, SPEAKER, TICK, World

ROOT = Path(__file__).resolve().parents[2]


def named(*found: Measure) -> dict[str, float]:
    return {f"{one.name}{':' + one.dimension[1] if one.dimension else ''}": one.value for one in found}


def test_the_phases_of_a_waking() -> None:
    found = named(*measures.of_wakes([Wake(0.0, 41.0, 9.5, 120.0)]))
    assert found == {"WakeSeconds:capacity": 120.0, "WakeSeconds:boot": 41.0, "WakeSeconds:service": 9.5}


def test_a_time_awake_has_hours_and_a_cost_where_the_price_is_known() -> None:
    known = Span("i", "g4dn.xlarge", 0.0, 7200.0)
    assert named(*measures.of_spans([known])) == {"GpuHours": 2.0, "CostDollars": 1.052}
    assert named(*measures.of_spans([replace(known, type="x9")])) == {"GpuHours": 2.0}
    assert named(*measures.of_spans([replace(known, stopped_at=None)])) == {}


def test_what_a_client_says_counts_once() -> None:
    world, metrics = World(), FakeMetrics()
    session = world.open()["id"]
    context = replace(world.context, metrics=metrics)
    for said in (
        {"lost_seconds": 0.0, "latency": {"first_word": 1.4}},
        {"lost_seconds": 2.0, "audio_seconds": 60.0, "words": 150, "latency": {"first_word": 1.4, "final_p95": 1.3}},
        {"lost_seconds": 2.0, "audio_seconds": 90.0, "words": 230, "latency": {"first_word": 1.4, "final_p95": 1.3}},
    ):
        sessions.heartbeat(context, SPEAKER, session, said)
    assert metrics.of("FirstWordSeconds") == [1.4]
    assert metrics.of("FinalSeconds") == [1.3]
    assert metrics.of("LostSeconds") == [2.0]
    assert metrics.of("AudioSeconds") == [60.0, 30.0]
    assert metrics.of("Words") == [150, 80]


def test_a_tick_measures_while_something_is_awake_and_nothing_asleep() -> None:
    world, metrics = World(), FakeMetrics()
    context = replace(world.context, metrics=metrics)
    context.wishes_changed(TICK)
    assert metrics.emitted == [], "asleep, metrics cost nothing"
    world.open()
    world.ready()
    world.clock.advance(60)
    context.wishes_changed(TICK)
    assert metrics.of("GpusAwake") == [1]
    assert metrics.of("Streams") == [0]
    assert metrics.of("AwakeSeconds")[0] >= 60


def test_a_waking_is_measured_by_the_pass_that_sees_it_ready() -> None:
    world, metrics = World(), FakeMetrics()
    world.open()
    world.clock.advance(40)
    world.ready()
    world.clock.advance(5)
    replace(world.context, metrics=metrics).wishes_changed(TICK)
    # `ready` above made its passes unmeasured; a second waking is measured whole.
    assert metrics.of("WakeSeconds") == []
    assert world.machines.starts == [GPU]


def test_a_probe_that_fails_names_its_layer() -> None:
    assert named(*measures.of_probe(None)) == {"Probes": 1}
    assert named(*measures.of_probe("edge")) == {"Probes": 1, "FailedProbes:edge": 1, "FailedProbes": 1}


def test_the_table_and_the_code_name_the_same_metrics() -> None:
    table = set(re.findall(r"^\| `(\w+)`", measures.__doc__ or "", re.MULTILINE))
    sources = [
        ROOT / "chalicelib" / "services" / name for name in ("measures.py", "reconcile.py", "notifications.py")
    ]
    emitted = {name for path in sources for name in re.findall(r'(?:Measure\(|\()"([A-Z]\w+)"', path.read_text())}
    assert table == emitted - {"Phase", "Layer", "Channel"}
