"""The cost page: it is what the table, the counted calls and the template say, and asleep it holds its bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from whisperctl.costs import document, model, prices
from whisperctl.costs.count import _metrics, _units, count, counted
from whisperctl.costs.model import Usage, break_even, monthly, total

ROOT = Path(__file__).resolve().parents[2]
ALARMS = model.alarms_of_template()


def test_the_page_is_what_the_command_writes() -> None:
    assert (ROOT / "docs" / "costs.md").read_text() == document.render(), (
        "run python -m whisperctl.costs.document --write docs/costs.md"
    )


@pytest.mark.parametrize("region", document.REGIONS)
def test_the_whole_stack_asleep_costs_at_most_25_dollars_a_month(region: str) -> None:
    parts = monthly(region, Usage(0), counted(), ALARMS)
    assert total(parts) <= model.MOST_ASLEEP
    assert parts[f"GPU awake, {model.GPU_TYPE}"] == 0
    assert {name.split(",")[0].split(" ")[0] for name in parts} >= {"edge", "edge's", "GPU", "Lambda", "DynamoDB"}


def test_a_dearer_edge_would_break_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    dear = {**prices.prices("us-east-1"), "instance_hour": {"t4g.micro": 0.0168, "g4dn.xlarge": 0.526}}
    monkeypatch.setattr(model, "prices", lambda _region: {**dear, "public_ipv4_hour": 0.01})
    assert total(monthly("us-east-1", Usage(0), counted(), ALARMS)) > model.MOST_ASLEEP


def test_the_template_is_what_the_model_prices() -> None:
    from whisperctl.deployment.settings import template_parameters

    known = template_parameters()
    assert known["EdgeType"]["Default"] == model.EDGE_TYPE
    assert known["EdgeDiskGiB"]["Default"] == model.EDGE_DISK_GIB
    assert known["GpuType"]["Default"] == model.GPU_TYPE
    assert known["GpuDiskGiB"]["Default"] == model.GPU_DISK_GIB


def test_awake_hours_are_the_speech_the_wakes_and_the_lingers() -> None:
    assert Usage(0).awake_h == 0
    assert Usage(2, 2).awake_h == pytest.approx(2 + 2 * 11.5 / 60)
    assert Usage(23.9, 9).awake_h == 24


def test_from_the_break_even_on_the_stack_is_cheaper_and_before_it_is_not() -> None:
    hours = break_even("us-east-1", 1.44, counted(), ALARMS)
    assert hours is not None
    for factor, cheaper in ((0.9, False), (1.1, True)):
        daily = hours * factor / model.DAYS
        ours = total(monthly("us-east-1", Usage(daily), counted(), ALARMS))
        assert (ours < hours * factor * 1.44) is cheaper
    assert break_even("us-east-1", 0.36, counted(), ALARMS) is None
    assert break_even("us-east-1", 0.36, counted(), ALARMS, speakers=4) is not None


def test_units_are_dynamodbs() -> None:
    def call(operation: str, **parameters: Any) -> dict[str, Any]:
        return {"service": "dynamodb", "operation": operation, "parameters": parameters}

    query = call("Query", ExpressionAttributeValues={":pk": {"S": "control"}})
    assert _units([query, call("GetItem")], 9000) == (4, 0)
    assert _units([call("UpdateItem", Key="k", Value="x" * 1500)], 0) == (0, 2)
    assert _units([call("TransactWriteItems", TransactItems=[{"Put": 1}, {"Put": 2}])], 0) == (0, 4)


def test_metrics_are_told_apart_by_name_and_dimensions() -> None:
    line = (
        '{"_aws":{"CloudWatchMetrics":[{"Dimensions":[["Layer","service"]],"Metrics":[{"Name":"FailedProbes"}]}]},'
        '"Layer":"edge","service":"x"}'
    )
    assert _metrics(f"{line}\nplain\n{line}\n{line.replace('edge', 'page')}") == [
        "FailedProbes edge",
        "FailedProbes page",
    ]


def test_what_was_counted_is_counted_again(tmp_path: Path) -> None:
    now, before = count(tmp_path)["things"], counted()["things"]
    assert now.keys() == before.keys()
    for what, one in now.items():
        assert one["reads"] == pytest.approx(before[what]["reads"], abs=3), what
        assert one["writes"] == pytest.approx(before[what]["writes"], abs=3), what
        assert one["calls"].keys() == before[what]["calls"].keys(), what
