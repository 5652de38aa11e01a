"""What a probe leads to: what is kept of it, when the next canary is due, what is repaired, who hears. Pure.

A failure counts when it has lasted from one look to the next. Then one thing is tried, once: the service that does
not serve is restarted, the edge that forwards wrongly is told again whom to forward to. When that has had its time
and did not help, or nothing can be tried, a person hears what is wrong and what was tried, and no more is tried. (A
machine that runs and never reports is stopped and started once by the lifecycle's own rules.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from chalicelib.domain.alerts import Alert
from chalicelib.domain.machines import MachineState, View
from chalicelib.domain.probes import Layer, LayerName, Probe
from chalicelib.domain.rules import Rules

CANARY_EVERY_S = 900.0
CONFIRM_S = 50.0
"""A failure that lasts from one minute's look to the next is one; a single one may be chance."""
SETTLE_S = 240.0
"""What a repair is given to help: a restart that flushes, loads its model and reports, and two looks."""
AGAIN_S = 6 * 3600.0
"""One repair of a kind on one host in so long."""
KEEP_S = 900.0
"""A probe that says the same as the one before is kept anew after so long."""


class RepairKind(StrEnum):
    """What can be tried."""

    RESTART = "restart"
    """The service of a GPU host, by SSM."""
    REFRESH = "refresh"
    """The edge's upstreams, by SSM."""


@dataclass(frozen=True)
class Repair:
    """One attempt; `went` is what became of its command, in words, once that is known."""

    kind: RepairKind
    instance_id: str
    at: float
    reason: str
    command_id: str = ""
    went: str = ""


@dataclass(frozen=True)
class Health:
    """What is kept between probes: the last one, since when nothing is well, and what was tried lately."""

    at: float = 0.0
    """When the last probe was made; 0: none was yet."""
    trigger: str = ""
    ok: bool = False
    cause: LayerName | None = None
    layers: tuple[Layer, ...] = ()
    host: str = ""
    """The GPU machine it was about."""
    since: float | None = None
    """When the first failure came of those since a good probe."""
    waiting_since: float | None = None
    """Since when no probe found it good or broken: it loads, or drains."""
    canary_at: float | None = None
    heard_at: float | None = None
    """When a canary was sent last, and when one last heard its words."""
    repairs: tuple[Repair, ...] = ()


def failing(health: Health) -> bool:
    """Whether it failed at one look and still does at another: whoever reads this between two looks knows no more."""
    return health.cause is not None and health.since is not None and health.at - health.since >= CONFIRM_S


def settling(health: Health, now: float) -> bool:
    """Whether something was tried that may still help."""
    return any(0 <= now - one.at < SETTLE_S for one in health.repairs)


def followed(health: Health, probe: Probe, *, host: str, trigger: str, spoke: bool, now: float) -> Health:
    """The memory after one more probe; `spoke`: a canary was sent."""
    waiting = health.waiting_since if health.waiting_since is not None else now
    lately = tuple(one for one in health.repairs if now - one.at < AGAIN_S)
    broken = health.since if health.since is not None else now
    return replace(
        health,
        at=now,
        trigger=trigger,
        ok=probe.ok,
        cause=probe.cause,
        layers=probe.layers,
        host=host,
        # What neither failed nor served, as a host that loads again after its restart, proves nothing yet.
        since=None if probe.ok else broken if probe.cause is not None else health.since,
        # A report that says "loading" for too long is a failure, and goes on being one.
        waiting_since=waiting if probe.waiting else health.waiting_since if probe.cause is LayerName.REPORT else None,
        canary_at=now if spoke else health.canary_at,
        heard_at=now if spoke and probe.ok else health.heard_at,
        repairs=lately,
    )


def worth_keeping(health: Health, probe: Probe, *, spoke: bool, silent: bool, now: float) -> bool:
    """Whether a scheduled probe says something that the kept one does not.

    `silent`: the GPU is ready and all looks well, and no canary spoke: that says nothing about words, neither after
    one that heard them nor after one that did not.
    """
    if silent and (health.ok or health.cause is not None):
        return False
    if probe.cause is not None and health.cause is not None and not failing(health):
        return True
    return spoke or (probe.ok, probe.cause) != (health.ok, health.cause) or now - health.at >= KEEP_S


