"""The host link: a host reports, the control plane answers with all that the host must know.

The report is written first, so that a pass that follows decides on it. A report that changes something (status,
the set of streams, the edge's upstreams, or the first after a silence) asks for a pass, and so does one at whose
time something is due: while a host reports, ticks may be late or lost, and a linger ends on its second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chalicelib.domain.lifecycle import Action, decide
from chalicelib.domain.machines import (
    REPORT_FRESH_S,
    Drain,
    DrainKind,
    MachineState,
    Memory,
    Observation,
    Report,
    Role,
    Stream,
    View,
)
from chalicelib.domain.phases import Phase, ready_gpus
from chalicelib.domain.times import to_text, to_text_or_none
from chalicelib.errors import Invalid, NotFound, StoreConflict
from chalicelib.ports import Put
from chalicelib.services.context import Context
from chalicelib.services.control import KEPT_S, Control, data_of, load, report_key, session_key
from chalicelib.services.events import Cause
from chalicelib.services.releases import progress
from chalicelib.services.ticket_keys import ensure_keys
from chalicelib.telemetry import logger

AWAKE_REPORT_S = 5
ASLEEP_REPORT_S = 60
GPU_PORT = 9090
STREAM_HEARTBEAT_S = 60.0
"""A live stream extends its session's stored heartbeat this often, so that reports do not write it each time."""

_STATUSES = {
    Role.GPU: ("loading", "ready", "draining", "failed", "stopping"),
    Role.EDGE: ("loading", "ready", "draining", "failed", "stopping"),
}


