"""Probes of a stack that is well raise no alarm, over many simulated hours (PROBE_HOURS; `make calm`: 1,000)."""

from __future__ import annotations

import os

import pytest

from chalicelib.domain.probes import Heard
from tests.chaos.calm import Calm

HOURS = float(os.environ.get("PROBE_HOURS", "10"))
EACH_H = 100.0


@pytest.mark.parametrize("seed", range(max(1, round(HOURS / EACH_H))))
def test_no_false_alarm(seed: int) -> None:
    hours = min(EACH_H, HOURS)
    calm = Calm(seed)
    calm.run(hours)
    assert calm.looks >= hours * 59
    assert calm.awake_looks > calm.looks / 10, "or most of it proves little"
    assert calm.boots > 0
    spoken = len(calm.dialler.spoken)
    assert spoken >= calm.boots, "a canary after each wake"
    print(f"{hours:g} h, {calm.looks} looks, {calm.awake_looks} awake, {spoken} canaries, once {dict(calm.blips)}")  # noqa: T201  # the figures
    assert calm.alarms() == []
    assert calm.doubles == 0, "a failure that is no failure was there at two looks"


def test_an_alarm_would_be_seen() -> None:
    calm = Calm(1)
    calm.run(0.2)
    calm.dialler.speak = lambda *_: Heard(problem="no END within 15 s", upgrade_s=0.1, ready_s=0.2)  # type: ignore[method-assign]
    calm.come_at = calm.clock()
    calm.run(1)
    assert calm.doubles > 0
    assert calm.alarms()[-1].startswith("probe.failed: canary: no END")
