"""What runs on hosts over SSM, as data: the parameters for each call of a document of our own.

The documents lie in `.chalice/documents`. Values reach the host as parameters with an allowedPattern and never as
pasted shell text: SSM puts a parameter where `{{ name }}` stands, and the patterns admit no character a shell would
act on there (addresses stand in single quotes, and their pattern admits none). `PREFIX` is empty on real hosts;
where several hosts share one machine it points at the host's own root.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

DELIVERY_TIMEOUT_S = 30
"""How long SSM may take to hand a command over: short, so that one left for a stopped machine does not run at
its next boot. 30 is the least SSM takes."""
TAIL = 2000
"""Characters of a command's output that are kept."""


@dataclass(frozen=True)
class RemoteCommand:
    """One run of a document: values are lists of strings, as SSM wants them."""

    document: str
    parameters: dict[str, list[str]] = field(default_factory=dict)
    comment: str = ""
    output: str = ""
    """Prefix in the stack's bucket for the full output; empty: what SSM itself keeps is enough."""


class CommandState(StrEnum):
    """How far a command is, in as many words as change what is done next."""

    UNDER_WAY = "under way"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    """Never handed to the host."""
    TIMED_OUT = "timed out"
    """It ran, or may have, and nobody heard how it ended."""


@dataclass(frozen=True)
class CommandResult:
    """A command as SSM knows it; `exit_code` -1 while there is none, `output` both streams' end."""

    state: CommandState
    exit_code: int = -1
    output: str = ""


def set_upstream(stack_name: str, addresses: Sequence[str]) -> RemoteCommand:
    """Point the edge at these IPv4 addresses, in this order; none of them: forward to nobody."""
    value = " ".join(addresses) or "--none"
    return RemoteCommand(f"{stack_name}-set-upstream", {"upstreams": [value]}, "follow the GPU")


def restart_gpu(stack_name: str) -> RemoteCommand:
    """Restart a GPU host's service."""
    return RemoteCommand(f"{stack_name}-restart-gpu", {}, "restart the service")


def restart_edge(stack_name: str) -> RemoteCommand:
    """Restart an edge's Caddy."""
    return RemoteCommand(f"{stack_name}-restart-edge", {}, "restart Caddy")


def echo(stack_name: str) -> RemoteCommand:
    """Do nothing: that it succeeds says that commands can run there at all."""
    return RemoteCommand(f"{stack_name}-echo", {}, "are you there?")


def logs(stack_name: str, unit: str, lines: int, cursor: str = "-") -> RemoteCommand:
    """The last lines of a unit's log, or those after `cursor`, which the last line of an earlier output names."""
    values = {"unit": [unit], "lines": [str(lines)], "cursor": [cursor]}
    return RemoteCommand(f"{stack_name}-logs", values, f"the log of {unit}")


def clients(stack_name: str, verb: str, network: str = "none", label: str = "-") -> RemoteCommand:
    """Show the networks an edge lets in, `add` or `remove` one, or let in `all`."""
    values = {"verb": [verb], "network": [network], "label": [label]}
    return RemoteCommand(f"{stack_name}-clients", values, f"{verb} clients")


def examine(stack_name: str, role: str, reach: Sequence[str] = ()) -> RemoteCommand:
    """Let a host say how it is: clock, disk, units, driver, and whether it reaches these addresses on 9090."""
    values = {"role": [role], "reach": [" ".join(reach) or "none"]}
    return RemoteCommand(f"{stack_name}-examine", values, "look at the host")


@dataclass(frozen=True)
class Runner:
    """Where a host finds release.py: an address good for some time, and the file's hash."""

    url: str
    sha256: str


def release_step(
    stack_name: str,
    *,
    verb: str,
    target: str,
    sha256: str,
    runner: Runner,
    until: float,
    timeout_s: int,
    plan: str = "none",
    output: str = "",
) -> RemoteCommand:
    """One step of the release whose manifest has this sha256; nothing is done after `until` (epoch seconds)."""
    values = {
        "verb": verb,
        "target": target,
        "release": sha256,
        "runner": runner.url,
        "runnerSha256": runner.sha256,
        "plan": plan,
        "until": f"{until:.0f}",
        "timeout": str(timeout_s),
    }
    parameters = {name: [value] for name, value in values.items()}
    return RemoteCommand(f"{stack_name}-release", parameters, f"{verb} {sha256[:16]}", output)
