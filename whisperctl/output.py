"""What a command prints: results on stdout, everything else on stderr, no control characters into a file."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import click

from whisperctl.errors import CtlError
from whisperctl.session.transcript import Segment
from whisperctl.stack import DEFAULT_STATE_DIR, STAGE

P = ParamSpec("P")
R = TypeVar("R")

PHASES = {
    "asleep": "the GPU is asleep",
    "waking.capacity": "finding a machine",
    "waking.boot": "the machine starts",
    "waking.service": "the speech model loads",
    "ready": "ready",
    "live": "listening",
    "behind": "listening; the words catch up",
    "slow": "listening; the network is slow, what is said is kept",
    "reconnecting": "connecting again; what is said is kept",
    "full": "every place on the GPU is taken; what is said is kept",
    "finishing": "finishing the last words",
    "draining": "the GPU finishes its streams",
    "stopping": "the GPU goes to sleep",
    "failed": "the GPU cannot start",
}
"""Phases in words, as a person reads them."""


def _stage(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    ctx.meta[STAGE] = value


stage_option = click.option(
    "--stage",
    metavar="NAME",
    expose_value=False,
    callback=_stage,
    help="A stage in AWS, for example prod, or local; else WHISPERCTL_STAGE.",
)
"""Which deployment is meant. `whisperctl.stack` reads it, so that no command has to hand it on."""

dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
"""For every command that changes something; `planned` prints what it would do."""


def stack_options(command: Callable[P, R]) -> Callable[P, R]:
    """The options by which every command finds its stack."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
        stage_option,
        click.option(
            "--state-dir",
            type=click.Path(file_okay=False, path_type=Path),
            default=DEFAULT_STATE_DIR,
            show_default=True,
            help="Where a local stack keeps stack.json.",
        ),
        click.option("--token", help="Access token; better in WHISPERCTL_TOKEN."),
        click.option("--url", help="Address of the edge, for example https://speech.example.org."),
    ):
        command = option(command)
    return command


def errors_as_json(command: Callable[P, R]) -> Callable[P, R]:
    """With --json a failure is an object too: `{"error": sentence, "exit_code": n}` on stdout."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except CtlError as error:
            if kwargs.get("as_json") and not error.reported:
                print_json({"error": error.message, "exit_code": error.exit_code})
            raise

    return wrapped


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def planned(would: str, as_json: bool, **facts: Any) -> None:
    """What --dry-run says: `would` goes on from "would"; `facts` are for --json."""
    if as_json:
        print_json({"dry_run": True, "would": would, **facts})
    else:
        click.echo(f"would {would}; nothing was changed")


def clean(text: object) -> str:
    """Text that came from elsewhere (a note, a label, a reason) without what a terminal would obey."""
    return "".join(one if one.isprintable() else " " for one in str(text))


class Waiting:
    """What is waited for, on stderr: a line for each phase; on a terminal the last one counts, with what is left."""

    def __init__(self, err: IO[str] | None = None) -> None:
        self._err = sys.stderr if err is None else err
        self._live = self._err.isatty()
        self._phase = ""

    def show(self, phase: str, elapsed_s: float, left_s: float | None) -> None:
        """Say where it is; `left_s` is the estimate, None where history has none."""
        if phase == self._phase and not self._live:
            return
        if self._live and self._phase not in ("", phase):
            self._err.write("\n")
        self._phase = phase
        about = "" if left_s is None else f", about {left_s:.0f} s left"
        line = f"[{elapsed_s:5.1f} s] {PHASES.get(phase, phase)}{about}"
        self._err.write(f"\r\033[K{line}" if self._live else f"{line}\n")
        self._err.flush()

    def done(self) -> None:
        """End the line that counts."""
        if self._live and self._phase:
            self._err.write("\n")
            self._err.flush()


def note(sentence: str) -> None:
    """A line for the person watching, on stderr."""
    click.echo(sentence, err=True)


class StreamView:
    """Live words: final ones stay as lines on stdout; open ones are rewritten below on a terminal, stable ones plain,

    the rest dim.
    """

    def __init__(self, *, words: bool) -> None:
        """`words`: print the words; False leaves stdout to a report."""
        self._words = words
        self._live = words and sys.stdout.isatty()
        self._last = ""
        self._shown_partial = ""

    def phase(self, phase: str, elapsed_s: float, usual_s: float | None) -> None:
        usual = f", usually {usual_s:.0f} s" if usual_s and phase.startswith("waking") else ""
        words = PHASES.get(phase, phase)
        if words != self._last:
            self._last = words
            self._note(f"[{elapsed_s:5.1f} s] {words}{usual}")

    def notice(self, sentence: str) -> None:
        if sentence != self._last:
            self._last = sentence
            self._note(f"note: {sentence}")

    def final(self, segment: Segment) -> None:
        if self._words:
            self._wipe()
            click.echo(segment.text)

    def partial(self, text: str, stable: int) -> None:
        words = text.split()
        styled = click.style(" ".join(words[stable:]), dim=True)
        line = " ".join([*words[:stable], styled]) if words[stable:] else " ".join(words)
        if not self._live or line == self._shown_partial:
            return
        width = max(20, shutil.get_terminal_size().columns) - 1
        hidden = 0
        while words and len(" ".join(words)) > width - 2:
            words.pop(0)
            hidden += 1
        sure, open_words = words[: max(0, stable - hidden)], words[max(0, stable - hidden) :]
        self._wipe()
        click.echo(("… " if hidden else "") + " ".join(sure), nl=False)
        if open_words:
            click.echo((" " if sure else "") + click.style(" ".join(open_words), dim=True), nl=False)
        self._shown_partial = line

    def _note(self, sentence: str) -> None:
        self._wipe()
        note(sentence)

    def _wipe(self) -> None:
        if self._shown_partial:
            click.echo("\r\033[K", nl=False)
            self._shown_partial = ""
