"""The command line: one click group, its verbs loaded only when they are used.

Loading a verb late keeps `whisperctl --help` fast: `local` pulls in moto, `stream` numpy and PyAV,
`token` boto3.
"""

from __future__ import annotations

import importlib
import importlib.metadata

import click
from click.shell_completion import CompletionItem

from whisperctl.errors import codes

VERBS = {
    "init": ("whisperctl.commands.init", "Say what the stack in AWS shall be like."),
    "up": ("whisperctl.commands.up", "Bring the stack into AWS, or up to date."),
    "destroy": ("whisperctl.commands.destroy", "Take the stack out of AWS, and prove it."),
    "local": ("whisperctl.commands.local", "Run the whole stack on this machine, without AWS."),
    "stream": ("whisperctl.commands.stream", "Stream a file or the microphone and print the words."),
    "wake": ("whisperctl.commands.power", "Wake the GPU for some minutes."),
    "stop": ("whisperctl.commands.power", "Drain the GPU and put it to sleep."),
    "status": ("whisperctl.commands.power", "Say what the GPU does, why, and what comes next."),
    "book": ("whisperctl.commands.bookings", "Book the GPU ahead, once or weekly."),
    "bookings": ("whisperctl.commands.bookings", "List bookings, or take one back."),
    "events": ("whisperctl.commands.bookings", "Say what was done, by whom and why."),
    "cost": ("whisperctl.commands.bookings", "Say what the GPU cost, and what was saved."),
    "simulate": ("whisperctl.commands.simulate", "Play a trace of sessions: cost and waits under other settings."),
    "probe": ("whisperctl.commands.probe", "Say whether whoever speaks now gets words, and if not, why."),
    "deploy": ("whisperctl.commands.deploy", "Build a release, upload it, and roll it out."),
    "restart": ("whisperctl.commands.hosts", "Restart the service of the GPU hosts or of the edge."),
    "refresh": ("whisperctl.commands.hosts", "Point the edge at the GPU hosts anew."),
    "logs": ("whisperctl.commands.hosts", "Show a host's log."),
    "shell": ("whisperctl.commands.hosts", "Open a shell on a host."),
    "token": ("whisperctl.commands.token", "Add, list and revoke access tokens; rotate ticket keys."),
    "invite": ("whisperctl.commands.invite", "Make a link for a speaker, and its QR code."),
    "clients": ("whisperctl.commands.clients", "Say which addresses the edge lets in."),
    "doctor": ("whisperctl.commands.doctor", "Find what is wrong, and say what helps."),
    "notify": ("whisperctl.commands.notify", "Say who is told, and try it."),
    "completion": ("whisperctl.commands.completion", "Print the shell's completion."),
}


class LateGroup(click.Group):
    """A group that imports the module of a verb when that verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 click's signature
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(VERBS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs, without importing one of them: a shell waits for this at every press of Tab."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=text) for name, (_, text) in VERBS.items() if name.startswith(incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


def version() -> str:
    """Version of the installed package; 'unknown' in a tree that was never installed."""
    try:
        return importlib.metadata.version("whisperlive-edge")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@click.group(
    cls=LateGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: whisperctl status\n\n" + codes(0, 1, 2, 3, 4, 5, 6, 130),
)
@click.version_option(version(), prog_name="whisperctl")
def cli() -> None:
    """Private live transcription on a GPU that sleeps when nobody speaks.

    The stack is found by --url or --stage and --token, by WHISPERCTL_URL, WHISPERCTL_STAGE, WHISPERCTL_TOKEN and
    WHISPERCTL_CA, or in .local/stack.json, which `whisperctl local` writes. Prefer the environment to --token: other
    users of this machine can read a running command's arguments.
    """
