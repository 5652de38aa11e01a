"""Dollars a month by component: what stands there, what was counted for each tick and report, and what is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whisperctl.costs.prices import HOURS, prices, table

DAYS = HOURS / 24
EDGE_TYPE, EDGE_DISK_GIB = "t4g.micro", 8
GPU_TYPE, GPU_DISK_GIB = "g4dn.xlarge", 75
LAMBDA_GIB, LAMBDA_S = 0.5, 0.15
"""Each function has 512 MB; a warm invocation is taken to be charged for 150 ms."""
LOG_KIB_EACH = 1.5
"""What an invocation writes: Lambda's own three lines and ours, and the API's access line."""
RELEASES_GIB = 6.0
"""Two GPU releases that share most of their files (CUDA's wheels, a model), and the packages."""
STATE_GIB = 0.1
SESSIONS_A_DAY = 2
WAKE_MINUTES, LINGER_MINUTES = 1.5, 10.0
"""Paid for in each session beside the speech: the wake, and the longest linger after it."""
TICKS_H, EDGE_ASLEEP_H, AWAKE_H, BEATS_H, LOOKS_H = 60, 60, 720, 120, 240
"""Per hour: ticks; the edge's reports while the GPU sleeps; each host's while it is awake (every 5 s); a speaker's
heartbeats (every 30 s); a page's looks at the status while somebody speaks (every 15 s)."""
MOST_ASLEEP = 25.0
"""What the whole stack asleep may cost a month."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How it is used: hours of speech a day, one speaker at a time."""

    speech_h: float = 0.0
    sessions: int = SESSIONS_A_DAY

    @property
    def awake_h(self) -> float:
        """Hours a day in which the GPU runs."""
        if not self.speech_h:
            return 0.0
        return min(24.0, self.speech_h + self.sessions * (WAKE_MINUTES + LINGER_MINUTES) / 60)


def monthly(region: str, usage: Usage, counted: Mapping[str, Any], alarms: int) -> dict[str, float]:
    """Dollars a month for each component, unrounded."""
    price, things = prices(region), counted["things"]
    awake = usage.awake_h * DAYS
    speech = usage.speech_h * DAYS
    happen = {
        "tick asleep": TICKS_H * (HOURS - awake),
        "edge report asleep": EDGE_ASLEEP_H * (HOURS - awake),
        "tick awake": TICKS_H * awake,
        "edge report awake": AWAKE_H * awake,
        "gpu report": AWAKE_H * awake,
        "heartbeat": BEATS_H * speech,
        "status look awake": LOOKS_H * speech,
    }
    times = sum(happen.values())
    api = sum(often for what, often in happen.items() if not what.startswith("tick"))
    reads = sum(often * things[what]["reads"] for what, often in happen.items())
    writes = sum(often * things[what]["writes"] for what, often in happen.items())
    asleep = {one for what in ("tick asleep", "edge report asleep") for one in things[what]["metrics"]}
    waking = {one for what in happen for one in things[what]["metrics"]}
    log_gib = times * LOG_KIB_EACH / 1024**2
    return {
        f"edge, {EDGE_TYPE}": price["instance_hour"][EDGE_TYPE] * HOURS,
        "edge's address": price["public_ipv4_hour"] * HOURS,
        f"edge's disk, {EDGE_DISK_GIB} GiB": price["gp3_gib_month"] * EDGE_DISK_GIB,
        f"GPU machine's disk, {GPU_DISK_GIB} GiB": price["gp3_gib_month"] * GPU_DISK_GIB,
        "Lambda": times
        * (price["lambda_million_requests"] / 1e6 + LAMBDA_GIB * LAMBDA_S * price["lambda_arm64_gib_second"]),
        "API Gateway": api * price["rest_api_million_calls"] / 1e6,
        "DynamoDB": reads * price["dynamodb_million_reads"] / 1e6
        + writes * price["dynamodb_million_writes"] / 1e6
        + STATE_GIB * (price["dynamodb_gib_month"] + price["dynamodb_pitr_gib_month"]),
        "logs": log_gib * (price["logs_gib_in"] + price["logs_gib_month"]),
        f"{alarms} alarms": alarms * price["alarm_month"],
        # By the hour in which a metric has a value.
        "metrics of our own": price["metric_month"]
        * (len(asleep) * (HOURS - awake) + len(asleep | waking) * awake)
        / HOURS,
        f"releases in S3, {RELEASES_GIB:g} GiB": price["s3_gib_month"] * RELEASES_GIB,
        f"GPU awake, {GPU_TYPE}": price["instance_hour"][GPU_TYPE] * awake,
        "GPU's address while awake": price["public_ipv4_hour"] * awake,
    }


def total(parts: Mapping[str, float]) -> float:
    return sum(parts.values())


def break_even(
    region: str, api_hour: float, counted: Mapping[str, Any], alarms: int, speakers: int = 1
) -> float | None:
    """Hours of speech a month from which the stack is cheaper than the API; None where it never is.

    `speakers` speak at once: the API charges each, the GPU's hour is shared.
    """
    asleep = total(monthly(region, Usage(0), counted, alarms))
    # Between two amounts of use the cost is linear in the hours.
    low, high = Usage(1), Usage(2)
    at_low, at_high = (total(monthly(region, one, counted, alarms)) for one in (low, high))
    slope = (at_high - at_low) / DAYS
    fixed = at_low - slope * DAYS
    gain = api_hour * speakers - slope
    if gain <= 0:
        return None
    hours = max(fixed, asleep) / gain
    return hours if hours <= HOURS else None


def predecessor(usage: Usage) -> dict[str, float]:
    """The system before this one, at the prices of its own guide: an edge that never sleeps, a GPU by hand."""
    quoted, price = table()["predecessor"], prices("us-east-1")
    return {
        f"edge, {quoted['edge_type']}": quoted["edge_hour"] * HOURS,
        "GPU": quoted["gpu_hour"] * usage.awake_h * DAYS,
        "addresses": price["public_ipv4_hour"] * (HOURS + usage.awake_h * DAYS),
        "disks": price["gp3_gib_month"] * (EDGE_DISK_GIB + GPU_DISK_GIB),
    }


def alarms_of_template() -> int:
    """How many alarms the stack's template has."""
    from whisperctl.releases.sources import ROOT

    lines = (ROOT / ".chalice" / "resources.yaml").read_text().splitlines()
    return sum(line.strip() == "Type: AWS::CloudWatch::Alarm" for line in lines)
