"""`whisperctl local`: parse, then hand over to the embedded cloud."""

from __future__ import annotations

from pathlib import Path

import click

from whisperctl.errors import CtlError, codes
from whisperctl.local import LocalOptions, run
from whisperctl.output import planned, print_json

DEFAULT = LocalOptions()


@click.command(
    epilog="Example: whisperctl local --port 8443\n\n"
    + codes(0, 1, 2, 130, zero="ended, or check passed", one="could not start, or check failed")
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=DEFAULT.port,
    show_default=True,
    help="HTTPS port of the edge on localhost.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT.state_dir,
    show_default=True,
    help="Where the stack keeps its files.",
)
@click.option(
    "--boot-seconds",
    type=click.FloatRange(0),
    default=DEFAULT.boot_seconds,
    show_default=True,
    help="How long a machine takes from start to running.",
)
@click.option(
    "--stop-seconds",
    type=click.FloatRange(0),
    default=DEFAULT.stop_seconds,
    show_default=True,
    help="How long a machine takes to stop.",
)
@click.option(
    "--agent-seconds",
    type=click.FloatRange(0),
    default=DEFAULT.agent_seconds,
    show_default=True,
    help="How long after that its SSM agent takes to report.",
)
@click.option(
    "--idle-minutes",
    type=click.FloatRange(0, min_open=True),
    default=DEFAULT.idle_minutes,
    show_default=True,
    help="How long the GPU lingers after the last session.",
)
@click.option(
    "--deadman-minutes",
    type=click.FloatRange(0, min_open=True),
    default=DEFAULT.deadman_minutes,
    show_default=True,
    help="A GPU host that no answer reaches for so long powers itself off.",
)
@click.option(
    "--night", default=DEFAULT.night, metavar="HOURS", help="Closed hours, for example '22:00-06:00 Europe/Berlin'."
)
@click.option(
    "--gpus",
    type=click.IntRange(1, 8),
    default=DEFAULT.gpus,
    show_default=True,
    help="GPU machines, each in the next zone; one serves, the others stand by.",
)
@click.option(
    "--gpu-types",
    default=DEFAULT.gpu_types,
    metavar="TYPES",
    help="What a GPU may be started as when AWS has no room, best first, e.g. 'g4dn.xlarge g5.xlarge'.",
)
@click.option(
    "--max-streams",
    type=click.IntRange(1, 64),
    default=DEFAULT.max_streams,
    show_default=True,
    help="Streams the GPU takes at once.",
)
@click.option("--no-ticket", is_flag=True, help="Serve stock WhisperLive clients, which carry no ticket.")
@click.option(
    "--hosts",
    type=click.Choice(["processes", "systemd"]),
    default=DEFAULT.hosts,
    show_default=True,
    help="Hosts that serve at once, or blank ones with systemd (root only).",
)
@click.option("--stack-name", default=DEFAULT.stack_name, show_default=True, help="Name of the stack.")
@click.option("--check", is_flag=True, help="Wake, stream the built-in speech, stop, print JSON and leave.")
@click.option("--dry-run", is_flag=True, help="Look whether it could start here; start nothing.")
@click.option("--json", "json_output", is_flag=True, help="Print stack.json in place of the READY line.")
@click.pass_context
def local(
    ctx: click.Context,
    port: int,
    state_dir: Path,
    boot_seconds: float,
    stop_seconds: float,
    agent_seconds: float,
    idle_minutes: float,
    deadman_minutes: float,
    night: str,
    gpus: int,
    gpu_types: str,
    max_streams: int,
    no_ticket: bool,
    hosts: str,
    stack_name: str,
    check: bool,
    dry_run: bool,
    json_output: bool,
) -> None:
    """Run the whole stack on this machine, without AWS.

    Prints READY and the address of the page once everything is up, with the GPU asleep. Ctrl-C ends every
    process it started.
    """
    options = LocalOptions(
        port=port,
        state_dir=state_dir,
        boot_seconds=boot_seconds,
        stop_seconds=stop_seconds,
        agent_seconds=agent_seconds,
        idle_minutes=idle_minutes,
        deadman_minutes=deadman_minutes,
        night=night,
        gpus=gpus,
        gpu_types=gpu_types,
        max_streams=max_streams,
        require_ticket=not no_ticket,
        hosts=hosts,
        stack_name=stack_name,
        check=check,
        json_output=json_output,
    )
    if dry_run:
        from whisperctl.local.preflight import CannotStart, look

        try:
            look(options)
        except CannotStart as reason:
            if json_output:
                print_json({"error": str(reason), "exit_code": CtlError.exit_code})
            raise CtlError(str(reason)) from None
        where = f"https://localhost:{port}"
        planned(f"start the whole stack for {where} with its files in {state_dir}", json_output, edge_url=where)
        return
    ctx.exit(run(options))
