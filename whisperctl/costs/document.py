"""docs/costs.md, from the table of prices and the counted calls.

    python -m whisperctl.costs.document --write docs/costs.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from whisperctl.costs import model
from whisperctl.costs.count import counted
from whisperctl.costs.model import Usage, break_even, monthly, predecessor, total
from whisperctl.costs.prices import HOURS, table

REGIONS = ("us-east-1", "eu-central-1")
USES = ((0, "asleep"), (2, "2 h a day"), (8, "8 h a day"))


def render() -> str:
    """The page."""
    calls, alarms, prices = counted(), model.alarms_of_template(), table()
    parts = [
        "# What it costs",
        "",
        f"Written by `python -m whisperctl.costs.document --write docs/costs.md` from "
        f"[the table of prices](../whisperctl/costs/prices.json) of {prices['date']} and "
        "[the calls counted](../whisperctl/costs/counted.json) in the embedded cloud. A test fails "
        "when this page, the "
        "table and the template disagree.",
        "",
        f"**The prices.** {prices['source']}",
        "",
        "**The bound.** Asleep, with edge, address, disks and control plane, a month may cost "
        f"{model.MOST_ASLEEP:g} $; "
        "a test holds it to that in both regions.",
        "",
    ]
    for region in REGIONS:
        columns = [monthly(region, Usage(hours), calls, alarms) for hours, _ in USES]
        parts += [f"## A month in {region}, in dollars", ""]
        rows = [[name, *(f"{one[name]:.2f}" for one in columns)] for name in columns[0]]
        rows.append(["**together**", *(f"**{total(one):.2f}**" for one in columns)])
        parts += _table(["", *(words for _, words in USES)], rows)
    old = [predecessor(Usage(hours)) for hours, _ in USES] + [predecessor(Usage(24, 0))]
    parts += [
        "## The system before this one",
        "",
        f"At {prices['predecessor']['from']} (us-east-1), with the same disks, and a GPU stopped by "
        "hand as punctually "
        "as this one stops by itself; in the last column nobody stopped it.",
        "",
    ]
    rows = [[name, *(f"{one[name]:.2f}" for one in old)] for name in old[0]]
    rows.append(["**together**", *(f"**{total(one):.2f}**" for one in old)])
    parts += _table(["", *(words for _, words in USES), "never stopped"], rows)
    parts += [
        "## Beside a transcription API",
        "",
        "Hours of speech a month from which this stack is cheaper, in us-east-1: one speaker at a "
        "time, and four at once "
        "on one GPU. An API charges each of the four.",
        "",
    ]
    rows = []
    for api in prices["transcription_apis"]:
        dollars = api["dollars_per_hour"]
        evens = [break_even("us-east-1", dollars, calls, alarms, speakers) for speakers in (1, 4)]
        hours = [f"{60.8 * dollars:.2f}", f"{243.3 * dollars:.2f}"]
        rows.append([api["name"], f"{dollars:.2f}", *hours, *(_hours(one) for one in evens), api["from"]])
    head = ["", "$ an hour", "2 h a day", "8 h a day", "cheaper from, one speaker", "four at once", "price from"]
    parts += _table(head, rows)
    parts += [
        "*Never*: an hour of that API is cheaper than an hour of the GPU, so with one speaker at a "
        "time this stack costs "
        "more however long it is used. What it gives for that is that no speech leaves the account.",
        "",
        "## What is counted, and what is assumed",
        "",
        "Counted by `python -m whisperctl.costs.count --write`, each the median of five; units as "
        "DynamoDB charges them "
        f"(the state's partition had {calls['control_partition_bytes']} bytes):",
        "",
    ]
    rows = [
        [what, str(one["reads"]), str(one["writes"]), ", ".join(f"{n} × {name}" for name, n in one["calls"].items())]
        for what, one in calls["things"].items()
    ]
    parts += _table(["", "reads", "writes", "calls"], rows)
    parts += [
        "Assumed:",
        "",
        f"- {model.SESSIONS_A_DAY} sessions a day, one speaker at a time; each pays "
        f"{model.WAKE_MINUTES:g} minutes of "
        f"waking and {model.LINGER_MINUTES:g} of lingering beside the speech (the linger is the "
        "longest: it is learned, "
        "and mostly shorter).",
        f"- A month has {HOURS:g} hours. Per hour: {model.TICKS_H} ticks, {model.EDGE_ASLEEP_H} "
        "reports of the edge "
        f"asleep, {model.AWAKE_H} of each host awake, {model.BEATS_H} heartbeats and {model.LOOKS_H} "
        "looks at the status "
        "while somebody speaks.",
        f"- An invocation is charged {model.LAMBDA_S * 1000:.0f} ms of {model.LAMBDA_GIB * 1024:.0f} "
        "MB, and writes "
        f"{model.LOG_KIB_EACH:g} KiB of log.",
        f"- {model.RELEASES_GIB:g} GiB of releases in S3, {model.STATE_GIB:g} GiB in the table.",
        "- Audio comes in, which is free, and goes from the edge to the GPU by private addresses in "
        "one zone, which is "
        "free too. A standby GPU in another zone costs its disk once more, and 0.01 $ per GiB of "
        "audio while it serves.",
        "- No free tier, no tax, no savings plan. SNS mails, SSM, EventBridge and CloudFormation are "
        "free or cents.",
        "",
        "## Dearer on purpose",
        "",
        "- A second GPU machine (`--standby true`): its disk, "
        f"{table()['regions']['us-east-1']['gp3_gib_month'] * model.GPU_DISK_GIB:.2f} $ a month.",
        "- A private subnet with a NAT gateway for the GPU: 0.045 $ an hour and per GiB in "
        "us-east-1, about 33 $ a month "
        "asleep. That alone is more than the bound; without it the GPU has a public address while it "
        "runs, and nothing "
        "is let in on it.",
        "",
    ]
    return "\n".join(parts)


def _hours(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} h"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def main(arguments: list[str] | None = None) -> int:
    """The command of the module's docstring; without --write the page goes to stdout."""
    parser = argparse.ArgumentParser(prog="python -m whisperctl.costs.document", description=__doc__)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args(arguments)
    if given.write is None:
        sys.stdout.write(render())
    else:
        given.write.write_text(render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
