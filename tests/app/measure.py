"""How long until the engine acts, and until speech goes on after a GPU has died: `python -m tests.app.measure`.

On an embedded cloud of its own, with a boot of a second, in real time. Prints a line for each: runs, median, range.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from tests.app.lifecycle import now, recovered, rest
from tests.stack import Stack, start_stack
from tests.waiting import wait_until

OPTIONS = ("--gpus", "2", "--boot-seconds", "1", "--stop-seconds", "1")


def acted(stack: Stack, operation: str, ask: Callable[[], object]) -> float:
    """Seconds from the call to the control plane until EC2 was asked for `operation`, by the stand-in's clock."""
    ahead = datetime.fromisoformat(now(stack)).timestamp() - time.time()
    before = len(stack.calls(operation))
    begun = time.time() + ahead
    ask()
    found = wait_until(lambda: stack.calls(operation)[before:], 60, operation)
    return float(found[0]["time"]) - begun


def start_and_stop(stack: Stack) -> tuple[float, float]:
    """Acting times of a session's start and of an operator's stop."""
    started = acted(stack, "StartInstances", lambda: stack.call("POST", "/v1/sessions", role="speaker", body={}))
    stack.wait_phase("ready")
    stopped = acted(stack, "StopInstances", lambda: stack.call("POST", "/v1/gpu/stop", body={"force": True}))
    rest(stack)
    return started, stopped


def line(what: str, seconds: Sequence[float]) -> str:
    spread = f"{min(seconds):.2f} to {max(seconds):.2f} s"
    return f"{what}: {len(seconds)} runs, median {statistics.median(seconds):.2f} s, {spread}\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.app.measure", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as state, start_stack(Path(state), *OPTIONS) as stack:
        acts = [start_and_stop(stack) for _ in range(runs)]
        sys.stdout.write(line("a session opened, until EC2 is asked to start", [one for one, _ in acts]))
        sys.stdout.write(line("an operator's stop, until EC2 is asked to stop", [one for _, one in acts]))
        for how, words in (("failed", "EC2 says so"), ("lost", "EC2 says nothing")):
            took = []
            for _ in range(runs):
                took.append(recovered(stack, how))
                rest(stack)
            sys.stdout.write(line(f"a GPU dies under a stream and {words}, until speech goes on", took))
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
