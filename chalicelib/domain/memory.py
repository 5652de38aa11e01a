"""How the engine's memory of a machine follows what is observed. Pure; called in every pass.

EC2's reads are eventually consistent: for a while after a start, DescribeInstances may still say stopped. The
intent written before the act bridges that: what it announced is believed over a contradicting read until
EC2 confirms it or `EVENTUAL_S` have passed. An intent that was never marked as acted is a pass that died between
writing and recording: it is believed for `UNRECORDED_S` only, then EC2's word counts again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chalicelib.domain.ledger import Span, Wake
from chalicelib.domain.machines import Intent, Machine, MachineState, Memory, Refusal, Report, Role

EVENTUAL_S = 60.0
UNRECORDED_S = 10.0
SELF_STOP_PAUSE_S = 60.0
FLAPPING_PAUSE_S = 900.0
LONGEST_PAUSE_S = 3600.0

START = "start"
STOP = "stop"
RESTART = "restart"

_CONFIRMS = {
    START: (MachineState.PENDING, MachineState.RUNNING),
    STOP: (MachineState.STOPPING, MachineState.STOPPED, MachineState.SHUTTING_DOWN, MachineState.TERMINATED),
}
_ANNOUNCES = {START: MachineState.PENDING, STOP: MachineState.STOPPING}


@dataclass(frozen=True)
class Recalled:
    """The memory brought up to date, the state to decide on, and the time awake that ended, if one did."""

    memory: Memory
    state: MachineState
    span: Span | None = None
    late: Intent | None = None
    """An act that EC2 shows and that nobody recorded: the pass that did it was cut off."""
    by_itself: bool = False
    """The machine left its time awake without anybody having asked it here."""


def effective_state(seen: MachineState, intent: Intent | None, now: float) -> MachineState:
    """EC2's state with its own late reads corrected by what was just asked of it."""
    if intent is None or intent.action not in _ANNOUNCES or seen in _CONFIRMS[intent.action]:
        return seen
    believed = EVENTUAL_S if intent.acted else UNRECORDED_S
    return _ANNOUNCES[intent.action] if now - intent.at < believed else seen


def recall(machine: Machine, memory: Memory | None, now: float, report: Report | None = None) -> Recalled:
    """Bring the memory up to date with one observation; `report` is the host's last one, of whatever time awake."""
    if memory is None:
        # Nothing is known of its past, so any launch time is believed.
        fresh = Memory(machine.instance_id, machine.role, machine.state, state_since=0.0)
        return Recalled(_entered(_described(fresh, machine), machine, None, now, served=False), machine.state)
    memory = _described(memory, machine)
    state = effective_state(machine.state, memory.intent, now)
    if state is not machine.state:
        return Recalled(memory, state)  # EC2 has not caught up: nothing is known that was not written already
    intent = memory.intent
    late = None
    if intent is not None and intent.action in _ANNOUNCES:
        memory = replace(memory, intent=None)
        late = intent if not intent.acted and state in _CONFIRMS[intent.action] else None
    if state is memory.state:
        return Recalled(memory, state)
    span = None
    if memory.state.awake and not state.awake and memory.awake_since is not None:
        span = Span(machine.instance_id, memory.type, memory.awake_since, now)
    asked = intent is not None and intent.action == STOP
    by_itself = memory.state is MachineState.RUNNING and not state.awake and not asked
    served = memory.ready_at is not None or _was_ready(memory, report)
    return Recalled(_entered(memory, machine, intent, now, served=served), state, span, late, by_itself)


def _was_ready(memory: Memory, report: Report | None) -> bool:
    """Whether the host said in this time awake that it was ready, though no pass has come to note it."""
    since = memory.awake_since
    return report is not None and since is not None and report.received_at > since and report.was_ready


def _described(memory: Memory, machine: Machine) -> Memory:
    return replace(
        memory,
        type=machine.type or memory.type,
        zone=machine.zone or memory.zone,
        private_ip=machine.private_ip or memory.private_ip,
    )


def _entered(memory: Memory, machine: Machine, intent: Intent | None, now: float, *, served: bool) -> Memory:
    """The memory as the machine enters the state it is in now; `served`: it was ready before."""
    before, state = memory.state, machine.state
    entered = replace(memory, state=state, state_since=now)
    if state.awake:
        since = memory.awake_since
        if since is None:
            since = intent.at if intent is not None and intent.action == START else _launched(memory, machine, now)
        running_at = memory.running_at
        if state is MachineState.RUNNING and running_at is None:
            running_at = now
        return replace(entered, awake_since=since, running_at=running_at, refusal=None, short=())
    asked = intent is not None and intent.action == STOP
    if before.awake and not asked:
        entered = replace(entered, fell_at=now)
    if before.awake and memory.role is Role.GPU and not served and not asked:
        entered = failed(entered, "the machine stopped by itself before it was ready", SELF_STOP_PAUSE_S, now)
    return replace(entered, awake_since=None, running_at=None, ready_at=None, drain=None)


def failed(memory: Memory, message: str, first_pause_s: float, now: float) -> Memory:
    """One more time awake without a ready. From the second in a row on, the pauses grow: the flapping guard."""
    count = memory.failures + 1
    pause = first_pause_s if count == 1 else min(FLAPPING_PAUSE_S * 2 ** (count - 2), LONGEST_PAUSE_S)
    return replace(memory, failures=count, refusal=Refusal("failed", message, now, now + pause))


def _launched(memory: Memory, machine: Machine, now: float) -> float:
    """When a machine that somebody else started came up: EC2's launch time, unless it is of an earlier start."""
    launched = machine.launched_at
    if launched is None or launched > now or launched < memory.state_since - EVENTUAL_S:
        return now
    return launched


def first_ready(memory: Memory, now: float) -> tuple[Memory, Wake | None]:
    """Note the first ready of this time awake; the Wake is for the history."""
    if memory.ready_at is not None or memory.awake_since is None:
        return memory, None
    running_at = memory.running_at if memory.running_at is not None else now
    wake = Wake(now, max(0.0, running_at - memory.awake_since), max(0.0, now - running_at), memory.sought_s)
    return replace(memory, ready_at=now, running_at=running_at, failures=0), wake
