"""The embedded cloud: the whole product on one machine, with no AWS account and no root.

`run(LocalOptions())` brings up the AWS stand-in, the real `app.py` behind a gateway, the real edge (Caddy
with the real Caddyfile) and a GPU "host" that lives exactly while its EC2 state says so; see
`whisperctl.local.supervisor` for the order and `docs/` for the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What `whisperctl local` takes; every field has the command's default.

    Durations of the stand-in (`boot_seconds`, `stop_seconds`, `agent_seconds`) run on the stand-in's clock, so
    `POST /_standin/clock` shortens them.
    """

    port: int = 8443
    """HTTPS port of the edge on localhost."""
    state_dir: Path = field(default_factory=lambda: Path(".local"))
    """Where the stack keeps its files; one running stack per directory."""
    boot_seconds: float = 3.0
    """EC2 `pending` to `running`."""
    stop_seconds: float = 2.0
    """EC2 `stopping` to `stopped`; the host's processes are gone before it ends."""
    agent_seconds: float = 2.0
    """EC2 `running` to the SSM agent's first ping."""
    idle_minutes: float = 10.0
    """How long the GPU lingers after the last wish, in minutes."""
    deadman_minutes: float = 15.0
    """After so many minutes without an answer and without a stream a GPU host powers itself off (real time)."""
    night: str = ""
    """Night hours as the control plane's NIGHT takes them, for example `22:00-06:00 Europe/Berlin`; empty: none."""
    gpus: int = 1
    """GPU machines, spread over the zones; one serves, the others stand by."""
    gpu_types: str = ""
    """GPU_TYPES of the control plane: what a machine may be started as when its own type is not to be had."""
    max_streams: int = 4
    """Streams one GPU host takes at once."""
    require_ticket: bool = True
    """False serves stock WhisperLive clients, which carry no ticket."""
    hosts: str = "processes"
    """`processes`: hosts are process groups that serve at once. `systemd` (root only): each is a machine of its own
    with systemd, blank at first, on a bridge that leads nowhere else; the edge answers on its own address."""
    stack_name: str = "local"
    """STACK_NAME of the control plane: names the table, the tags and the SSM documents."""
    check: bool = False
    """Wake, stream the built-in speech through the edge, stop, print JSON, leave with 0 or 1."""
    json_output: bool = False
    """Print `stack.json` on stdout in place of the READY line (with `check`, JSON is printed anyway)."""


def run(options: LocalOptions) -> int:
    """Bring the embedded cloud up and serve until Ctrl-C or SIGTERM; return the exit code.

    0: ended by SIGTERM, or the check passed; 1: the check failed, or the stack could not start (one sentence on
    stderr says why and what to do); 130: Ctrl-C.
    """
    from whisperctl.local.supervisor import supervise

    return supervise(options)
