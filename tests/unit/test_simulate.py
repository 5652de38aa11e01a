"""The simulation: the numbers it stands for, its traces, and the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from chalicelib.domain.linger import ENOUGH, learned
from chalicelib.domain.night import Night
from chalicelib.domain.rules import Rules
from whisperctl.cli import cli
from whisperctl.errors import UsageError
from whisperctl.simulate.compare import by_hand, calendar, compared, nightly_only, optimum, settings_table
from whisperctl.simulate.run import Plant, simulate
from whisperctl.simulate.traces import BEGIN, DAY_S, GENERATORS, Wanted, generate, read_csv

PLANT = Plant(machines=2)
NINE = BEGIN + 9 * 3600


def test_one_session_by_hand_arithmetic() -> None:
    one = simulate([Wanted(NINE, 600)], Rules(idle_s=300), PLANT)
    ((begun, over),) = one.intervals
    assert (one.waits, one.cut, begun) == ((80.0,), 0, NINE)
    # 80 s of waking, 600 s of speech, 300 s of linger, and at most one tick until somebody looks.
    assert 980 <= over - begun <= 980 + 60


def test_who_comes_while_it_lingers_waits_for_nothing_and_who_comes_while_it_stops_takes_the_standby() -> None:
    first = Wanted(NINE, 600)
    assert simulate([first, Wanted(NINE + 900, 60)], Rules(idle_s=300), PLANT).waits == (80.0, 0.0)
    stops = simulate([first], Rules(idle_s=300), PLANT).intervals[0][1]
    late = Wanted(stops + 5, 60)
    assert simulate([first, late], Rules(idle_s=300), PLANT).waits == (80.0, 80.0)
    assert simulate([first, late], Rules(idle_s=300), Plant(machines=1)).waits == (80.0, 105.0)


@pytest.mark.parametrize("kind", GENERATORS)
def test_the_promise_on_every_trace(kind: str) -> None:
    """GPU hours at most 1.2 times the optimum on office hours and 1.5 on the worst; no wait beyond a boot + 10 %."""
    trace = generate(kind, 14, seed=7)
    report = compared(trace, Rules(), PLANT, 0.526, learn=True)
    assert report["ratio_to_optimum"] <= (1.2 if kind == "office" else 1.5)
    assert report["ours"]["wait_max_s"] <= PLANT.waking_s * 1.1
    assert report["ours"]["sessions_cut"] == 0
    assert report["optimum"]["gpu_hours"] <= report["ours"]["gpu_hours"] < report["nightly_only"]["gpu_hours"]
    fixed = simulate(trace, Rules(), PLANT)
    assert report["ours"]["gpu_hours"] <= fixed.gpu_s / 3600 * 1.001  # what is learned never costs more


def test_one_machine_can_only_promise_a_stop_more() -> None:
    """EC2 starts no machine that still stops: physically, who comes then waits for the rest of it as well."""
    waits = simulate(generate("bursts", 28, 1), Rules(), Plant(machines=1), learn=True).waits
    bound = PLANT.stop_s + PLANT.waking_s
    assert PLANT.waking_s * 1.1 < max(waits) <= bound + 1


def test_the_night_refuses_gives_notice_and_cuts() -> None:
    night = Night.parse("22:00-06:00 UTC")
    rules = Rules(idle_s=300, night=night)
    ten = BEGIN + 22 * 3600
    late = [Wanted(ten - 1800, 7200)]
    one = simulate(late, rules, PLANT)
    ((_, over),) = one.intervals
    assert one.cut == 1
    assert ten + rules.night_grace_s <= over <= ten + rules.night_grace_s + 90
    assert simulate([Wanted(ten - 1800, 900)], rules, PLANT).cut == 0
    report = compared([*late, Wanted(ten + 600, 60)], rules, PLANT, 0.526, learn=False)
    assert (report["sessions"], report["refused"], report["ours"]["sessions_cut"]) == (2, 1, 1)
    with pytest.raises(UsageError, match="begins in the night"):
        compared([Wanted(ten + 600, 60)], rules, PLANT, 0.526, learn=False)
    before = simulate([Wanted(ten - 30, 600)], rules, PLANT)
    assert before.cut == 1, "the night came before the GPU, and went on"


def test_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "trace.png"
    made = ["simulate", "--generate", "evenings", "--days", "7", "--plot", str(picture)]
    assert CliRunner().invoke(cli, [*made, "--compare"]).exit_code == 0
    with_trade = picture.read_bytes()
    assert with_trade.startswith(b"\x89PNG")
    assert CliRunner().invoke(cli, made).exit_code == 0
    assert picture.read_bytes() != with_trade
    nowhere = CliRunner().invoke(cli, [*made[:-1], str(tmp_path / "no" / "trace.png")])
    assert nowhere.exit_code == 1
    assert "cannot be written" in nowhere.stderr


def test_a_picture_without_matplotlib_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    made = ["simulate", "--generate", "evenings", "--days", "7", "--plot", str(tmp_path / "x.png")]
    result = CliRunner().invoke(cli, made)
    assert result.exit_code == 2
    assert "--plot needs matplotlib; install it" in result.stderr


def test_traces_repeat_and_differ_by_seed() -> None:
    for kind in GENERATORS:
        assert generate(kind, 14, 3) == generate(kind, 14, 3)
        assert generate(kind, 14, 3) != generate(kind, 14, 4)


def test_the_other_regimes_by_arithmetic() -> None:
    trace = [Wanted(NINE, 600), Wanted(NINE + 700, 60), Wanted(NINE + 50_000, 60)]
    assert optimum(trace, PLANT).intervals == (
        (NINE - 80, NINE + 600),
        (NINE + 620, NINE + 760),
        (NINE + 49_920, NINE + 50_060),
    )
    close = [Wanted(NINE, 600), Wanted(NINE + 670, 60)]
    assert optimum(close, PLANT).intervals == ((NINE - 80, NINE + 730),)  # to boot again would cost more
    begin, days = calendar(trace)
    assert (begin, days) == (BEGIN, 1)
    assert nightly_only(trace, begin, days).waits == (0.0, 0.0, BEGIN + DAY_S + 6 * 3600 - trace[2].start)
    assert by_hand(trace, PLANT).waits == (80.0, 0.0, 0.0)


def test_the_linger_that_is_learned() -> None:
    assert learned([10.0] * (ENOUGH - 1), 80, 60, 600) == 600
    assert learned([30.0] * 50, 80, 60, 600) == 60  # all gaps are shorter than the least
    assert learned([599.0] * 50, 80, 60, 600) == 60  # a gap costs more than a boot and a wait
    assert learned([120.0] * 50, 80, 60, 600) == 120  # and here less
    assert learned([5000.0] * 50, 80, 60, 600) == 60


def test_a_table_recommends() -> None:
    table = settings_table(generate("bursts", 7, 1), Rules(), PLANT, 0.526)
    hours = [row["gpu_hours"] for row in table["table"]]
    assert hours == sorted(hours)
    assert table["recommended_idle_minutes"] in {row["idle_minutes"] for row in table["table"]}


def test_the_command_on_a_file_and_made(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("start,minutes\n2026-03-02T09:00:00Z,10\n2026-03-02T12:00:00+01:00,30\n")
    result = CliRunner().invoke(cli, ["simulate", "--trace", str(file), "--json"])
    assert result.exit_code == 0, result.output
    for wrong in ("22:00", "25:00-06:00 UTC"):
        assert CliRunner().invoke(cli, ["simulate", "--trace", str(file), "--night", wrong]).exit_code == 2
    report = json.loads(result.stdout)
    assert (report["days"], report["sessions"], len(report["ours"]["intervals"])) == (1, 2, 2)
    assert report["ours"]["wait_max_s"] == 80
    assert {"always_on", "nightly_only", "by_hand", "optimum", "ratio_to_optimum"} <= report.keys()
    plain = CliRunner().invoke(cli, ["simulate", "--generate", "evenings", "--compare"])
    assert plain.exit_code == 0
    assert "recommended:" in plain.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("start,minutes\n", "no session"),
        ("begin,length\n1,2\n", "line 2"),
        ("start,minutes\nyesterday,5\n", "line 2"),
        ("start,minutes\n2026-03-02T09:00:00Z,-5\n", "above 0"),
        ("start,minutes\n2026-03-02T09:00:00Z,nan\n", "above 0"),
    ],
)
def test_a_bad_trace_is_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    result = CliRunner().invoke(cli, ["simulate", "--trace", str(file)])
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_usage() -> None:
    run = CliRunner().invoke
    assert run(cli, ["simulate"]).exit_code == 2
    assert run(cli, ["simulate", "--generate", "office", "--type", "z9.huge"]).exit_code == 2
    assert run(cli, ["simulate", "--generate", "events", "--days", "1"]).exit_code == 2  # none on that day


def test_read_csv_sorts(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("start,minutes\n2026-03-03T09:00:00Z,1\n2026-03-02T09:00:00Z,2\n")
    assert [one.length for one in read_csv(file)] == [120, 60]
