"""The decision: what to do with each machine now, and why. Pure; `decide` is the heart of the control plane.

One Decision per GPU machine in every pass, HOLD included: its reason and its `next` are what the status page
says. `decide` never acts and never waits; it is asked again at the next tick, event, report or request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from chalicelib.domain.capacity import Ladder, Rung, ladder
from chalicelib.domain.machines import Drain, DrainKind, MachineState, Observation, View
from chalicelib.domain.rules import Admission, Rules, admission
from chalicelib.domain.times import clock_text
from chalicelib.domain.wishes import Booking, Evidence, Order, OrderKind, Session, Wishes

DRAIN_S = 15.0
"""From an operator's stop or restart to the closing of streams: three reports, so that the host hears of it."""
CLOSE_MARGIN_S = 30.0
"""How long after the closing a host may take to flush last words before it is stopped anyway, where it may be."""


class Action(StrEnum):
    """What can be done with a machine."""

    START = "start"
    STOP = "stop"
    DRAIN = "drain"
    CANCEL_DRAIN = "cancel_drain"
    RESTART = "restart"
    HOLD = "hold"


@dataclass(frozen=True)
class Next:
    """What happens next of itself; `at` in epoch seconds, None when it waits for an event."""

    action: str
    at: float | None
    because: str


@dataclass(frozen=True)
class Decision:
    """What to do with one machine; `drain` comes with DRAIN."""

    instance_id: str
    action: Action
    reason: str
    next: Next | None = None
    drain: Drain | None = None
    type: str = ""
    """With START: the machine type to take on first; empty: the one it has."""
    force: bool = False
    """With STOP: without waiting for the machine's own shutdown."""
    impaired: bool = False
    """With STOP: because it runs and never reported."""


@dataclass(frozen=True)
class _Scene:
    """One pass's inputs with what several rules need from them."""

    observation: Observation
    wishes: Wishes
    rules: Rules
    now: float
    sessions: tuple[Session, ...]
    booking: Booking | None
    admission: Admission
    ladder: Ladder
    last_end: float | None

    @property
    def wanted(self) -> bool:
        return self.booking is not None or (bool(self.sessions) and self.admission.open)

    @property
    def by_night(self) -> bool:
        """Night, and no booking overrides it."""
        return self.rules.night is not None and self.booking is None and self.rules.night.at(self.now) is not None

    def who(self) -> str:
        """The wishes in words."""
        if self.booking is not None:
            if self.now < self.booking.start:
                return f"{self.booking.by} booked it for {self.rules.clock(self.booking.start, self.now)}"
            return f"{self.booking.by} booked it until {self.rules.clock(self.booking.until(), self.now)}"
        count = len(self.sessions)
        return "one session is open" if count == 1 else f"{count} sessions are open"


def _scene(observation: Observation, wishes: Wishes, rules: Rules, now: float) -> _Scene:
    streaming = observation.streaming(now)
    return _Scene(
        observation,
        wishes,
        rules,
        now,
        sessions=tuple(wishes.live_sessions(now, streaming)),
        booking=wishes.booked(now, rules.lead_s),
        admission=admission(wishes, rules, now),
        ladder=ladder(observation.gpus, rules.types, now),
        last_end=wishes.last_end(now, streaming),
    )


def decide(observation: Observation, wishes: Wishes, rules: Rules, now: float) -> tuple[Decision, ...]:
    """One decision for each GPU machine, in the order of their ids.

    One wish or a hundred want one machine for now; the machine that is awake serves before one that would
    have to be started, of those awake the one that has been ready longest, and of those that would have to be
    started, the lowest rung of the capacity ladder.
    """
    scene = _scene(observation, wishes, rules, now)
    wanted = _chosen(scene) if scene.wanted else None
    ordered = sorted(observation.gpus, key=lambda view: view.instance_id)
    return tuple(_for_machine(scene, view, view.instance_id == wanted) for view in ordered)