def report(context: Context, instance_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Take a host's report and answer it."""
    cause = Cause(f"host:{instance_id}", "report")
    control = load(context.store)
    memory = control.memories.get(instance_id)
    if memory is None:
        context.wishes_changed(cause)
        control = load(context.store)
        memory = control.memories.get(instance_id)
    if memory is None:
        raise NotFound(f"No machine {instance_id[:64]} is tagged as part of this stack.")
    now = context.clock()
    before = control.reports.get(instance_id)
    taken = _taken(memory, body, before, now)
    context.store.write(Put(report_key(instance_id), data_of(taken)))
    _extend_sessions(context, control, taken, now)
    asks = _changed(before, taken) or _cut_off_since(control, before, taken, instance_id, now)
    if asks or _due(context, control, taken, instance_id, now):
        context.wishes_changed(cause)
    if control.wishes.installations:
        progress(context, cause)
    control = load(context.store)
    if control.keys.signing(now) is None and memory.role is Role.GPU:
        control = replace(control, keys=ensure_keys(context.store, now))
    return answer(context, control, instance_id, context.clock())


def answer(context: Context, control: Control, instance_id: str, now: float) -> dict[str, Any]:
    """What this host must know now."""
    observation = control.observation(now)
    view = next(one for one in (*observation.gpus, *observation.edges) if one.instance_id == instance_id)
    gpu = view.machine.role is Role.GPU
    asleep = control.overview(context.rules, now).phase is Phase.ASLEEP
    models = view.report.models if view.report is not None else ()
    drain = view.memory.drain
    awake_since = view.memory.awake_since
    stay = None if awake_since is None or not gpu else awake_since + context.rules.hard_max_s
    return {
        "now": to_text(now),
        "next_report_s": ASLEEP_REPORT_S if asleep and not gpu else AWAKE_REPORT_S,
        "stay_until": to_text_or_none(stay),
        "drain": _stopping(view, now) if drain is None else _told(drain),
        "ticket_keys": [{"kid": key.kid, "secret": key.secret} for key in control.keys.keys] if gpu else [],
        "revoked": _revoked(control, view) if gpu else [],
        "upstreams": upstreams(observation, now),
        "watch": [] if gpu else _awake(observation),
        "model": control.wishes.model(now, observation.streaming(now), models, control.learned(context.rules).lead_s),
    }


def _told(drain: Drain) -> dict[str, Any]:
    restarts = drain.kind is DrainKind.RESTART
    return {"closing_at": to_text(drain.closing_at), "reason": drain.reason, "restarts": restarts}


def _stopping(view: View, now: float) -> dict[str, Any] | None:
    """A host that is being stopped hears so as well, in case its last report and the stop crossed."""
    if view.machine.role is Role.GPU and view.machine.state is MachineState.STOPPING:
        return {"closing_at": to_text(now), "reason": "the machine is stopping"}
    return None


def upstreams(observation: Observation, now: float) -> list[dict[str, Any]]:
    """Whom the edge forwards to: the ready GPUs; none ready: those awake; none awake: the last known.

    A stopped machine keeps its private address, so that the edge has it before the machine wakes.
    """
    serving = ready_gpus(observation, now)
    # The edge is asked to forward to a GPU that is ready but for the edge, or it would never become ready.
    there = [view for view in observation.gpus if not view.cut_off(now)]
    reported = [view for view in there if (fresh := view.fresh(now)) and fresh.status == "ready"]
    undrained = [view for view in reported if view.memory.drain is None]
    awake = [view for view in there if view.machine.state.awake]
    known = [view for view in observation.gpus if view.machine.state is not MachineState.TERMINATED]
    chosen = serving + [view for view in undrained if view not in serving] or awake or known
    return [
        {
            "host": view.machine.private_ip,
            "port": GPU_PORT,
            "max_streams": view.report.max_streams if view.report is not None else 0,
        }
        for view in sorted(chosen, key=lambda one: one.instance_id)
        if view.machine.private_ip is not None
    ]


def _awake(observation: Observation) -> list[dict[str, Any]]:
    """The GPU hosts that should take connections: the edge reports those that do not, wanted or not."""
    running = [view.machine.private_ip for view in observation.gpus if view.machine.state is MachineState.RUNNING]
    return [{"host": host, "port": GPU_PORT} for host in running if host is not None]


def _revoked(control: Control, view: View) -> list[str]:
    """Sessions that are over, for as long as their records are kept: a stream may outlive its ticket.

    While the host drains, those that the drain ends are left to it: it flushes and closes 1012, not 4410.
    """
    draining = view.memory.drain is not None or view.machine.state is MachineState.STOPPING
    return sorted(
        one.id
        for one in control.wishes.sessions
        if one.ended_at is not None and not (draining and one.end_kind in ("stop", "night"))
    )


def _changed(before: Report | None, after: Report) -> bool:
    if before is None or after.received_at - before.received_at > REPORT_FRESH_S:
        return True
    ids = {stream.sid for stream in before.streams} != {stream.sid for stream in after.streams}
    return (
        ids
        or before.status != after.status
        or before.boot_id != after.boot_id
        or before.upstreams != after.upstreams
        or before.down != after.down
    )


def _cut_off_since(control: Control, before: Report | None, taken: Report, edge: str, now: float) -> bool:
    """Whether a GPU is cut off by this report that was not by the one before: a tick could be a minute away."""
    if not taken.down or before is None:
        return False
    known = replace(control, reports={**control.reports, edge: taken})
    then = before.received_at
    was = {view.instance_id for view in control.observation(then).gpus if view.cut_off(then)}
    return any(view.cut_off(now) and view.instance_id not in was for view in known.observation(now).gpus)


def _due(context: Context, control: Control, taken: Report, instance_id: str, now: float) -> bool:
    """Whether something is to be done, by what is known without asking EC2."""
    known = replace(control, reports={**control.reports, instance_id: taken})
    decisions = decide(known.observation(now), known.wishes, known.learned(context.rules), now)
    return any(one.action is not Action.HOLD for one in decisions)


def _extend_sessions(context: Context, control: Control, taken: Report, now: float) -> None:
    for stream in taken.streams:
        session = control.session(stream.sid)
        if session is None or session.ended_at is not None or now >= session.max_at:
            continue
        if now - session.heartbeat_at < STREAM_HEARTBEAT_S:
            continue
        key = session_key(session.id)
        extended = replace(session, heartbeat_at=now)
        try:
            context.store.write(Put(key, data_of(extended), control.version(key), session.max_at + KEPT_S))
        except StoreConflict:
            logger().debug("a heartbeat came between", extra={"session": session.id})


def _taken(memory: Memory, body: Mapping[str, Any], before: Report | None, now: float) -> Report:
    """The report as it is stored; Invalid names the field that is wrong. Unknown fields are passed over."""
    status = _text(body, "status")
    if status not in _STATUSES[memory.role]:
        raise Invalid(f"status must be one of {', '.join(_STATUSES[memory.role])}.")
    boot_id, release = _text(body, "boot_id"), _text(body, "release", None)
    common = Report(now, boot_id, status, release, cause=_text(body, "cause", None))
    if memory.role is Role.EDGE:
        return replace(
            common,
            upstreams=_addresses(body.get("upstreams") or [], "upstreams"),
            down=_addresses(body.get("gpus_down") or [], "gpus_down"),
            ca_pem=_text(body, "ca_pem", None),
            cert_days=_number(body, "cert_days", None),
            cert_life_days=_number(body, "cert_life_days", None),
        )
    streams = _streams(body.get("streams") or [])
    same_boot = before is not None and before.boot_id == common.boot_id
    streamed_before = before.streamed_at if before is not None and same_boot else None
    was_ready = before is not None and same_boot and before.was_ready
    return replace(
        common,
        model=_text(body, "model", None),
        models=_texts(body, "models"),
        device=_text(body, "device", None),
        streams=streams,
        max_streams=int(_number(body, "max_streams", 0.0) or 0),
        decode_s_p50=_number(body, "decode_s_p50", None),
        decoded_at=None if (ago := _number(body, "decoded_s_ago", None)) is None else now - ago,
        disk_free=_number(body, "disk_free", None),
        streamed_at=now if streams else streamed_before,
        was_ready=was_ready or status == "ready",
    )


_REQUIRED: Any = object()


def _text(body: Mapping[str, Any], name: str, default: Any = _REQUIRED) -> Any:
    value = body.get(name)
    if value is None and default is not _REQUIRED:
        return default
    if not isinstance(value, str) or len(value) > 20_000:
        raise Invalid(f"{name} must be a text.")
    return value


def _number(body: Mapping[str, Any], name: str, default: float | None) -> float | None:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e15 < value < 1e15:
        raise Invalid(f"{name} must be a number.")
    return float(value)


def _texts(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Invalid(f"{name} must be a list of texts.")
    return tuple(value)


def _streams(value: Any) -> tuple[Stream, ...]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Invalid("streams must be a list of objects with sid, since and last_audio_s.")
    return tuple(
        Stream(_text(one, "sid"), _number(one, "since", 0.0) or 0.0, _number(one, "last_audio_s", 0.0) or 0.0)
        for one in value
    )


def _addresses(value: Any, name: str) -> tuple[str, ...]:
    """Addresses, whether they come as texts (with or without a port) or as objects with a host."""
    if not isinstance(value, list):
        raise Invalid(f"{name} must be a list of addresses.")
    found = [one.get("host") if isinstance(one, dict) else one for one in value]
    if not all(isinstance(one, str) for one in found):
        raise Invalid(f"{name} must be a list of addresses.")
    return tuple(str(one).partition(":")[0] for one in found)
