"""A rollout: one release brought to every host of a kind, one after the other, one SSM command a step.

Pure: `decide` is asked again at every tick, event, report and look, and answers with the rollout as it is to be
written and, where something is to be done, the step whose command is to be sent. Nothing here waits: what takes
time is looked at again later, and everything that may take time has an end.

    wake → configure → fetch → stage → activate → verify → prune      the next host, or succeeded
                                          └────┬────┘
                                            rollback                  rolled_back, or failed

The host puts the release before it back by itself when `activate` or `verify` fail there (exit code 71). The step
`rollback` is for what the host could not tell: its command was lost or timed out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from chalicelib.domain.machines import MachineState, Role
from chalicelib.domain.remote import DELIVERY_TIMEOUT_S, TAIL, CommandResult, CommandState

WAKE = "wake"
CURRENT = "already current"
ROLLBACK = "rollback"
STEPS = ("configure", "fetch", "stage", "activate", "verify", "prune")
LIMITS_S = {
    "configure": 60,
    "fetch": 1800,
    "stage": 900,
    "activate": 420,
    "verify": 300,
    "prune": 120,
    ROLLBACK: 420,
}
"""How long each step's command may run on the host, in seconds."""
ON_TRIAL = ("activate", "verify")
"""Steps after whose failure the release before must serve again."""

WAKE_S = 900.0
"""How long a machine may take to run; the capacity ladder is not climbed for a release."""
AGENT_S = 300.0
"""How long SSM's agent may take to be there once the machine runs."""
STREAMS_S = 1800.0
"""How long live streams are waited for before `activate`."""
SENDING_S = 40.0
"""A step that was to be sent this long ago and has no command id was never recorded: it is sent again, which the
host takes as no change."""
SILENT_S = 90.0
"""How long after all its time is over SSM may still owe an answer."""
DELIVERIES = 2
"""How often a command is sent before it counts as lost."""

PUT_BACK = 71
"""release.py's exit code for: it failed, and the release before serves again."""
BROKEN = 72
"""... and the release before does not serve."""


class State(StrEnum):
    """How a rollout stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


class StepState(StrEnum):
    """How a step stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Step:
    """One step on one host; times in epoch seconds."""

    host: str
    name: str
    began_at: float
    state: StepState = StepState.RUNNING
    ended_at: float | None = None
    sent_at: float | None = None
    """When its command was handed to SSM, or was about to be; None: it waits for something."""
    command_id: str = ""
    attempts: int = 0
    output_tail: str = ""
    waits_for: str = ""


@dataclass(frozen=True)
class Rollout:
    """One release on its way to the hosts of its target."""

    id: str
    target: Role
    release: str
    """The name: the first 16 digits of `sha256`."""
    sha256: str
    hosts: tuple[str, ...]
    by: str
    created_at: float
    force: bool = False
    api_url: str = ""
    steps: tuple[Step, ...] = ()
    state: State = State.RUNNING
    verdict: str = ""
    ended_at: float | None = None
    failure: str = ""
    """Why `rollback` was asked for."""

    @property
    def host(self) -> str | None:
        """The host whose turn it is."""
        last = (STEPS[-1], CURRENT)
        done = {one.host for one in self.steps if one.name in last and one.state is StepState.SUCCEEDED}
        return next((one for one in self.hosts if one not in done), None)

    @property
    def step(self) -> Step | None:
        """The step under way."""
        last = self.steps[-1] if self.steps else None
        return last if last is not None and last.state is StepState.RUNNING else None

    def last_of(self, host: str) -> Step | None:
        """The latest step of a host."""
        return next((one for one in reversed(self.steps) if one.host == host), None)


@dataclass(frozen=True)
class HostSeen:
    """What is known of the host whose turn it is."""

    state: MachineState
    running_at: float | None = None
    draining: bool = False
    current: bool = False
    """It has this very release with these very settings, proved good."""
    streams: int | None = 0
    """Live streams that `activate` would end; None: nobody knows."""


@dataclass(frozen=True)
class Move:
    """The rollout as it is to be written; `send`: then send this step's command."""

    rollout: Rollout
    send: Step | None = None