def _chosen(scene: _Scene) -> str | None:
    """The machine that shall serve."""
    rungs = {rung.instance_id: place for place, rung in reversed(list(enumerate(scene.ladder.rungs)))}

    def rank(view: View) -> tuple[int, float, str]:
        state = view.machine.state
        refusal = view.memory.refusal
        place, wait = 6, refusal.until if refusal is not None else 0.0
        if state is MachineState.RUNNING:
            lost = view.silent(scene.now) or _mute(scene, view)
            since = view.memory.ready_at
            place = 5 if lost else 0 if view.memory.drain is None else 2
            wait = since if since is not None else math.inf
        elif state is MachineState.PENDING:
            place, wait = 1, 0.0
        elif view.instance_id in rungs:
            place, wait = 3, float(rungs[view.instance_id])
        elif state is MachineState.STOPPING:
            place, wait = 4, 0.0
        return place, wait, view.instance_id

    alive = [view for view in scene.observation.gpus if view.machine.state not in _GONE]
    best = min(alive, key=rank, default=None)
    return None if best is None else best.instance_id


_GONE = (MachineState.SHUTTING_DOWN, MachineState.TERMINATED)


def _mute(scene: _Scene, view: View) -> bool:
    """Whether it runs and has been waited for in vain."""
    since = view.mute_since()
    return since is not None and scene.now - since >= scene.rules.mute_s


def _for_machine(scene: _Scene, view: View, wanted: bool) -> Decision:
    state = view.machine.state
    match state:
        case MachineState.STOPPED:
            return _stopped(scene, view, wanted)
        case MachineState.PENDING:
            return _hold(view, f"booting: {scene.who() if wanted else 'it was started'}", Next("ready", None, "boot"))
        case MachineState.RUNNING:
            return _running(scene, view, wanted)
        case MachineState.STOPPING:
            since = max(view.memory.state_since, view.memory.forced_at or 0.0)
            if view.memory.state is state and scene.now - since >= scene.rules.stuck_s:
                words = f"stopping for {(scene.now - view.memory.state_since) / 60:.0f} minutes, which is too long"
                return Decision(view.instance_id, Action.STOP, words, force=True)
            if wanted:
                return _hold(
                    view,
                    f"{scene.who()}, but the machine is still stopping",
                    Next("start", None, "it starts again as soon as EC2 says stopped"),
                )
            return _hold(view, "stopping", Next("asleep", None, "EC2 is stopping it"))
        case MachineState.SHUTTING_DOWN | MachineState.TERMINATED:
            return _hold(view, "the machine was terminated; a new one must be tagged or deployed")
        case _:
            assert_never(state)


def _stopped(scene: _Scene, view: View, wanted: bool) -> Decision:
    installation = scene.wishes.installation(view.instance_id)
    if installation is not None and not wanted:
        refusal = view.memory.refusal
        if refusal is not None and scene.now < refusal.until:
            return _hold(view, refusal.message, Next("start", refusal.until, "EC2 is asked again"))
        if view.memory.fell_at is not None and view.memory.fell_at >= installation.created_at:
            words = "it was switched off in the middle of an installation"
            return _hold(view, words, Next("verify", None, "the rollout ends"))
        return Decision(view.instance_id, Action.START, f"release {installation.release} is to be installed")
    if not wanted:
        if not scene.admission.open:
            return _hold(
                view,
                scene.admission.because,
                Next("open", scene.admission.until, "sessions are admitted again"),
            )
        if scene.wanted:
            steps = scene.ladder
            cause = "" if steps.rungs else steps.cause
            return _hold(view, cause or "another machine serves", Next("start", steps.again_at, "it is needed"))
        return _hold(view, "nobody wants to speak", Next("start", None, "a session or a booking wakes it"))
    rung: Rung | None = next((one for one in scene.ladder.rungs if one.instance_id == view.instance_id), None)
    if rung is None:
        cause = scene.ladder.cause or "it cannot be started now"
        return _hold(view, cause, Next("start", scene.ladder.again_at, "EC2 is asked again"))
    changed = rung.type if rung.type != view.machine.type else ""
    words = f"{scene.who()}; as {changed}" if changed else scene.who()
    return Decision(view.instance_id, Action.START, words, type=changed)


