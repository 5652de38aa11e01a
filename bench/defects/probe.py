"""What a probe is, and what it brings back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.servers import Server, Setup


@dataclass(frozen=True)
class Finding:
    present: bool
    """Whether the server has the defect."""
    evidence: str
    """What was seen, in one sentence."""


@dataclass(frozen=True)
class Probe:
    row: str
    """Its number among the known defects."""
    defect: str
    compensation: str
    file: str
    """Where ours compensates."""
    look: Callable[[Server], Finding]
    setup: Setup | None = None
    """The server of its own that the probe needs, because it spoils it or wants it fresh; None: a shared one."""
    slow: bool = False
