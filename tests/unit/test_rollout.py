"""The rollout's decisions: each way in which a step can go, and the verdict that names it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chalicelib.domain.machines import MachineState, Role
from chalicelib.domain.remote import CommandResult, CommandState
from chalicelib.domain.rollout import (
    AGENT_S,
    CURRENT,
    LIMITS_S,
    SENDING_S,
    SILENT_S,
    STEPS,
    STREAMS_S,
    WAKE_S,
    HostSeen,
    Move,
    Rollout,
    State,
    StepState,
    decide,
    last_words,
    not_taken,
    sent,
)

RUNNING = HostSeen(MachineState.RUNNING, 0.0)
ASLEEP = HostSeen(MachineState.STOPPED)
OK = CommandResult(CommandState.SUCCEEDED, 0, "done\n")
LOST = CommandResult(CommandState.LOST)
TIMED_OUT = CommandResult(CommandState.TIMED_OUT, -1, "half of it")
UNDER_WAY = CommandResult(CommandState.UNDER_WAY)
NEW = Rollout("r1", Role.GPU, "a" * 16, "a" * 64, ("i-1",), "anna", 100.0)


def failed(code: int, sentence: str) -> CommandResult:
    return CommandResult(CommandState.FAILED, code, f"some line\nrelease: {sentence}\nfailed to run commands: exit")


def upto(step: str, rollout: Rollout = NEW, now: float = 100.0) -> Rollout:
    """The rollout whose `step` was just handed to SSM, everything before it done."""
    for _ in range(40):
        move = decide(rollout, RUNNING, OK, now)
        rollout = move.rollout
        if move.send is not None:
            rollout = sent(rollout, f"c-{move.send.name}")
            if move.send.name == step and move.send.host == rollout.hosts[-1]:
                return rollout
    raise AssertionError(f"{step} was never sent")


def end(move: Move, now: float = 200.0, result: CommandResult = OK) -> Rollout:
    """What becomes of it when every further command has this result."""
    rollout = move.rollout
    for _ in range(20):
        if rollout.state is not State.RUNNING:
            return rollout
        if move.send is not None:
            rollout = sent(rollout, "c")
        move = decide(rollout, RUNNING, result, now)
        rollout = move.rollout
    raise AssertionError(f"it never ends: {rollout}")


def test_every_step_has_a_command_of_its_own_and_the_last_one_ends_it() -> None:
    names = []
    rollout = NEW
    while rollout.state is State.RUNNING:
        move = decide(rollout, RUNNING, OK, 100.0)
        rollout = move.rollout
        if move.send is not None:
            names.append(move.send.name)
            rollout = sent(rollout, f"c-{len(names)}")
    assert names == list(STEPS)
    assert [one.output_tail for one in rollout.steps] == ["done\n"] * 6
    assert rollout.state is State.SUCCEEDED
    assert rollout.verdict == f"{'a' * 16} serves on i-1"
    assert decide(rollout, RUNNING, OK, 999.0) == Move(rollout)


def test_a_sleeping_machine_is_woken_first_and_waited_for() -> None:
    waking = decide(NEW, ASLEEP, None, 100.0)
    assert waking.send is None
    assert [one.name for one in waking.rollout.steps] == ["wake"]
    assert decide(waking.rollout, ASLEEP, None, 100.0 + WAKE_S) == Move(waking.rollout)
    draining = replace(RUNNING, draining=True)
    assert decide(waking.rollout, draining, None, 130.0) == Move(waking.rollout)
    woken = decide(waking.rollout, replace(RUNNING, running_at=140.0), None, 140.0).rollout
    assert woken.steps[0].state is StepState.SUCCEEDED
    first = decide(woken, replace(RUNNING, running_at=140.0), None, 141.0)
    assert first.send is not None
    assert first.send.name == "configure"


def test_a_machine_that_does_not_wake_ends_it() -> None:
    waking = decide(NEW, ASLEEP, None, 100.0).rollout
    over = decide(waking, ASLEEP, None, 101.0 + WAKE_S).rollout
    assert over.state is State.FAILED
    assert over.verdict == "wake on i-1: the machine is stopped after 15 minutes; what served before serves on"


def test_a_host_that_has_it_is_left_alone_unless_forced() -> None:
    current = replace(ASLEEP, current=True)
    done = decide(NEW, current, None, 100.0).rollout
    assert [one.name for one in done.steps] == [CURRENT]
    over = decide(done, None, None, 100.0).rollout
    assert over.state is State.SUCCEEDED
    assert over.verdict == f"{'a' * 16} is current already on i-1; nothing was changed"
    assert decide(replace(NEW, force=True), current, None, 100.0).rollout.steps[0].name == "wake"


def test_the_standby_comes_after_the_first_is_done() -> None:
    two = replace(NEW, hosts=("i-1", "i-2"))
    rollout = upto("prune", two)
    assert [(one.host, one.name) for one in rollout.steps] == [(host, name) for host in two.hosts for name in STEPS]
    over = end(Move(rollout))
    assert over.verdict == f"{'a' * 16} serves on i-1, i-2"


def test_a_failure_on_the_standby_says_who_has_it() -> None:
    over = decide(upto("stage", replace(NEW, hosts=("i-1", "i-2"))), RUNNING, failed(70, "no"), 120.0).rollout
    assert over.verdict == "stage on i-2: no; what served before serves on. Done before: i-1"


@pytest.mark.parametrize("step", ["configure", "fetch", "stage"])
def test_a_failure_before_activate_touches_nothing(step: str) -> None:
    over = decide(upto(step), RUNNING, failed(70, "no room"), 120.0).rollout
    assert over.state is State.FAILED
    assert over.verdict == f"{step} on i-1: no room; what served before serves on"
    assert over.steps[-1].state is StepState.FAILED


@pytest.mark.parametrize("step", ["activate", "verify"])
def test_what_the_host_put_back_itself_is_rolled_back(step: str) -> None:
    over = decide(upto(step), RUNNING, failed(71, "install.sh left with 1; old serves again"), 120.0).rollout
    assert over.state is State.ROLLED_BACK
    assert over.verdict == f"{step} on i-1: install.sh left with 1; old serves again"


def test_what_the_host_could_not_put_back_is_failed() -> None:
    over = decide(upto("activate"), RUNNING, failed(72, "no release before it is on this host"), 120.0).rollout
    assert over.state is State.FAILED
    assert over.verdict == "activate on i-1: no release before it is on this host"


@pytest.mark.parametrize("step", ["activate", "verify"])
@pytest.mark.parametrize("result", [TIMED_OUT, failed(137, "killed")])
def test_where_nobody_knows_how_it_ended_it_is_taken_back(step: str, result: CommandResult) -> None:
    move = decide(upto(step), RUNNING, result, 120.0)
    assert move.send is not None
    assert move.send.name == "rollback"
    over = end(move)
    assert over.state is State.ROLLED_BACK
    assert over.verdict.startswith(f"{step} on i-1: ")
    assert over.verdict.endswith("; taken back")


def test_a_rollback_that_fails_says_both() -> None:
    move = decide(upto("verify"), RUNNING, TIMED_OUT, 120.0)
    over = end(move, result=TIMED_OUT)
    assert over.state is State.FAILED
    first, then = "verify on i-1: it timed out: no end within 300 s", "it timed out: no end within 420 s"
    assert over.verdict == f"{first}; then rollback on i-1: {then}"


def test_a_lost_command_is_sent_once_more_and_then_given_up() -> None:
    again = decide(upto("fetch"), RUNNING, LOST, 140.0)
    assert again.send is not None
    assert (again.send.name, again.send.attempts) == ("fetch", 2)
    over = decide(sent(again.rollout, "c2"), RUNNING, LOST, 180.0).rollout
    assert over.state is State.FAILED
    words = "fetch on i-1: its command was lost: not delivered within 30 s, 2 times; what served before serves on"
    assert over.verdict == words


def test_a_lost_activate_is_taken_back() -> None:
    again = decide(upto("activate"), RUNNING, LOST, 140.0)
    move = decide(sent(again.rollout, "c2"), RUNNING, LOST, 180.0)
    assert move.send is not None
    assert move.send.name == "rollback"


def test_ssm_that_never_says_how_it_ended_is_not_waited_for_for_ever() -> None:
    rollout = upto("stage")
    longest = 30 + LIMITS_S["stage"] + SILENT_S
    for result in (None, UNDER_WAY):
        assert decide(rollout, RUNNING, result, 100 + longest) == Move(rollout)
        over = decide(rollout, RUNNING, result, 101 + longest).rollout
        assert over.state is State.FAILED
        assert "SSM never said how it ended" in over.verdict


def test_a_send_that_was_never_recorded_is_made_again() -> None:
    going = decide(NEW, RUNNING, None, 100.0).rollout
    assert decide(going, RUNNING, None, 100.0 + SENDING_S - 1).send is None
    again = decide(going, RUNNING, None, 100.0 + SENDING_S)
    assert again.send is not None
    assert again.send.name == "configure"


def test_an_agent_that_is_late_by_a_minute_is_waited_for() -> None:
    rollout = decide(NEW, RUNNING, None, 100.0).rollout
    for second in (100, 130, 160):
        rollout = not_taken(rollout, "InvalidInstanceId", "not in a valid state", float(second))
        assert rollout.steps[-1].waits_for == "SSM's agent on the host"
        move = decide(rollout, RUNNING, None, second + 30.0)
        assert move.send is not None
        rollout = move.rollout
    assert sent(rollout, "c").steps[-1].attempts == 1
    assert end(Move(sent(rollout, "c"))).state is State.SUCCEEDED


def test_an_agent_that_never_comes_ends_it() -> None:
    rollout = not_taken(decide(NEW, RUNNING, None, 100.0).rollout, "InvalidInstanceId", "", 100.0)
    over = decide(rollout, RUNNING, None, 101.0 + AGENT_S).rollout
    assert over.state is State.FAILED
    assert "configure on i-1: SSM's agent on the host was waited for in vain for 5 minutes" in over.verdict


def test_another_refusal_ends_it_at_once() -> None:
    over = not_taken(decide(NEW, RUNNING, None, 100.0).rollout, "InvalidDocument", "no such document", 100.0)
    assert over.state is State.FAILED
    assert "configure on i-1: the command was refused (InvalidDocument: no such document)" in over.verdict


@pytest.mark.parametrize("seen", [ASLEEP, HostSeen(MachineState.STOPPING), replace(RUNNING, running_at=150.0)])
@pytest.mark.parametrize("step", ["configure", "fetch", "stage", "activate", "verify", "prune"])
def test_a_host_that_goes_away_ends_it_naming_the_step(step: str, seen: HostSeen) -> None:
    over = decide(upto(step), seen, None, 160.0).rollout
    assert over.state is State.FAILED
    assert over.verdict.startswith(f"{step} on i-1: the host was switched off in the middle")
    assert ("is not known" in over.verdict) is (step in ("activate", "verify"))


def test_a_machine_that_is_gone_ends_it() -> None:
    over = decide(upto("fetch"), None, None, 120.0).rollout
    assert over.state is State.FAILED
    assert "no longer part of this stack" in over.verdict


@pytest.mark.parametrize("streams", [2, None])
def test_activate_waits_for_streams_and_unknown_counts_as_one(streams: int | None) -> None:
    speaking = replace(RUNNING, streams=streams)
    staged = decide(upto("stage"), speaking, OK, 120.0).rollout
    waiting = decide(staged, speaking, None, 120.0)
    assert waiting.send is None
    assert waiting.rollout.steps[-1].waits_for == "live streams to end"
    later = decide(waiting.rollout, RUNNING, None, 400.0)
    assert later.send is not None
    assert later.send.name == "activate"
    over = decide(waiting.rollout, speaking, None, 121.0 + STREAMS_S).rollout
    assert over.state is State.FAILED
    assert over.verdict.startswith("activate on i-1: ")


def test_force_does_not_wait_for_streams() -> None:
    staged = decide(upto("stage", replace(NEW, force=True)), RUNNING, OK, 120.0).rollout
    move = decide(staged, replace(RUNNING, streams=2), None, 120.0)
    assert move.send is not None
    assert move.send.name == "activate"


def test_an_edge_is_not_woken() -> None:
    over = decide(replace(NEW, target=Role.EDGE), ASLEEP, None, 100.0).rollout
    assert over.state is State.FAILED
    assert over.verdict == "i-1: the edge is stopped; start it first; what served before serves on"


def test_last_words_are_the_hosts_own_sentence() -> None:
    assert last_words("a\nrelease: b\nfailed to run commands: exit status 70") == "b"
    assert last_words("a\nb\nfailed to run commands: exit status 1\n") == "b"
    assert last_words("") == ""
