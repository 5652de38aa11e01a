"""What is measured, and when: each metric's name, unit and meaning stand here and only here.

While everything sleeps nothing is measured, so that metrics then cost nothing.

| metric              | unit         | when, and what                                                             |
|---------------------|--------------|----------------------------------------------------------------------------|
| `WakeSeconds`       | Seconds      | at the first ready of a time awake, by `Phase`: capacity, boot, service     |
| `Streams`           | Count        | each tick while a GPU is awake: live streams                                |
| `GpusAwake`         | Count        | each tick while a GPU is awake                                              |
| `AwakeSeconds`      | Seconds      | each tick while a GPU is awake: the longest of these times so far           |
| `FirstWordSeconds`  | Seconds      | as a client reports it: from the first sample to the first word             |
| `FinalSeconds`      | Seconds      | as a client reports it: a word's last sample to its final text, p95         |
| `LostSeconds`       | Seconds      | as a client reports it: speech that became no words, since its last report  |
| `AudioSeconds`      | Seconds      | as a client reports it: speech captured, since its last report              |
| `Words`             | Count        | as a client reports it: final words, since its last report                  |
| `GpuHours`          | Count        | at the end of a time awake                                                  |
| `CostDollars`       | Count        | at the end of a time awake; not where the type's price is not known         |
| `ReconcileSeconds`  | Seconds      | each pass that did something                                                |
| `FailedProbes`      | Count        | each probe that failed, by `Layer`: the cause                               |
| `Probes`            | Count        | each probe that was made of what is awake                                   |
| `NotificationsFailed` | Count      | each time a channel did not take one, by `Channel`                          |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chalicelib.domain.ledger import Span, Wake, cost
from chalicelib.domain.machines import Observation
from chalicelib.domain.wishes import Session
from chalicelib.ports import Measure, Unit


def of_wakes(wakes: Iterable[Wake]) -> Iterator[Measure]:
    """How long each phase of a waking took."""
    for one in wakes:
        for phase, seconds in (("capacity", one.sought_s), ("boot", one.boot_s), ("service", one.service_s)):
            yield Measure("WakeSeconds", round(seconds, 3), Unit.SECONDS, ("Phase", phase))


def of_spans(spans: Iterable[Span]) -> Iterator[Measure]:
    """What a time awake was, and cost."""
    for one in spans:
        if one.stopped_at is None:
            continue
        yield Measure("GpuHours", round(one.seconds(one.started_at, one.stopped_at + 60) / 3600, 4))
        spent = cost([one], one.started_at, one.stopped_at + 60)
        if spent is not None:
            yield Measure("CostDollars", spent)


def of_now(observation: Observation, now: float) -> Iterator[Measure]:
    """The gauges; none while nothing is awake."""
    awake = [view for view in observation.gpus if view.machine.state.awake]
    if not awake:
        return
    since = [view.memory.awake_since for view in awake if view.memory.awake_since is not None]
    yield Measure("GpusAwake", len(awake))
    yield Measure("Streams", sum(len(view.streams()) for view in awake))
    yield Measure("AwakeSeconds", round(now - min(since, default=now), 1), Unit.SECONDS)


def of_heartbeat(before: Session, after: Session) -> Iterator[Measure]:
    """What the client measured since its last heartbeat."""
    latency = after.latency if isinstance(after.latency, dict) else {"final_p95": after.latency}
    if before.latency != after.latency:
        first, final = latency.get("first_word"), latency.get("final_p95")
        had_first = isinstance(before.latency, dict) and "first_word" in before.latency
        if first is not None and not had_first:
            yield Measure("FirstWordSeconds", first, Unit.SECONDS)
        if final is not None:
            yield Measure("FinalSeconds", final, Unit.SECONDS)
    for name, unit, was, now in (
        ("LostSeconds", Unit.SECONDS, before.lost_seconds, after.lost_seconds),
        ("AudioSeconds", Unit.SECONDS, before.audio_seconds, after.audio_seconds),
        ("Words", Unit.COUNT, before.words, after.words),
    ):
        if now is not None and now > (was or 0.0):
            yield Measure(name, round(now - (was or 0.0), 3), unit)


def of_probe(cause: str | None) -> Iterator[Measure]:
    """A probe of what is awake; `cause` is the layer that failed, None when all is well."""
    yield Measure("Probes", 1)
    if cause is not None:
        yield Measure("FailedProbes", 1, Unit.COUNT, ("Layer", cause))
        yield Measure("FailedProbes", 1)
