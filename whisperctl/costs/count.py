"""Count what the control plane asks of AWS, in the embedded cloud: the real `app.py`, and no hosts but their reports.

    python -m whisperctl.costs.count            prints what was counted
    python -m whisperctl.costs.count --write    writes counted.json beside this file

For each thing that happens again and again (a tick, a host's report, a heartbeat, a status page's look) the median of
some of them: Lambda invocations, and DynamoDB's units by its own rules, 4 KiB a consistent read, 1 KiB a write, twice
in a transaction.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

COUNTED = Path(__file__).with_name("counted.json")
TIMES = 3
STACK = "counted"
SETTLE_S = 0.5
PATIENCE_S = 60.0
APART_S = 1.1
"""Of the stand-in's clock, between two of a kind: passes within a second of each other share one look at EC2."""


def count(directory: Path) -> dict[str, Any]:
    """`{what: {calls: {"service operation": n}, reads, writes}}` and the bytes of the state's partition."""
    from whisperctl.local import LocalOptions, account, preflight
    from whisperctl.local.empty import NoHosts
    from whisperctl.local.supervisor import STAGE, Cloud

    options = LocalOptions(boot_seconds=0.2, stop_seconds=0.2, agent_seconds=0.2, stack_name=STACK)
    with contextlib.ExitStack() as stack:
        before = dict(os.environ)
        stack.callback(os.environ.update, before)
        stack.callback(os.environ.clear)
        preflight.prepare_directory(directory)
        cloud = Cloud(options, stack)
        account.put_environment(os.environ, options, cloud.endpoint.url, "https://edge.invalid")
        store = account.create_table_and_documents(options)
        api = f"{cloud.start_gateway(preflight.find_repository() / 'app.py', stack)}/{STAGE}"
        # What mends itself sends commands now and then, and here there is something to mend: the hosts are not there.
        os.environ.update({"API_URL": api, "SELF_REPAIR": "false"})
        cloud.wire(NoHosts(), stack)
        tokens = account.create_tokens(store, cloud.clock.now())
        gpus, edge = account.create_machines(cloud.ec2, options)
        said = stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        return _Counting(cloud, store, api, tokens, gpus[0], edge, said).run()