def _running(scene: _Scene, view: View, wanted: bool) -> Decision:
    awake_since = view.memory.awake_since if view.memory.awake_since is not None else scene.now
    hard_end = awake_since + scene.rules.hard_max_s
    if scene.now >= hard_end:
        return Decision(view.instance_id, Action.STOP, f"awake since {clock_text(awake_since)}, the hard maximum")
    if view.dead(scene.now):
        words = "it neither reports nor takes connections: nothing can live on it any more"
        return Decision(view.instance_id, Action.STOP, words, impaired=True)
    if view.memory.drain is not None:
        return _draining(scene, view, view.memory.drain, wanted)
    ordered = _ordered(scene, view, awake_since)
    if ordered is not None:
        return ordered
    installation = scene.wishes.installation(view.instance_id)
    if installation is None and scene.wanted and _mute(scene, view):
        words = f"it runs since {clock_text(view.mute_since() or awake_since)} and never reported"
        return Decision(view.instance_id, Action.STOP, words, impaired=True)
    evidence = view.evidence(scene.now)
    if scene.by_night and (installation is None or evidence is Evidence.ACTIVE):
        return _night_begins(scene, view, evidence)
    if evidence is not Evidence.IDLE and scene.now >= hard_end - scene.rules.night_grace_s:
        drain = Drain(DrainKind.HARD_MAX, scene.now, hard_end, "the GPU reaches its hard maximum")
        return Decision(view.instance_id, Action.DRAIN, drain.reason, drain=drain)
    if installation is not None:
        words = f"release {installation.release} is being installed"
        return _hold(view, words, Next("verify", None, "the rollout ends"))
    if wanted:
        return _hold(view, scene.who(), _when_wish_ends(scene))
    return _linger(scene, view, evidence, awake_since)


def _ordered(scene: _Scene, view: View, awake_since: float) -> Decision | None:
    """An operator's stop or restart that this machine has not yet followed."""
    restart = scene.wishes.order(OrderKind.RESTART)
    restarted_at = view.memory.restarted_at or 0.0
    if restart is not None and restart.at >= awake_since and restart.at > restarted_at:
        return _follow(scene, view, restart, DrainKind.RESTART)
    stop = scene.wishes.order(OrderKind.STOP)
    if stop is not None and stop.at >= awake_since and not _wished_since(scene, stop.at):
        return _follow(scene, view, stop, DrainKind.STOP)
    return None


def _wished_since(scene: _Scene, at: float) -> bool:
    newer = any(one.created_at > at for one in scene.sessions)
    return newer or (scene.booking is not None and scene.booking.created_at > at)


def _follow(scene: _Scene, view: View, order: Order, kind: DrainKind) -> Decision:
    words = f"{order.by} asked for it" + (f": {order.reason}" if order.reason else "")
    act = Action.RESTART if kind is DrainKind.RESTART else Action.STOP
    if order.force:
        return Decision(view.instance_id, act, f"{words} (forced)")
    if _quiet(scene, view) and not _may_begin(scene, view, order):
        return Decision(view.instance_id, act, words)
    drain = Drain(kind, scene.now, scene.now + DRAIN_S, words)
    return Decision(view.instance_id, Action.DRAIN, words, drain=drain)


def _quiet(scene: _Scene, view: View) -> bool:
    """Certain that nothing streams."""
    return view.never_served() or view.evidence(scene.now) is Evidence.IDLE


def _may_begin(scene: _Scene, view: View, order: Order) -> bool:
    """Whether a stream may have begun that the host has not told of: it takes streams, and somebody held a ticket.

    Such a host is asked to drain first, and stops when it says that it takes no more and that nothing streams.
    """
    report = view.fresh(scene.now)
    if report is None or not report.takes_streams:
        return False
    return not scene.rules.tickets or bool(scene.sessions) or scene.wishes.ended_by_stop(order.at)


def _settled(scene: _Scene, view: View) -> bool:
    """Certain that nothing streams, and that nothing can begin any more."""
    report = view.fresh(scene.now)
    return _quiet(scene, view) and (view.never_served() or report is None or not report.takes_streams)


