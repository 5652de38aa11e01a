"""`make cold-start`: what a cold start of the packaged Lambda costs, in milliseconds of processor time.

    python -m tests.package.cold_start [--runs 9]

A clean interpreter imports the handlers out of the unzipped archive, builds the context, the first client and the
logger: what every cold start does before its first call. The least of the runs counts, since whatever else this
machine does only adds. Beside it, the same without the archive's bytecode.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from tests.package.runtime import Runtime, runtime
from whisperctl.packaging import build

PARTS = ("interpreter", "handlers", "context", "first client", "logger")
PROGRAM = """
import json, sys, time
marks = [time.process_time()]
sys.path[:0] = sys.argv[1:3]
import app
marks.append(time.process_time())
from chalicelib import wiring
context = wiring.context()
marks.append(time.process_time())
context.store._clients.dynamodb
marks.append(time.process_time())
from chalicelib.telemetry import logger
logger()
marks.append(time.process_time())
print(json.dumps([marks[0]] + [after - before for before, after in zip(marks, marks[1:])]))
"""
ENV = {
    "STACK_NAME": "whisperlive",
    "TABLE_NAME": "whisperlive",
    "BUCKET_NAME": "whisperlive-bucket-1a2b3c4d5e6f",
    "TOPIC_ARN": "arn:aws:sns:eu-central-1:123456789012:whisperlive-Topic-1A2B3C4D5E6F",
    "WEBHOOK_PARAMETER": "/whisperlive/webhook",
    "EDGE_URL": "https://203.0.113.7",
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}


def measure(where: Runtime, runs: int) -> list[list[float]]:
    """Seconds of processor time of each part, run by run."""
    return [json.loads(where.python(PROGRAM, env=ENV).splitlines()[-1]) for _ in range(runs)]


def line(name: str, runs: list[list[float]]) -> str:
    """One row of the report: the least and the median of all parts together, and the parts of the least."""
    totals = [1000 * sum(one) for one in runs]
    least = min(runs, key=sum)
    parts = ", ".join(f"{part} {1000 * one:.0f}" for part, one in zip(PARTS, least, strict=True))
    return f"{name}: {min(totals):.0f} ms at least, median {statistics.median(totals):.0f} of {len(runs)} ({parts})"


def main() -> None:
    """Print both rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.package.cold_start", description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        where = runtime(build(Path(folder) / "package").archive, Path(folder))
        sys.stdout.write(line("cold start", measure(where, runs)) + "\n")
        for cache in list(where.code.rglob("__pycache__")):
            shutil.rmtree(cache)
        sys.stdout.write(line("without bytecode", measure(where, runs)) + "\n")


if __name__ == "__main__":
    main()
