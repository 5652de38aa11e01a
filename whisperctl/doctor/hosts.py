"""On the hosts that are awake, over SSM: units, disk, clock, driver, the way to the GPU, known lines in the log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from chalicelib.domain.remote import examine, logs
from whisperctl.aws import Account
from whisperctl.commands.hosts import UNITS, run_on, split
from whisperctl.doctor.findings import Finding, Verdict, on_host, signs, skipped
from whisperctl.errors import CtlError

LINES = 400


class HostsLook:
    """`look()` yields findings; afterwards `logs` holds the last lines of each host's log."""

    def __init__(self, account: Account, machines: list[dict[str, Any]], clock_ahead_s: float = 0.0) -> None:
        """`machines`: awake ones, each with `role`, `instance_id`, `private_ip`; `clock_ahead_s`: of the stand-in."""
        self._account = account
        self._machines = machines
        self._ahead_s = clock_ahead_s
        self.logs: dict[str, str] = {}

    def look(self, agents: Mapping[str, Verdict]) -> Iterator[Finding]:
        """`agents`: what was found of each instance's agent; a host whose agent is lost is not asked."""
        gpus = [str(one["private_ip"]) for one in self._machines if one["role"] == "gpu" and one["private_ip"]]
        for one in self._machines:
            host, role = str(one["instance_id"]), str(one["role"])
            if agents.get(host) is Verdict.PROBLEM:
                yield skipped(f"inside {host}", "its agent does not answer")
                continue
            ssm = self._account.client("ssm")
            try:
                text = run_on(ssm, host, examine(self._account.stack, role, gpus if role == "edge" else []))
                # A process of this very machine keeps its time; the stand-in's clock does not reach it.
                yield from on_host(host, role, text, time.time() + self._ahead_s)
                log, _ = split(run_on(ssm, host, logs(self._account.stack, UNITS[role], LINES)))
            except CtlError as error:
                yield skipped(f"inside {host}", error.message)
                continue
            self.logs[f"{role}-{host}"] = log
            yield from signs(host, log)