class _Counting:
    """One run: wakes a GPU that only reports, and looks at the record of calls around each thing."""

    def __init__(
        self, cloud: Any, store: Any, api: str, tokens: dict[str, str], gpu: str, edge: str, said: io.StringIO
    ) -> None:
        """`said` is where the functions' output goes: metrics are lines of it."""
        self._cloud, self._store, self._api, self._tokens, self._said = cloud, store, api, tokens, said
        self._gpu, self._edge = gpu, edge
        self._found: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        edge, gpu = self._edge, self._gpu
        self._cloud.triggers.start()
        self._until(lambda: self._status()["phase"] == "asleep")
        self._report(edge, {"boot_id": "e", "status": "ready", "upstreams": []})
        self._count("tick asleep", self._tick)
        self._count("edge report asleep", lambda: self._report(edge, self._of_edge()))
        self._count("status look asleep", self._status)
        session = self._call("POST", "/v1/sessions", {}, "speaker")
        self._until(lambda: self._cloud.ec2.machine(gpu).state == "running")
        self._report(gpu, self._of_gpu([]))
        self._report(edge, self._of_edge())

        def ready() -> bool:
            self._report(gpu, self._of_gpu([]))
            self._report(edge, self._of_edge())
            return bool(self._call("GET", f"/v1/sessions/{session['id']}", None, "speaker")["phase"] == "ready")

        self._until(ready)
        streams = [{"sid": session["id"], "since": 1.0, "last_audio_s": 0.1}]
        self._report(gpu, self._of_gpu(streams))
        self._count("tick awake", self._tick)
        self._count("edge report awake", lambda: self._report(edge, self._of_edge()))
        self._count("gpu report", lambda: self._report(gpu, self._of_gpu(streams)))
        beat = f"/v1/sessions/{session['id']}/heartbeat"
        self._count("heartbeat", lambda: self._call("POST", beat, {"lost_seconds": 0}, "speaker"))
        self._count("status look awake", self._status)
        return {"control_partition_bytes": self._partition(), "things": self._found}

    def _count(self, what: str, act: Callable[[], Any]) -> None:
        runs = []
        self._quiet()
        said = self._said.tell()
        for _ in range(TIMES):
            self._cloud.clock.advance(APART_S)
            self._until(lambda: not self._cloud.invoker.busy)  # where that was a new minute
            self._cloud.calls.clear()
            act()
            self._until(lambda: not self._cloud.invoker.busy)
            runs.append(self._cloud.calls.all())
        calls: dict[str, int] = {}
        for name in sorted({_named(one) for run in runs for one in run}):
            often = statistics.median(sum(_named(one) == name for one in run) for run in runs)
            if often:
                calls[name] = int(often)
        size = self._partition()
        units = [_units(run, size) for run in runs]
        reads, writes = (int(statistics.median(one[which] for one in units)) for which in (0, 1))
        metrics = _metrics(self._said.getvalue()[said:])
        self._found[what] = {"calls": calls, "reads": reads, "writes": writes, "metrics": metrics}

    def _quiet(self) -> None:
        """Until no call has come for a moment: what happened before has had its consequences."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < SETTLE_S:
            now = len(self._cloud.calls.all())
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.02)

    def _tick(self) -> None:
        self._cloud.triggers.tick()

    def _partition(self) -> int:
        records = self._store.partition("control")
        return sum(len(json.dumps(one.data)) + len(one.key.sk) + 60 for one in records)

    def _of_edge(self) -> dict[str, Any]:
        up = [self._cloud.ec2.machine(self._gpu).private_ip]
        return {"boot_id": "e", "status": "ready", "release": "0123456789abcdef", "upstreams": up, "cert_days": 60}

    def _of_gpu(self, streams: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "boot_id": "g",
            "status": "ready",
            "release": "0123456789abcdef",
            "model": "small.en",
            "models": ["small.en"],
            "device": "cuda",
            "streams": streams,
            "max_streams": 4,
            "decode_s_p50": 0.2,
            "disk_free": 3e10,
        }

    def _report(self, host: str, body: dict[str, Any]) -> None:
        answer = httpx.post(
            f"{self._api}/v1/hosts/{host}/report", json=body, headers={"x-host-key": host}, timeout=30
        )
        answer.raise_for_status()

    def _status(self) -> dict[str, Any]:
        return self._call("GET", "/v1/status", None, "viewer")

    def _call(self, method: str, path: str, body: Any, role: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._tokens[role]}"}
        answer = httpx.request(method, self._api + path, json=body, headers=headers, timeout=30)
        answer.raise_for_status()
        return dict(answer.json())

    def _until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the embedded cloud did not come that far: {self._status()}")
            time.sleep(0.02)


def _metrics(lines: str) -> list[str]:
    """The custom metrics in lines of CloudWatch's embedded format, each with its dimensions' values."""
    found = set()
    for line in lines.splitlines():
        if not line.startswith('{"_aws"'):
            continue
        held = json.loads(line)
        for group in held["_aws"]["CloudWatchMetrics"]:
            for dimensions in group["Dimensions"]:
                values = " ".join(str(held.get(one, "")) for one in sorted(dimensions) if one != "service")
                found |= {f"{metric['Name']} {values}".strip() for metric in group["Metrics"]}
    return sorted(found)


def _named(call: dict[str, Any]) -> str:
    return f"{call['service']} {call['operation']}"


def _units(calls: list[dict[str, Any]], partition: int) -> tuple[int, int]:
    """Read and write units of DynamoDB that these calls use."""
    reads = writes = 0
    for call in calls:
        asked = call["parameters"]
        match call["operation"]:
            case "Query":
                whole = asked.get("ExpressionAttributeValues", {}).get(":pk", {}).get("S") == "control"
                reads += math.ceil(partition / 4096) if whole else 1
            case "GetItem":
                reads += 1
            case "UpdateItem" | "PutItem" | "DeleteItem":
                writes += _kibs(asked)
            case "TransactWriteItems":
                writes += sum(2 * _kibs(one) for one in asked.get("TransactItems", []))
    return reads, writes


def _kibs(written: Any) -> int:
    return max(1, math.ceil(len(json.dumps(written)) / 1024))


def counted() -> dict[str, Any]:
    """What `--write` wrote."""
    found: dict[str, Any] = json.loads(COUNTED.read_text())
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m whisperctl.costs.count", description=__doc__)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="whisperctl-count-") as directory, contextlib.redirect_stdout(sys.stderr):
        found = count(Path(directory))
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if given.write:
        COUNTED.write_text(text)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
