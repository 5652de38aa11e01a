"""Many histories, in parts that several processes play: `python -m tests.chaos --histories 10000 --jobs 2`.

Each part has a seed of its own, so that one that fails is played again alone, and its history made as short as it
will go: `--seed N --histories 100 --shrink`.
Exit 0 when no invariant broke; 1 with the history that broke one; 130 when it was interrupted.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from hypothesis import Phase, seed, settings
from hypothesis.database import InMemoryExampleDatabase
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.test_histories import Histories, looked_for

PART = 100
"""Histories a part: half a minute, so that a failure is told soon."""


def play(number: int, histories: int, shrink: bool) -> tuple[Counter[str], str]:
    """One part; what it came to, and the traceback of what broke."""
    logging.disable(logging.CRITICAL)
    Histories.tally = Counter()
    part = type("Part", (Histories,), {})
    try:
        # What earlier runs found is not played first: every history counts once.
        phases = (Phase.generate, Phase.shrink) if shrink else (Phase.generate,)
        chosen = settings(looked_for(histories), database=InMemoryExampleDatabase(), phases=phases)
        run_state_machine_as_test(seed(number)(part), settings=chosen)
    except BaseException:  # noqa: BLE001  told by the caller, whatever it is
        return Histories.tally, traceback.format_exc()
    return Histories.tally, ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1, help="of the first part; each further one has the next")
    parser.add_argument("--shrink", action="store_true", help="shorten the history that broke one")
    chosen = parser.parse_args()
    if chosen.histories < 1 or chosen.jobs < 1:
        parser.error("--histories and --jobs are at least 1")
    began, done = time.monotonic(), Counter[str]()
    sizes = [min(PART, chosen.histories - at) for at in range(0, chosen.histories, PART)]
    with ProcessPoolExecutor(chosen.jobs) as pool:
        seeds = enumerate(sizes, chosen.seed)
        parts = {pool.submit(play, number, size, chosen.shrink): number for number, size in seeds}
        try:
            for part in as_completed(parts):
                tally, broken = part.result()
                done.update(tally)
                if broken:
                    sys.stdout.write(f"{broken}\nPart with seed {parts[part]} broke an invariant.\n")
                    pool.shutdown(wait=False, cancel_futures=True)
                    return 1
                words = f"{done['histories']} histories, {done['steps']} steps"
                sys.stdout.write(f"{time.monotonic() - began:6.0f} s  {words}, seed {parts[part]} done\n")
                sys.stdout.flush()
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            return 130
    acts = f"{done['starts']} starts and {done['stops']} stops asked of EC2"
    sys.stdout.write(f"{done['histories']} histories, {done['steps']} steps, {acts}: no invariant broke\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
