"""The table of prices, and the few that a single thing has."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("prices.json")
HOURS = 730.0
"""Of a month, as AWS counts."""
DEFAULT_REGION = "us-east-1"


@cache
def table() -> dict[str, Any]:
    """All of prices.json."""
    found: dict[str, Any] = json.loads(TABLE.read_text())
    return found


def prices(region: str) -> dict[str, Any]:
    """A region's prices; another region's are near those of us-east-1."""
    regions = table()["regions"]
    found: dict[str, Any] = regions.get(region) or regions[DEFAULT_REGION]
    return found


def monthly_of(kind: str, about: str, region: str) -> float:
    """Roughly what a thing that `destroy` lists costs a month while the GPU sleeps; 0 for what is paid by use."""
    price = prices(region)
    match kind:
        case "machine":
            asleep = about.startswith(("g", "p"))
            return 0.0 if asleep else price["instance_hour"].get(about, 0.0) * HOURS
        case "volume":
            size = int(about) if about.isdigit() else 8
            return float(price["gp3_gib_month"]) * size
        case "snapshot":
            return float(price["snapshot_gib_month"]) * 8
        case "address":
            return float(price["public_ipv4_hour"]) * HOURS
        case "AWS::CloudWatch::Alarm":
            return float(price["alarm_month"])
        case "AWS::CloudWatch::Dashboard":
            return float(price["dashboard_month"])
        case _:
            return 0.0