def decide(rollout: Rollout, seen: HostSeen | None, result: CommandResult | None, now: float) -> Move:
    """What comes next. `seen`: the host whose turn it is, None where EC2 shows none; `result`: what SSM says of the
    step's command, None where there is no word yet."""
    if rollout.state is not State.RUNNING:
        return Move(rollout)
    host = rollout.host
    if host is None:
        return Move(_ended(rollout, State.SUCCEEDED, _success(rollout), now))
    step = rollout.step
    if seen is None:
        return Move(_failed(rollout, host, step, "the machine is no longer part of this stack", now))
    if step is None:
        return _next_step(rollout, host, seen, now)
    if step.name == WAKE:
        return _waking(rollout, step, seen, now)
    if _went_away(step, seen):
        return Move(_gone(rollout, step, now))
    if step.sent_at is None:
        return _unsent(rollout, step, seen, now)
    return _sent(rollout, step, result, now)


def sent(rollout: Rollout, command_id: str) -> Rollout:
    """SSM took the command of the step under way."""
    return _changed(rollout, command_id=command_id)


PASSING = {
    "InvalidInstanceId": "SSM's agent on the host",
    "ThrottlingException": "SSM, which asks for a pause,",
    "Unavailable": "the bucket of releases",
}
"""Refusals that pass, by their code: what is then waited for."""


def not_taken(rollout: Rollout, code: str, message: str, now: float) -> Rollout:
    """The command was not sent. An agent that is not there yet is waited for; most other causes end the rollout."""
    step = rollout.step
    if step is None:
        return rollout
    if code in PASSING:
        return _changed(rollout, sent_at=None, attempts=step.attempts - 1, waits_for=PASSING[code])
    return _failed(rollout, step.host, step, f"the command was refused ({code}: {message})", now)


def _next_step(rollout: Rollout, host: str, seen: HostSeen, now: float) -> Move:
    last = rollout.last_of(host)
    if last is None:
        if seen.current and not rollout.force:
            step = Step(host, CURRENT, now, StepState.SUCCEEDED, now)
            return Move(replace(rollout, steps=(*rollout.steps, step)))
        if not (seen.state is MachineState.RUNNING and not seen.draining):
            if rollout.target is Role.EDGE:
                return Move(_failed(rollout, host, None, f"the edge is {seen.state}; start it first", now))
            return Move(_begun(rollout, host, WAKE, now))
        return _send(_begun(rollout, host, STEPS[0], now), now)
    name = STEPS[0] if last.name == WAKE else STEPS[STEPS.index(last.name) + 1]
    begun = _begun(rollout, host, name, now)
    step = begun.steps[-1]
    return _unsent(begun, step, seen, now)


def _begun(rollout: Rollout, host: str, name: str, now: float) -> Rollout:
    return replace(rollout, steps=(*rollout.steps, Step(host, name, now)))


def _send(rollout: Rollout, now: float) -> Move:
    step = rollout.steps[-1]
    going = _changed(rollout, sent_at=now, command_id="", attempts=step.attempts + 1, waits_for="")
    return Move(going, going.steps[-1])


def _waking(rollout: Rollout, step: Step, seen: HostSeen, now: float) -> Move:
    if seen.state is MachineState.RUNNING and not seen.draining:
        return Move(_changed(rollout, state=StepState.SUCCEEDED, ended_at=now))
    if now - step.began_at > WAKE_S:
        words = f"the machine is {seen.state} after {WAKE_S / 60:.0f} minutes"
        return Move(_failed(rollout, step.host, step, words, now))
    return Move(rollout)


def _unsent(rollout: Rollout, step: Step, seen: HostSeen, now: float) -> Move:
    """A step that waits: for streams to end, or for the agent."""
    since = max(step.began_at, seen.running_at or 0.0)
    if step.waits_for and now - since > AGENT_S and not step.waits_for.startswith("live"):
        words = f"{step.waits_for} was waited for in vain for {AGENT_S / 60:.0f} minutes"
        return _fault(rollout, step, words, now)
    if step.name == "activate" and not rollout.force and seen.streams != 0:
        if now - step.began_at > STREAMS_S:
            words = "streams are live" if seen.streams else "the host does not say whether somebody speaks"
            words += f" for {STREAMS_S / 60:.0f} minutes; force it, or come back later"
            return Move(_failed(rollout, step.host, step, words, now))
        return Move(_changed(rollout, waits_for="live streams to end"))
    return _send(rollout, now)


