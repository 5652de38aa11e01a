"""What a person must hear of, said once while it lasts: no capacity, a quota, a failing machine, the budget, a
certificate near its end, a GPU that is awake for long."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from chalicelib.domain.capacity import ladder
from chalicelib.domain.machines import MachineState, Observation, Report, View
from chalicelib.domain.rules import Rules, admission
from chalicelib.domain.wishes import Wishes

FAILING = 2
"""Times awake in a row without a ready: one stop and start is tried before anybody is called."""


@dataclass(frozen=True)
class Alert:
    """`key` names the condition; the event is written when the key appears, and again only after it was gone."""

    key: str
    action: str
    target: str
    reason: str


def alerts(
    observation: Observation, wishes: Wishes, rules: Rules, now: float, raised: Collection[str]
) -> tuple[Alert, ...]:
    """All that hold at `now`; `raised` are the keys that are told already."""
    found = [
        Alert(f"failing#{view.instance_id}", "gpu.failing", view.instance_id, _failing(view.memory.failures))
        for view in observation.gpus
        if view.memory.failures >= FAILING
    ]
    found += [
        Alert(f"broken#{view.instance_id}", "gpu.broken", view.instance_id, report.cause or "its service failed")
        for view in observation.gpus
        if (report := view.current()) is not None and report.status == "failed"
    ]
    found += [
        Alert(f"awake#{view.instance_id}#{since:.0f}", "gpu.awake_long", view.instance_id, _awake(since, rules, now))
        for view in observation.gpus
        if (since := view.memory.awake_since) is not None and 0 < rules.awake_alert_s <= now - since
    ]
    found += [
        Alert(f"certificate#{view.instance_id}", "edge.certificate", view.instance_id, _certificate(report))
        for view in observation.edges
        if (report := view.report) is not None and _near_its_end(report)
    ]
    found += [
        Alert(f"lost#{view.instance_id}", "gpu.lost", view.instance_id, _lost(view, rules, now))
        for view in observation.gpus
        if view.machine.state is MachineState.RUNNING and view.silent(now)
    ]
    wanted = wishes.booked(now, rules.lead_s) is not None or (
        admission(wishes, rules, now).open and bool(wishes.live_sessions(now, observation.streaming(now)))
    )
    asleep = [view for view in observation.gpus if view.machine.state is MachineState.STOPPED]
    if wanted and asleep and len(asleep) == len(observation.gpus):
        steps = ladder(observation.gpus, rules.types, now)
        blocked = "quota" if steps.quota else "capacity"
        lacks = steps.quota or any(view.memory.short for view in asleep)
        # Between two climbs the rungs are open for a moment; that is no news.
        if lacks and (not steps.rungs or blocked in raised):
            action = "gpu.quota" if steps.quota else "gpu.no_capacity"
            found.append(Alert(blocked, action, asleep[0].instance_id, steps.cause))
    return tuple(found)


RENEWED_AT = 1 / 3
"""The share of its life that is left when a certificate is renewed (Caddy's rule)."""


def _near_its_end(report: Report) -> bool:
    """Half of what is left at the renewal has gone, and it was not renewed."""
    if report.cert_days is None or report.cert_life_days is None:
        return False
    return report.cert_days < report.cert_life_days * RENEWED_AT / 2


def _certificate(report: Report) -> str:
    days = report.cert_days or 0.0
    left = f"{days:.0f} days" if days >= 2 else f"{max(0.0, days * 24):.0f} hours"
    return f"the edge's certificate is good for {left} more and was not renewed"


def _awake(since: float, rules: Rules, now: float) -> str:
    return f"it has been awake since {rules.clock(since, now)}, {(now - since) / 3600:.1f} hours"


def scarce(observation: Observation, rules: Rules, now: float) -> str:
    """Why no machine can be started now; empty when one can, or one is awake."""
    if any(view.machine.state is not MachineState.STOPPED for view in observation.gpus):
        return ""
    steps = ladder(observation.gpus, rules.types, now)
    return "" if steps.rungs else steps.cause


def budget_alert(month: str, spent: float, budget: float) -> Alert:
    """The month's budget is spent; a warning, nothing is stopped for it."""
    words = f"${spent:.2f} of the budget of ${budget:.2f} for {month} are spent"
    return Alert(f"budget#{month}", "budget.spent", month, words)


def _lost(view: View, rules: Rules, now: float) -> str:
    report = view.current()
    since = "" if report is None else f" since {rules.clock(report.received_at, now)}"
    count = len(view.streams())
    streams = f", with {count} stream{'' if count == 1 else 's'} on it" if count else ""
    edge = ", and the edge cannot connect to it" if view.cut_off(now) else ""
    return f"it has not reported{since}{edge}{streams}"


def _failing(times: int) -> str:
    return f"it woke {times} times in a row without becoming ready; look at its log, or replace it"
