"""A picture of a simulated trace: when the GPU was awake and somebody spoke, and what each setting trades."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whisperctl.errors import CtlError, UsageError
from whisperctl.simulate.run import Outcome
from whisperctl.simulate.traces import DAY_S, Wanted

AWAKE, SPEECH, HOURS, WAITS = "#cfe0f5", "#1f5fa8", "#1f5fa8", "#c2571a"
MOST_DAYS = 31
INK = "#333333"


def plot(path: Path, trace: Sequence[Wanted], ours: Outcome, report: dict[str, Any]) -> None:
    """Write a PNG. `report` is that of `compared`, with the table of `settings_table` where there is one."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        words = "--plot needs matplotlib; install it beside whisperctl: .venv/bin/python -m pip install matplotlib"
        raise UsageError(words) from error
    rows: list[dict[str, Any]] = report.get("table", [])
    days = min(int(report["days"]), MOST_DAYS)
    height = 1.6 + 0.2 * days
    figure = Figure(figsize=(9, height + (3.4 if rows else 0)), dpi=130, layout="constrained")
    if rows:
        calendar, trade = figure.subplots(2, 1, height_ratios=[height, 3.2])
        _trade(trade, rows, report["learned_row"])
    else:
        calendar = figure.subplots()
    _calendar(calendar, trace, ours, days)
    ratio = report["ratio_to_optimum"]
    hours, waits = report["ours"]["gpu_hours"], report["ours"]["wait_max_s"]
    title = (
        f"{len(trace)} sessions, {hours:.1f} GPU hours ({ratio:.2f} times the optimum), longest wait {waits:.0f} s"
    )
    calendar.set_title(title, loc="left", fontsize=11, color=INK)
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise CtlError(f"{path} cannot be written: {error.strerror}") from error


def _calendar(axes: Any, trace: Sequence[Wanted], ours: Outcome, days: int) -> None:
    midnight = trace[0].start // DAY_S * DAY_S
    speech = [(one.start + wait, one.start + wait + one.length) for one, wait in zip(trace, ours.waits, strict=True)]
    for spans, colour, height, label in ((ours.intervals, AWAKE, 0.8, "awake"), (speech, SPEECH, 0.34, "speech")):
        by_day: dict[int, list[tuple[float, float]]] = {}
        for begun, over in spans:
            for day in range(int((begun - midnight) // DAY_S), int((over - midnight) // DAY_S) + 1):
                start, end = max(begun, midnight + day * DAY_S), min(over, midnight + (day + 1) * DAY_S)
                by_day.setdefault(day, []).append(((start - midnight) % DAY_S / 3600, (end - start) / 3600))
        for day, bars in by_day.items():
            if day < days:
                axes.broken_barh(bars, (day - height / 2, height), facecolors=colour, label=label)
                label = "_"
    names = [datetime.fromtimestamp(midnight + day * DAY_S, UTC).strftime("%a %d %b") for day in range(days)]
    axes.set_yticks(range(days), names)
    axes.set_ylim(days - 0.4, -0.6)
    axes.set_xlim(0, 24)
    axes.set_xticks(range(0, 25, 3), [f"{hour:02d}:00" for hour in range(0, 25, 3)])
    axes.set_xlabel("time of day, UTC", fontsize=9, color=INK)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    _plain(axes)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, ncols=2, fontsize=9, frameon=False)


def _trade(axes: Any, rows: Sequence[dict[str, Any]], learned: dict[str, Any]) -> None:
    """GPU hours against the sessions that wait, one point a setting."""
    hours = [row["gpu_hours"] for row in rows]
    shares = [100 * row["waited_share"] for row in rows]
    axes.plot(shares, hours, "o-", color=HOURS, label="fixed idle minutes")
    for row, hour, share in zip(rows, hours, shares, strict=True):
        axes.annotate(
            f"{row['idle_minutes']:g} min", (share, hour), xytext=(6, 5), textcoords="offset points", fontsize=8
        )
    axes.plot([100 * learned["waited_share"]], [learned["gpu_hours"]], "D", color=WAITS, label="learned")
    axes.set_xlabel("sessions that wait for a boot, %", fontsize=9, color=INK)
    axes.set_ylabel("GPU hours", fontsize=9, color=INK)
    axes.margins(x=0.08, y=0.15)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    _plain(axes)
    axes.legend(fontsize=9, frameon=False)


def _plain(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