SPOKEN = (LayerName.UPGRADE, LayerName.READY, LayerName.CANARY)
"""The layers that only a canary can look at."""


def canary_due(health: Health, view: View, now: float, *, rehearsal: bool, wanted: tuple[float, str] | None) -> str:
    """Why a canary is to speak through the GPU that is ready, with all before it well; "" when it is not yet time.

    `rehearsal`: a booking waits for one; `wanted`: when somebody asked for one, and why (the end of a rollout).
    """
    last = health.canary_at
    memory = view.memory
    if last is None or last < (memory.ready_at or 0.0):
        return "the GPU woke"
    if wanted is not None and last < wanted[0]:
        return wanted[1]
    if last < (memory.restarted_at or 0.0):
        return "the service was restarted"
    if not health.ok and health.cause not in SPOKEN:
        return "it serves again"
    if health.cause is not None and (not failing(health) or settling(health, now)):
        return "the last one failed"
    if rehearsal:
        return "a booking comes"
    return "every 15 minutes" if now - last >= CANARY_EVERY_S else ""


_RESTARTS = (LayerName.REPORT, LayerName.UPGRADE, LayerName.READY, LayerName.CANARY)


def repair(health: Health, gpus: Iterable[View], edges: Iterable[View], now: float) -> Repair | None:
    """What to try now; None: nothing, for it is well, or unproven, or tried already, or too dear."""
    if not failing(health) or settling(health, now):
        return None
    words = next((one.detail for one in health.layers if one.name is health.cause), "")
    if health.cause is LayerName.UPSTREAM:
        for edge in edges:
            running = edge.machine.state is MachineState.RUNNING
            if running and not _tried(health, RepairKind.REFRESH, edge.instance_id, now):
                return Repair(RepairKind.REFRESH, edge.instance_id, now, words)
        return None
    if health.cause not in _RESTARTS:
        return None
    awake = [one for one in gpus if one.machine.state is MachineState.RUNNING]
    # With two awake nobody can say on which of them the canary was.
    if len(awake) != 1 or awake[0].instance_id != health.host:
        return None
    gpu = awake[0]
    if gpu.memory.drain is not None or _tried(health, RepairKind.RESTART, gpu.instance_id, now):
        return None
    report = gpu.fresh(now)
    # Who does not report may serve all the same, and a restart over SSM would cut whoever speaks there.
    if report is None or (report.streams and serves(gpu, health)):
        return None
    return Repair(RepairKind.RESTART, gpu.instance_id, now, words)


def serves(gpu: View, health: Health) -> bool:
    """Whether the host has decoded anything since the trouble began: it works for somebody then."""
    report = gpu.report
    if report is None or report.status == "failed":
        return False
    return report.decoded_at is not None and health.since is not None and report.decoded_at > health.since


def _tried(health: Health, kind: RepairKind, instance_id: str, now: float) -> bool:
    return any(
        one.kind is kind and one.instance_id == instance_id and now - one.at < AGAIN_S for one in health.repairs
    )


_TOLD_BY_OTHERS = (LayerName.TABLE, LayerName.MACHINE)
"""What the machine lacks is told by the alerts about it."""


def probe_alerts(health: Health, rules: Rules, now: float) -> tuple[Alert, ...]:
    """What a person must hear, when nothing more is tried."""
    cause = health.cause
    if cause is None or cause in _TOLD_BY_OTHERS or not failing(health) or settling(health, now):
        return ()
    layer = next((one for one in health.layers if one.name is cause), None)
    words = f"{cause.value}: {layer.detail if layer else 'it fails'}"
    tried = [
        f"{one.kind.value} at {rules.clock(one.at, now)}{f' ({one.went})' if one.went else ''}"
        for one in health.repairs
    ]
    words += f"; tried in vain: {', '.join(tried)}" if tried else "; nothing could be tried"
    if layer is not None and layer.remedy:
        words += f". {layer.remedy}"
    return (Alert(f"probe#{cause.value}", "probe.failed", health.host, words),)