def _sent(rollout: Rollout, step: Step, result: CommandResult | None, now: float) -> Move:
    assert step.sent_at is not None
    limit = LIMITS_S[step.name]
    if not step.command_id:
        # Somebody is sending it; whoever died between sending and writing is followed by us.
        return Move(rollout) if now - step.sent_at < SENDING_S else _send(rollout, now)
    if result is None or result.state is CommandState.UNDER_WAY:
        if now - step.sent_at <= DELIVERY_TIMEOUT_S + limit + SILENT_S:
            return Move(rollout)
        return _fault(rollout, step, "SSM never said how it ended", now)
    told = _changed(rollout, output_tail=result.output[-TAIL:])
    match result.state:
        case CommandState.SUCCEEDED:
            done = _changed(told, state=StepState.SUCCEEDED, ended_at=now)
            if step.name == ROLLBACK:
                return Move(_ended(done, State.ROLLED_BACK, f"{rollout.failure}; taken back", now))
            return Move(done)
        case CommandState.LOST:
            if step.attempts < DELIVERIES:
                return _send(told, now)
            words = f"its command was lost: not delivered within {DELIVERY_TIMEOUT_S} s, {step.attempts} times"
            return _fault(told, step, words, now)
        case CommandState.TIMED_OUT:
            return _fault(told, step, f"it timed out: no end within {limit} s", now)
        case _:
            return _failed_there(told, step, result, now)


def _failed_there(rollout: Rollout, step: Step, result: CommandResult, now: float) -> Move:
    words = last_words(result.output) or f"it left with {result.exit_code}"
    if result.exit_code == PUT_BACK:
        over = _changed(rollout, state=StepState.FAILED, ended_at=now)
        return Move(_ended(over, State.ROLLED_BACK, f"{step.name} on {step.host}: {words}", now))
    if result.exit_code == BROKEN:
        return Move(_failed(rollout, step.host, step, words, now))
    return _fault(rollout, step, words, now)


def _fault(rollout: Rollout, step: Step, words: str, now: float) -> Move:
    """A step failed. Where the release is or may be on trial, the one before is to be put back first."""
    if step.name not in ON_TRIAL:
        return Move(_failed(rollout, step.host, step, words, now))
    over = _changed(rollout, state=StepState.FAILED, ended_at=now)
    failure = f"{step.name} on {step.host}: {words}"
    return _send(_begun(replace(over, failure=failure), step.host, ROLLBACK, now), now)


def _went_away(step: Step, seen: HostSeen) -> bool:
    restarted = seen.running_at is not None and seen.running_at > step.began_at
    return seen.state is not MachineState.RUNNING or restarted


def _gone(rollout: Rollout, step: Step, now: float) -> Rollout:
    words = "the host was switched off in the middle"
    if step.name in (*ON_TRIAL, ROLLBACK):
        words += "; what it starts with next is not known before a release is deployed again"
    return _failed(rollout, step.host, step, words, now)


def _failed(rollout: Rollout, host: str, step: Step | None, words: str, now: float) -> Rollout:
    if step is not None and rollout.step is not None:
        rollout = _changed(rollout, state=StepState.FAILED, ended_at=now)
    name = f"{step.name} on {host}" if step is not None else host
    verdict = f"{name}: {words}"
    if step is not None and step.name == ROLLBACK:
        verdict = f"{rollout.failure}; then {verdict}"
    elif step is None or step.name not in (*ON_TRIAL, STEPS[-1]):
        verdict += "; what served before serves on"
    done = [one.host for one in rollout.steps if one.name == STEPS[-1] and one.state is StepState.SUCCEEDED]
    if done:
        verdict += f". Done before: {', '.join(done)}"
    return _ended(rollout, State.FAILED, verdict, now)


def _success(rollout: Rollout) -> str:
    new = [one.host for one in rollout.steps if one.name == STEPS[-1]]
    if not new:
        return f"{rollout.release} is current already on {', '.join(rollout.hosts)}; nothing was changed"
    return f"{rollout.release} serves on {', '.join(rollout.hosts)}"


def _ended(rollout: Rollout, state: State, verdict: str, now: float) -> Rollout:
    return replace(rollout, state=state, verdict=verdict, ended_at=now)


def _changed(rollout: Rollout, **fields: object) -> Rollout:
    """The latest step with other fields."""
    return replace(rollout, steps=(*rollout.steps[:-1], replace(rollout.steps[-1], **fields)))  # type: ignore[arg-type]


def last_words(output: str) -> str:
    """release.py's own sentence in a command's output, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    own = [line.removeprefix("release: ") for line in lines if line.startswith("release: ")]
    # SSM adds "failed to run commands: exit status N" of its own.
    return (own or [line for line in lines if not line.startswith("failed to run commands")] or [""])[-1][:300]
