"""What a person is told: the phase, why, and what changes it when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from chalicelib.domain.lifecycle import Next, decide
from chalicelib.domain.machines import REPORT_FRESH_S, MachineState, Observation, View
from chalicelib.domain.rules import Rules, admission
from chalicelib.domain.wishes import Wishes


class Phase(StrEnum):
    """The phases a person sees."""

    ASLEEP = "asleep"
    WAKING_CAPACITY = "waking.capacity"
    WAKING_BOOT = "waking.boot"
    WAKING_SERVICE = "waking.service"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True)
class Overview:
    """The stack in one glance; `view` is the GPU that matters most."""

    phase: Phase
    reason: str
    next: Next | None = None
    remedy: str | None = None
    view: View | None = None


def forwarded(view: View, observation: Observation) -> bool:
    """Whether the edge, by its last report, forwards to this machine."""
    address = view.machine.private_ip
    return address is not None and any(
        address in edge.report.upstreams for edge in observation.edges if edge.report is not None
    )


def ready(view: View, observation: Observation, now: float) -> bool:
    """Whether words would come back now: awake, reported ready, and the edge forwards to it."""
    report = view.fresh(now)
    return (
        view.machine.state is MachineState.RUNNING
        and view.memory.drain is None
        and not view.cut_off(now)
        and report is not None
        and report.takes_streams
        and forwarded(view, observation)
    )


def ready_gpus(observation: Observation, now: float) -> list[View]:
    """All machines that would answer now, in the order of their ids."""
    found = [view for view in observation.gpus if ready(view, observation, now)]
    return sorted(found, key=lambda view: view.instance_id)


def phase_of(view: View, observation: Observation, wanted: bool, now: float) -> Phase:
    """One machine's phase."""
    state = view.machine.state
    match state:
        case MachineState.STOPPED:
            return Phase.WAKING_CAPACITY if wanted else Phase.ASLEEP
        case MachineState.PENDING:
            return Phase.WAKING_BOOT
        case MachineState.STOPPING:
            return Phase.WAKING_CAPACITY if wanted else Phase.STOPPING
        case MachineState.SHUTTING_DOWN | MachineState.TERMINATED:
            return Phase.FAILED
        case MachineState.RUNNING:
            if view.memory.drain is not None:
                return Phase.DRAINING
            return _running(view, observation, now)
        case _:
            assert_never(state)


def _running(view: View, observation: Observation, now: float) -> Phase:
    report = view.current()
    if report is None:
        return Phase.WAKING_BOOT
    if report.status == "failed":
        return Phase.FAILED
    if report.status == "draining":
        return Phase.DRAINING
    if ready(view, observation, now):
        return Phase.READY
    return Phase.FAILED if view.silent(now) else Phase.WAKING_SERVICE


_BEST_FIRST = (
    Phase.READY,
    Phase.WAKING_SERVICE,
    Phase.WAKING_BOOT,
    Phase.WAKING_CAPACITY,
    Phase.DRAINING,
    Phase.STOPPING,
    Phase.ASLEEP,
    Phase.FAILED,
)


def overview(observation: Observation, wishes: Wishes, rules: Rules, now: float) -> Overview:
    """The stack's phase is that of its best machine; the reason is the one `decide` gives for it."""
    if not observation.gpus:
        return Overview(
            Phase.FAILED,
            "no machine of this stack is tagged with the role gpu",
            remedy="deploy the stack, or tag the GPU machine",
        )
    streaming = observation.streaming(now)
    wanted = wishes.booked(now, rules.lead_s) is not None or (
        admission(wishes, rules, now).open and bool(wishes.live_sessions(now, streaming))
    )
    phases = {view.instance_id: phase_of(view, observation, wanted, now) for view in observation.gpus}
    best = min(observation.gpus, key=lambda view: (_BEST_FIRST.index(phases[view.instance_id]), view.instance_id))
    phase = phases[best.instance_id]
    decision = next(one for one in decide(observation, wishes, rules, now) if one.instance_id == best.instance_id)
    reason, remedy = decision.reason, None
    report = best.current()
    if phase is Phase.FAILED and report is not None:
        remedy = "restart the service (POST /v1/gpu/restart), then look at the host's log"
        reason = report.cause or "the GPU host reports that its service failed"
        if report.status != "failed":
            reason = f"the GPU host has not reported for {now - report.received_at:.0f} s"
            if best.cut_off(now):
                reason += ", and the edge cannot connect to it"
                remedy = "none is needed yet: it is stopped and started when this lasts two minutes"
    elif phase is Phase.WAKING_SERVICE and report is not None:
        if not report.fresh(now):
            silent = now - report.received_at
            reason = f"{reason}; no report for {silent:.0f} s (expected within {REPORT_FRESH_S:g} s)"
        elif report.takes_streams:
            reason = f"{reason}; the GPU is ready, the edge does not forward to it yet"
        else:
            reason = f"{reason}; the model is being loaded"
    return Overview(phase, reason, decision.next, remedy, best)
