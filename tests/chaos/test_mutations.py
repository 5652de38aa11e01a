"""Each invariant fails when a line that upholds it is taken away.

The scenario passes on the code as it is, and breaks that very invariant on a copy with one line changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.scenarios import SCENARIOS, play

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutation:
    """Each `before` stands once in `file`, below chalicelib; with all of `after` there `invariant` breaks."""

    invariant: str
    scenario: str
    file: str
    before: str
    after: str
    more: tuple[tuple[str, str], ...] = ()
    """Further edits of the file, where one line alone is backed by others."""


MUTATIONS = [
    Mutation(
        "I1",
        "stop_under_a_stream",
        "domain/lifecycle.py",
        "    if _quiet(scene, view) and not _may_begin(scene, view, order):\n",
        "    if True:\n",
    ),
    Mutation(
        "I1",
        "stop_as_a_stream_begins",
        "domain/lifecycle.py",
        "    if _quiet(scene, view) and not _may_begin(scene, view, order):\n",
        "    if _quiet(scene, view):\n",
    ),
    Mutation(
        "I1",
        "stop_as_a_stream_begins",
        "domain/lifecycle.py",
        "    if _settled(scene, view) and (drain",
        "    if _quiet(scene, view) and (drain",
    ),
    Mutation(
        "I1",
        "stop_under_a_stream",
        "domain/lifecycle.py",
        "    if drain.kind in (DrainKind.NIGHT, DrainKind.HARD_MAX) or _quiet(scene, view):\n",
        "    if True:\n",
    ),
    Mutation(
        "I2",
        "nobody_is_left",
        "domain/lifecycle.py",
        'return Decision(view.instance_id, Action.STOP, f"no wish for {minutes}")',
        'return _hold(view, f"no wish for {minutes}")',
    ),
    Mutation(
        "I2",
        "spoken_for_hours",
        "domain/lifecycle.py",
        "hard_end = awake_since + scene.rules.hard_max_s",
        "hard_end = awake_since + 1e9",
    ),
    Mutation("I2", "the_power_of_a_gpu_is_gone", "domain/lifecycle.py", "if view.dead(scene.now):", "if False:"),
    Mutation(
        "I3",
        "the_power_of_a_gpu_is_gone",
        "domain/machines.py",
        "return self.cut_off(now) or (report",
        "return (report",
    ),
    Mutation(
        "I2",
        "nobody_can_stop_it",
        "../gpu_bootstrap/hostlink/deadman.py",
        "    if silent >= limits.silent_s:\n",
        "    if False:\n",
    ),
    Mutation(
        "I2",
        "spoken_for_hours_and_nobody_can_stop_it",
        "../gpu_bootstrap/hostlink/deadman.py",
        "    if now >= end or vitals.announced_at is not None:\n",
        "    if False:\n",
    ),
    Mutation(
        "I2",
        "nobody_is_left_long_enough_to_learn",
        "domain/linger.py",
        "    return replace(rules, idle_s=idle, idle_because=words)",
        "    return replace(rules, idle_s=idle * 60, idle_because=words)",
    ),
    Mutation(
        "I3",
        "no_room_but_another_type",
        "services/reconcile.py",
        "short = (*short, Shortage(kind, memory.zone, now + pause))",
        "short = ()",
    ),
    Mutation(
        "I3",
        "booked",
        "domain/lifecycle.py",
        "booking=wishes.booked(now, rules.lead_s)",
        "booking=wishes.booked(now)",
    ),
    Mutation(
        "I4",
        "into_the_night",
        "domain/lifecycle.py",
        "    if scene.by_night and (installation is None or evidence is Evidence.ACTIVE):\n"
        "        return _night_begins(scene, view, evidence)\n",
        "",
    ),
    Mutation(
        "I5",
        "two_passes_at_once",
        "services/reconcile.py",
        # The lock, the second look, the lock's version in every write and the memory's version: each is enough.
        "self.store.write(Put(LOCK, held, expect=version))",
        'self.store.write(Put(LOCK, {"until": 0.0}))',
        (
            (
                "            seen = self._observe(cause)\n            if not seen.nothing_to_do:\n",
                "            if True:\n",
            ),
            (
                "self.store.write(lock, *group[start : start + BATCH])",
                "self.store.write(*group[start : start + BATCH])",
            ),
            (
                "groups[0].append(Put(key, data_of(memory), expect=control.version(key)))",
                "groups[0].append(Put(key, data_of(memory)))",
            ),
        ),
    ),
    Mutation(
        "I6",
        "an_edge_that_stops",
        "domain/machines.py",
        "for view in seen if view.machine.role is Role.GPU",
        "for view in seen",
    ),
    Mutation(
        "I7",
        "a_second_gpu_serves",
        "services/host_link.py",
        "[view for view in undrained if view not in serving] or awake or known",
        "[view for view in known if view not in serving]",
    ),
    Mutation(
        "I8",
        "a_late_read",
        "domain/memory.py",
        "return _ANNOUNCES[intent.action] if now - intent.at < believed else seen",
        "return seen",
    ),
    Mutation(
        "I8",
        "killed_after_the_act",
        "domain/memory.py",
        "since = intent.at if intent is not None and intent.action == START else _launched(memory, machine, now)",
        "since = now",
    ),
    Mutation(
        "I8",
        "an_edge_that_stops",
        "services/reconcile.py",
        "if recalled.span and machine.role is Role.GPU else []",
        "if recalled.span else []",
    ),
    Mutation(
        "I9",
        "called_and_nothing_else",
        "services/context.py",
        "self.reconcile(cause, self.store.add(WISHES))",
        "self.store.add(WISHES)",
    ),
    Mutation(
        "I9",
        "asked_while_it_is_held",
        "services/reconcile.py",
        "return _Outcome.MOVED if moved else _Outcome.SETTLED",
        "return _Outcome.SETTLED",
    ),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_code_as_it_is_upholds_them(name: str) -> None:
    play(name)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: f"{one.invariant}-{one.scenario}")
def test_without_the_line_the_invariant_fails(mutation: Mutation, tmp_path: Path) -> None:
    leave = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "chalicelib", tmp_path / "chalicelib", ignore=leave)
    shutil.copytree(ROOT / "gpu_bootstrap", tmp_path / "gpu_bootstrap", ignore=leave)
    shutil.copytree(ROOT / "tests" / "chaos", tmp_path / "tests" / "chaos", ignore=leave)
    for name in ("__init__.py", "fakes.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    changed = tmp_path / "chalicelib" / mutation.file
    source = changed.read_text()
    for before, after in ((mutation.before, mutation.after), *mutation.more):
        assert source.count(before) == 1, f"the mutation no longer fits the code: {before}"
        source = source.replace(before, after)
    changed.write_text(source)
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos.scenarios", mutation.scenario],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    assert run.stdout.startswith(f"{mutation.invariant} "), run.stdout + run.stderr


def test_every_invariant_has_a_mutation() -> None:
    assert {one.invariant for one in MUTATIONS} == {f"I{number}" for number in range(1, 10)}
