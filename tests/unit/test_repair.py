"""What a probe leads to: what is kept, when a canary speaks, what is repaired once, and what a person hears."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.domain import repair as rules_of_repair
from chalicelib.domain.machines import Drain, DrainKind, Machine, MachineState, Memory, Report, Role, Stream, View
from chalicelib.domain.probes import Layer, LayerName, Probe, Verdict, conclude, failed
from chalicelib.domain.repair import (
    AGAIN_S,
    CANARY_EVERY_S,
    CONFIRM_S,
    KEEP_S,
    SETTLE_S,
    Health,
    Repair,
    RepairKind,
    canary_due,
    failing,
    followed,
    probe_alerts,
    repair,
    worth_keeping,
)
from chalicelib.domain.rules import Rules

NOW = 1_800_000_000.0
ORDER = list(LayerName)


def probe(cause: LayerName | None = None, *, waiting: bool = False) -> Probe:
    if waiting:
        return conclude([Layer(LayerName.TABLE, Verdict.OK, "answers")], "it wakes")
    if cause is None:
        return conclude([Layer(name, Verdict.OK, "well") for name in ORDER])
    before = [Layer(name, Verdict.OK, "well") for name in ORDER[: ORDER.index(cause)]]
    return conclude([*before, failed(cause, "it is broken")])


def gpu(name: str = "i-gpu", state: MachineState = MachineState.RUNNING, **report: object) -> View:
    memory = Memory(name, Role.GPU, state, NOW - 3600, awake_since=NOW - 3600, running_at=NOW - 3550)
    memory = replace(memory, ready_at=NOW - 3500)
    said = replace(Report(NOW - 2, "boot", "ready", max_streams=4), **report)  # type: ignore[arg-type]  # its fields
    return View(Machine(name, Role.GPU, state), memory, said)


def edge() -> View:
    memory = Memory("i-edge", Role.EDGE, MachineState.RUNNING, NOW - 9e5)
    return View(Machine("i-edge", Role.EDGE, MachineState.RUNNING), memory, Report(NOW - 2, status="ready"))


def broken(cause: LayerName, lasted_s: float = 60.0, **known: object) -> Health:
    """It failed first so long ago, and failed again just now."""
    first = followed(Health(), probe(cause), host="i-gpu", trigger="t", spoke=True, now=NOW - lasted_s)
    again = followed(first, probe(cause), host="i-gpu", trigger="t", spoke=True, now=NOW)
    return replace(again, **known)  # type: ignore[arg-type]  # its fields


def test_a_failure_counts_when_it_lasts_from_one_look_to_the_next() -> None:
    health = broken(LayerName.CANARY, 0.0)
    assert not failing(health)
    again = followed(health, probe(LayerName.READY), host="i-gpu", trigger="t", spoke=True, now=NOW + 60)
    assert failing(again)
    assert again.since == NOW
    good = followed(again, probe(), host="i-gpu", trigger="t", spoke=True, now=NOW + 120)
    assert (good.since, good.heard_at, good.ok) == (None, NOW + 120, True)


def test_one_that_loads_proves_nothing_and_clears_nothing() -> None:
    loading = followed(broken(LayerName.CANARY), probe(waiting=True), host="i-gpu", trigger="t", spoke=False, now=NOW)
    assert (loading.since, loading.waiting_since, loading.cause) == (NOW - 60, NOW, None)
    later = followed(loading, probe(waiting=True), host="i-gpu", trigger="t", spoke=False, now=NOW + 60)
    assert later.waiting_since == NOW
    too_long = followed(later, probe(LayerName.REPORT), host="i-gpu", trigger="t", spoke=False, now=NOW + 400)
    assert too_long.waiting_since == NOW, "or the next look would take it for one that has just begun to load"


def test_only_news_are_kept() -> None:
    green = followed(Health(), probe(), host="i-gpu", trigger="t", spoke=True, now=NOW)
    bad = broken(LayerName.CANARY)

    def keeps(health: Health, one: Probe, *, spoke: bool = False, silent: bool = False, at: float = 60.0) -> bool:
        return worth_keeping(health, one, spoke=spoke, silent=silent, now=NOW + at)

    assert keeps(green, probe(), spoke=True)
    assert keeps(green, probe(LayerName.EDGE))
    assert not keeps(broken(LayerName.EDGE), probe(LayerName.EDGE))
    assert keeps(broken(LayerName.EDGE), probe(LayerName.EDGE), at=KEEP_S)
    for kept in (green, bad):
        assert not keeps(kept, probe(waiting=True), silent=True, at=KEEP_S), "it says nothing about words"
    assert keeps(green, probe(waiting=True))


@pytest.mark.parametrize(
    ("health", "why"),
    [
        (Health(), "the GPU woke"),
        (Health(at=NOW - 4000, ok=True, canary_at=NOW - 3600), "the GPU woke"),
        (Health(at=NOW - 60, ok=True, canary_at=NOW - 60), ""),
        (Health(at=NOW - 60, ok=True, canary_at=NOW - CANARY_EVERY_S), "every 15 minutes"),
        (Health(at=NOW - 60, canary_at=NOW - 60), "it serves again"),
        (broken(LayerName.EDGE, 600, canary_at=NOW - 60), "it serves again"),
        (broken(LayerName.CANARY, CONFIRM_S - 1, canary_at=NOW - 30), "the last one failed"),
        (broken(LayerName.CANARY, 120, canary_at=NOW - 60), ""),
        (
            broken(
                LayerName.CANARY,
                120,
                canary_at=NOW - 60,
                repairs=(Repair(RepairKind.RESTART, "i-gpu", NOW - 60, ""),),
            ),
            "the last one failed",
        ),
        (broken(LayerName.CANARY, 2000, canary_at=NOW - CANARY_EVERY_S), "every 15 minutes"),
    ],
)
def test_when_a_canary_speaks(health: Health, why: str) -> None:
    assert canary_due(health, gpu(), NOW, rehearsal=False, wanted=None) == why


def test_bookings_rollouts_and_restarts_want_a_canary() -> None:
    fresh = Health(at=NOW - 60, ok=True, canary_at=NOW - 60)
    assert canary_due(fresh, gpu(), NOW, rehearsal=True, wanted=None) == "a booking comes"
    assert canary_due(fresh, gpu(), NOW, rehearsal=False, wanted=(NOW - 30, "a release")) == "a release"
    assert canary_due(fresh, gpu(), NOW, rehearsal=False, wanted=(NOW - 90, "a release")) == ""
    restarted = replace(gpu(), memory=replace(gpu().memory, restarted_at=NOW - 30))
    assert canary_due(fresh, restarted, NOW, rehearsal=False, wanted=None) == "the service was restarted"


@pytest.mark.parametrize("cause", [LayerName.REPORT, LayerName.UPGRADE, LayerName.READY, LayerName.CANARY])
def test_a_service_that_does_not_serve_is_restarted_once(cause: LayerName) -> None:
    health = broken(cause)
    tried = repair(health, [gpu()], [edge()], NOW)
    assert tried is not None
    assert (tried.kind, tried.instance_id, tried.reason) == (RepairKind.RESTART, "i-gpu", "it is broken")
    after = replace(health, repairs=(tried,))
    for later in (10.0, SETTLE_S + 1, AGAIN_S - 1):
        assert repair(after, [gpu(received_at=NOW + later)], [edge()], NOW + later) is None
    assert repair(after, [gpu(received_at=NOW + AGAIN_S)], [edge()], NOW + AGAIN_S) is not None


def test_a_wrong_upstream_is_refreshed_once() -> None:
    health = broken(LayerName.UPSTREAM)
    tried = repair(health, [gpu()], [edge()], NOW)
    assert tried is not None
    assert (tried.kind, tried.instance_id) == (RepairKind.REFRESH, "i-edge")
    assert repair(replace(health, repairs=(tried,)), [gpu()], [edge()], NOW + SETTLE_S) is None


@pytest.mark.parametrize(
    "cause", [LayerName.TABLE, LayerName.MACHINE, LayerName.AGENT, LayerName.EDGE, LayerName.CERTIFICATE]
)
def test_what_no_command_mends_is_left_to_a_person(cause: LayerName) -> None:
    assert repair(broken(cause), [gpu()], [edge()], NOW) is None


def test_nothing_is_tried_on_a_chance() -> None:
    assert repair(broken(LayerName.CANARY, CONFIRM_S - 1), [gpu()], [edge()], NOW) is None
    assert repair(Health(at=NOW, ok=True), [gpu()], [edge()], NOW) is None


def test_a_server_that_works_for_somebody_is_never_restarted() -> None:
    health = broken(LayerName.READY, 90)
    speaks = (Stream("s1", 600, 0.1),)
    assert repair(health, [gpu(streams=speaks, decoded_at=NOW - 5)], [], NOW) is None, "it decodes for them"
    assert repair(health, [gpu(streams=speaks, decoded_at=NOW - 600)], [], NOW) is not None, "for nobody any more"
    assert repair(health, [gpu(streams=speaks)], [], NOW) is not None
    assert repair(health, [gpu(decoded_at=NOW - 5)], [], NOW) is not None, "nobody streams"
    mute = replace(gpu(streams=speaks), report=replace(gpu().report, received_at=NOW - 60))  # type: ignore[type-var]
    assert repair(health, [mute], [], NOW) is None, "unknown is not idle"
    drains = replace(gpu(), memory=replace(gpu().memory, drain=Drain(DrainKind.STOP, NOW, NOW + 15, "")))
    assert repair(health, [drains], [], NOW) is None


def test_with_two_awake_nobody_knows_which_one_it_was() -> None:
    assert repair(broken(LayerName.CANARY), [gpu(), gpu("i-other")], [], NOW) is None
    asleep = gpu("i-other", MachineState.STOPPED)
    assert repair(broken(LayerName.CANARY), [gpu(), asleep], [], NOW) is not None
    assert repair(broken(LayerName.CANARY), [gpu("i-another")], [], NOW) is None, "it was about another machine"


def test_a_person_hears_when_nothing_more_is_tried() -> None:
    assert probe_alerts(Health(at=NOW, ok=True), Rules(), NOW) == ()
    assert probe_alerts(broken(LayerName.EDGE, CONFIRM_S - 1), Rules(), NOW) == ()
    (edge_down,) = probe_alerts(broken(LayerName.EDGE), Rules(), NOW)
    assert (edge_down.key, edge_down.action) == ("probe#edge", "probe.failed")
    assert "nothing could be tried" in edge_down.reason
    assert "whisperctl restart edge" in edge_down.reason
    tried = Repair(RepairKind.RESTART, "i-gpu", NOW - 100, "it hangs", went="succeeded")
    hung = broken(LayerName.CANARY, 200, repairs=(tried,))
    assert probe_alerts(hung, Rules(), NOW) == (), "it may still help"
    (gave_up,) = probe_alerts(hung, Rules(), NOW + SETTLE_S)
    assert "tried in vain: restart at" in gave_up.reason
    assert "(succeeded)" in gave_up.reason
    assert probe_alerts(broken(LayerName.MACHINE), Rules(), NOW) == (), "others tell of machines"


def test_what_was_tried_is_forgotten_in_time() -> None:
    old = broken(LayerName.CANARY, 60, repairs=(Repair(RepairKind.RESTART, "i-gpu", NOW - AGAIN_S, ""),))
    assert followed(old, probe(), host="i-gpu", trigger="t", spoke=True, now=NOW).repairs == ()
    assert rules_of_repair.settling(old, NOW) is False