def _draining(scene: _Scene, view: View, drain: Drain, wanted: bool) -> Decision:
    if drain.kind is DrainKind.NIGHT and not scene.by_night:
        return Decision(view.instance_id, Action.CANCEL_DRAIN, "a booking covers the night" if wanted else "morning")
    act = Action.RESTART if drain.kind is DrainKind.RESTART else Action.STOP
    forced = scene.wishes.order(OrderKind.RESTART if act is Action.RESTART else OrderKind.STOP)
    if forced is not None and forced.force and forced.at >= drain.since:
        return Decision(view.instance_id, act, f"{drain.reason} (forced)")
    if _settled(scene, view) and (drain.kind is not DrainKind.NIGHT or not scene.sessions):
        return Decision(view.instance_id, act, drain.reason)
    follows = Next(act.value, drain.closing_at, "streams are closed by then")
    if scene.now < drain.closing_at + CLOSE_MARGIN_S and not (
        scene.now >= drain.closing_at and view.evidence(scene.now) is Evidence.IDLE
    ):
        return _hold(view, f"draining: {drain.reason}", follows)
    if drain.kind in (DrainKind.NIGHT, DrainKind.HARD_MAX) or _quiet(scene, view):
        return Decision(view.instance_id, act, drain.reason)
    if scene.by_night:
        # What would not end for an operator has the night's notice and grace, and no more.
        return _night_begins(scene, view, view.evidence(scene.now))
    if view.evidence(scene.now) is Evidence.ACTIVE:
        return _hold(view, "streams did not end at the closing", Next(act.value, None, "they end, or force"))
    return _hold(
        view,
        "the GPU host does not report, so nobody can say whether somebody still speaks",
        Next(act.value, None, "it reports again, or force"),
    )


def _night_begins(scene: _Scene, view: View, evidence: Evidence) -> Decision:
    if evidence is Evidence.IDLE and not scene.sessions:
        return Decision(view.instance_id, Action.STOP, scene.admission.because)
    drain = Drain(
        DrainKind.NIGHT, scene.now, scene.now + scene.rules.night_grace_s, scene.admission.because or "night"
    )
    return Decision(view.instance_id, Action.DRAIN, drain.reason, drain=drain)


def _when_wish_ends(scene: _Scene) -> Next:
    minutes = _idle_minutes(scene)
    if scene.booking is not None and not scene.sessions:
        return Next("stop", scene.booking.until() + scene.rules.idle_s, f"{minutes} after the booking")
    return Next("stop", None, f"{minutes} after the last session ends")


def _idle_minutes(scene: _Scene) -> str:
    return f"{round(scene.rules.idle_s / 60, 1):g} minutes"


def _idle_since(scene: _Scene, view: View) -> float:
    """Since when nobody has wanted this machine: the latest of its start, the last wish and the last stream."""
    moments = [view.memory.awake_since or 0.0, scene.last_end or 0.0]
    report = view.current()
    if report is not None and report.streamed_at is not None:
        moments.append(report.streamed_at)
    return min(max(moments), scene.now)


def _linger(scene: _Scene, view: View, evidence: Evidence, awake_since: float) -> Decision:
    if evidence is Evidence.UNKNOWN and scene.rules.tickets and view.never_served():
        # It never reported ready, so no ticket was given out for it: silence here hides nobody.
        evidence = Evidence.IDLE
    since = _idle_since(scene, view)
    if evidence is Evidence.ACTIVE:
        return _hold(view, "somebody speaks without a session", _when_wish_ends(scene))
    minutes = _idle_minutes(scene)
    if scene.now < since + scene.rules.idle_s:
        because = f": {scene.rules.idle_because}" if scene.rules.idle_because else ""
        return _hold(
            view,
            f"nobody has wanted it since {clock_text(since)}; it lingers {minutes}{because}",
            Next("stop", since + scene.rules.idle_s, f"{minutes} without a wish"),
        )
    match evidence:
        case Evidence.IDLE:
            return Decision(view.instance_id, Action.STOP, f"no wish for {minutes}")
        case Evidence.UNKNOWN:
            return _hold(
                view,
                "no wish is left, but the GPU host does not report, so nobody can say whether somebody speaks",
                Next("stop", awake_since + scene.rules.hard_max_s, "the hard maximum, unless it reports idle before"),
            )
        case _:
            assert_never(evidence)


def _hold(view: View, reason: str, follows: Next | None = None) -> Decision:
    return Decision(view.instance_id, Action.HOLD, reason, follows)
