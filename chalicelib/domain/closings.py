"""Which sessions are over: by their longest life, by silence, by the night."""

from __future__ import annotations

from dataclasses import dataclass

from chalicelib.domain.machines import MachineState, Observation
from chalicelib.domain.rules import Rules, admission
from chalicelib.domain.wishes import Session, Wishes


@dataclass(frozen=True)
class Closing:
    """A session that is over: since when, and why, in words."""

    session_id: str
    at: float
    reason: str
    kind: str = "expired"


def closings(observation: Observation, wishes: Wishes, rules: Rules, now: float) -> tuple[Closing, ...]:
    """The sessions that are over at `now` and not yet marked so."""
    streaming = observation.streaming(now)
    over = [_closing(one, one.id in streaming, now) for one in wishes.sessions if one.ended_at is None]
    found = [one for one in over if one is not None]
    deadline = _night_deadline(observation, wishes, rules, now)
    if deadline is not None and now >= deadline:
        already = {one.session_id for one in found}
        reason = admission(wishes, rules, now).because
        found += [
            Closing(one.id, deadline, reason, "night")
            for one in wishes.sessions
            if one.ended_at is None and one.id not in already
        ]
    return tuple(found)


def _closing(session: Session, streaming: bool, now: float) -> Closing | None:
    if session.live(now, streaming):
        return None
    if now >= session.max_at and (streaming or session.deadline() >= session.max_at):
        return Closing(session.id, session.max_at, "it reached its longest life")
    return Closing(session.id, session.deadline(), "no heartbeat for three minutes")


def _night_deadline(observation: Observation, wishes: Wishes, rules: Rules, now: float) -> float | None:
    """When the night ends the sessions that are still open; None while no end is due."""
    night = rules.night.at(now) if rules.night else None
    if night is None or wishes.booked(now, rules.lead_s):
        return None
    awake = [view for view in observation.gpus if view.machine.state is MachineState.RUNNING]
    drains = [view.memory.drain.closing_at for view in awake if view.memory.drain is not None]
    if len(drains) < len(awake):
        return None
    return max([night[0] + rules.night_grace_s, *drains])
