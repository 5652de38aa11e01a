"""Writes docs/idle-minutes.md: `python -m whisperctl.simulate.document > docs/idle-minutes.md`; seeded."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from chalicelib.domain.ledger import PRICES_PER_HOUR
from chalicelib.domain.rules import Rules
from whisperctl.simulate.compare import compared, settings_table
from whisperctl.simulate.run import Plant, simulate
from whisperctl.simulate.traces import GENERATORS, Wanted, generate

DAYS, SEED = 28, 1
PRICE = PRICES_PER_HOUR["g4dn.xlarge"]
PLANT = Plant(machines=2)
LONGEST = PLANT.waking_s * 1.1
NAMES = {
    "office": "Office hours",
    "evenings": "Evening talks",
    "events": "All-day events",
    "scattered": "Scattered sessions",
    "bursts": "Bursts of short sessions",
}
HEAD = f"""# What the idle minutes trade

How long the GPU lingers after the last wish is a trade: each minute costs GPU time, and each one saved makes somebody
wait for a boot. Every figure here comes from the real decisions on a virtual clock, over {DAYS} days of made
sessions, with {PLANT.boot_s:g} s of boot, {PLANT.service_s:g} s of model load, {PLANT.stop_s:g} s of stopping, and a
standby machine; a g4dn.xlarge at ${PRICE:g} an hour. The optimum knows the future: it wakes in time for
everybody, sleeps through every gap longer than a boot, and nobody waits.

This page is written by a command, and so are the figures for your own sessions (a CSV with the columns start and
minutes):

```
.venv/bin/python -m whisperctl.simulate.document > docs/idle-minutes.md
.venv/bin/whisperctl simulate --trace sessions.csv --compare --plot sessions.png
```

## In one table

"Learned" is how the stack comes (`IDLE_LEARNED=true`): it takes the linger that would have cost least over the gaps
seen so far, a second of waiting weighed as five of GPU time, between `IDLE_LEAST_MINUTES` and `IDLE_MINUTES`. Until
it has seen eight gaps it lingers `IDLE_MINUTES`.
"""
ONE_MACHINE = f"""
## One machine, or a standby beside it

No session above waited longer than a boot and a tenth ({LONGEST:.0f} s), because whoever comes while a machine stops
is served by the standby. With one machine that is physically impossible: EC2 starts no machine that still stops, so
who comes in that half minute waits for the rest of it and then for the boot, up to {PLANT.stop_s:g} +
{PLANT.waking_s:g} s. All that can be done is to stop less often; the shorter the linger, the more often somebody
meets a stop. With one machine so many sessions of the same traces waited longer than {LONGEST:.0f} s:

| trace | sessions | 10 minutes fixed | longest | learned | longest |
|---|---:|---:|---:|---:|---:|
"""


def page() -> Iterator[str]:
    """The lines of the page."""
    traces = {kind: generate(kind, DAYS, SEED) for kind in GENERATORS}
    tables = {kind: settings_table(trace, Rules(), PLANT, PRICE) for kind, trace in traces.items()}
    yield HEAD
    columns = ("sessions", "always on", "by hand", "10 minutes fixed", "learned", "optimum", "ratio", "longest wait")
    yield f"| trace | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for kind, trace in traces.items():
        report = compared(trace, Rules(), PLANT, PRICE, learn=True)
        fixed = next(row for row in tables[kind]["table"] if row["idle_minutes"] == 10)
        shown = [report["always_on"], report["by_hand"], fixed, report["ours"], report["optimum"]]
        hours = " | ".join(f"{one['gpu_hours']:.1f} h" for one in shown)
        ours = report["ours"]
        assert ours["sessions_cut"] == 0
        end = f"{report['ratio_to_optimum']:.2f} | {ours['wait_max_s']:.0f} s |"
        yield f"| {NAMES[kind]} | {len(trace)} | {hours} | {end}"
    yield "\nThe ratio is of learned to the optimum. No session was cut.\n\n## Setting by setting"
    for kind in traces:
        yield f"\n### {NAMES[kind]}\n"
        yield "| idle minutes | GPU hours | cost | of the optimum | sessions that waited | longest wait |"
        yield "|---:|---:|---:|---:|---:|---:|"
        for row in tables[kind]["table"]:
            yield _row(f"{row['idle_minutes']:g}", row)
        yield _row("learned", tables[kind]["learned_row"])
        yield f"\nRecommended, were it fixed: {tables[kind]['recommended_idle_minutes']:g} minutes."
    yield ONE_MACHINE.rstrip("\n")
    for kind, trace in traces.items():
        late = " | ".join(
            f"{count} | {longest:.0f} s" for count, longest in (_late(trace, False), _late(trace, True))
        )
        yield f"| {NAMES[kind]} | {len(trace)} | {late} |"


def _row(name: str, row: dict[str, Any]) -> str:
    waited = f"{row['waited_share']:.0%}".replace("%", " %")
    return (
        f"| {name} | {row['gpu_hours']:.1f} | ${row['cost']:.2f} | {row['ratio_to_optimum']:.2f} "
        f"| {waited} | {row['wait_max_s']:.0f} s |"
    )


def _late(trace: list[Wanted], learn: bool) -> tuple[int, float]:
    waits = simulate(trace, Rules(), Plant(machines=1), learn=learn).waits
    return sum(wait > LONGEST for wait in waits), max(waits)


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in page())
