"""`whisperctl stream`: a file or the microphone in, words and a report out."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from whisperctl.audio import FileSource, MicrophoneSource, Source, decode_file
from whisperctl.errors import Interrupted, LostAudio, UsageError, codes
from whisperctl.faults import Fault, Plan
from whisperctl.output import StreamView, dry_run_option, errors_as_json, note, planned, print_json, stack_options
from whisperctl.session.connection import RATE
from whisperctl.stack import find_stack
from whisperctl.streaming import Report, Stream, Wish
from whisperctl.wer import word_error_rate

LOST_TOLERANCE_S = 0.05
"""Less than this unconfirmed is rounding of times, not loss."""


class Pace(click.ParamType[Any]):
    """`max`, or a speed as a multiple of real time."""

    name = "pace"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value == "max":
            return None
        try:
            pace = float(str(value))
        except ValueError:
            pace = 0.0
        if not 0.1 <= pace <= 100:
            self.fail(f"{value!r} is neither 'max' nor a number from 0.1 to 100", param, ctx)
        return pace


@click.command(
    epilog="Examples: whisperctl stream talk.mp3; whisperctl stream --mic\n\n"
    + codes(0, 2, 3, 4, 5, 130, ctrl_c="Ctrl-C in a file, or Ctrl-C twice")
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--mic", is_flag=True, help="Record the microphone until Ctrl-C.")
@click.option(
    "--pace", type=Pace(), default="1.0", show_default=True, help="Speed of a file: 1.0 is real time, or 'max'."
)
@click.option("--ref", metavar="TEXT|@FILE", help="What was said; the report then holds the word error rate.")
@click.option("--language", help="Language code such as en; left out, the server decides.")
@click.option("--model", help="Model name such as small.en; left out, the server's own.")
@click.option("--task", type=click.Choice(["transcribe", "translate"]), default="transcribe", show_default=True)
@click.option(
    "--drop-at", multiple=True, type=click.FloatRange(0), metavar="S", help="Break the connection at second S."
)
@click.option("--freeze-at", multiple=True, type=click.FloatRange(0), metavar="S", help="Hold its bytes instead.")
@click.option("--for", "for_s", type=click.FloatRange(0), default=10.0, show_default=True, help="How long, in s.")
@click.option("--slow", type=click.FloatRange(1), metavar="KBPS", help="Let only so many kilobytes a second pass.")
@dry_run_option
@stack_options
@errors_as_json
def stream(
    file: Path | None,
    mic: bool,
    pace: float | None,
    ref: str | None,
    language: str | None,
    model: str | None,
    task: str,
    drop_at: tuple[float, ...],
    freeze_at: tuple[float, ...],
    for_s: float,
    slow: float | None,
    dry_run: bool,
    url: str | None,
    token: str | None,
    state_dir: Path,
    as_json: bool,
) -> None:
    """Stream FILE or the microphone and print the words.

    Wakes the GPU when it sleeps. Audio counts from the start of the command, as if it were spoken: what is said
    while the GPU wakes is kept and sent when it is ready. Seconds in the report count from the same moment.

    A connection that breaks is made anew, and what was said meanwhile is sent then. --drop-at and --freeze-at (both
    may be repeated, seconds since it was live) and --slow break it on purpose.

    Ctrl-C ends the audio; what was said until then is still written. A second Ctrl-C leaves at once.
    """
    if mic == (file is not None):
        raise UsageError("give either a FILE or --mic")
    said = _reference(ref)
    stack = find_stack(os.environ, url=url, token=token, state_dir=state_dir)
    samples = decode_file(file) if file is not None else None
    if dry_run:
        seconds = None if samples is None else round(len(samples) / RATE, 1)
        what = "the microphone" if seconds is None else f"{seconds:.1f} s of audio from {file}"
        planned(f"open a session at {stack.edge_url}, wake the GPU and stream {what}", as_json, seconds=seconds)
        return
    view = StreamView(words=not as_json)
    plan = Plan(
        tuple(Fault(kind, at, for_s) for kind, ats in (("drop", drop_at), ("freeze", freeze_at)) for at in ats), slow
    )
    report, presses = asyncio.run(
        _run(
            lambda: FileSource(samples, pace) if samples is not None else MicrophoneSource(),
            lambda source: Stream(stack, source, Wish(language, model, task), view, plan=plan),
        )
    )
    if said is not None:
        report.wer = round(word_error_rate(said, report.transcript), 4)
    if as_json:
        print_json(report)
    else:
        _summary(report)
    if report.lost_seconds > LOST_TOLERANCE_S or report.problem:
        reason = report.problem or "the server did not confirm everything"
        lost = f"{report.lost_seconds:.1f} s of audio not confirmed: {reason}"
        raise _Left(lost) if presses > 1 else _Reported(lost)
    if presses > 1 or (presses and file is not None):  # a microphone has no other end
        raise _Left("stopped by Ctrl-C; every word until then is written")


class _Reported(LostAudio):
    """Lost audio whose JSON was printed already: the report itself says so."""

    reported = True


class _Left(Interrupted):
    """Ctrl-C, after the report was printed."""

    reported = True


async def _run(make_source: Callable[[], Source], make_stream: Callable[[Source], Stream]) -> tuple[Report, int]:
    """Run the stream; the first Ctrl-C ends the capture, the second one the command. Says how many there were."""
    running = make_stream(make_source())
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    presses = 0

    def interrupted() -> None:
        nonlocal presses
        presses += 1
        if presses == 1:
            note("finishing: what was said until now is still written; Ctrl-C again leaves at once")
            running.stop()
        else:
            task.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        return await running.run(), presses
    except asyncio.CancelledError:
        if presses < 2:
            raise
        running.report.problem = "interrupted"
        return running.report, presses
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _reference(ref: str | None) -> str | None:
    if ref is None:
        return None
    if ref.startswith("@"):
        try:
            ref = Path(ref[1:]).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--ref {ref}: {getattr(error, 'strerror', None) or 'not a text'}") from None
    if not any(character.isalnum() for character in ref):
        raise UsageError("--ref holds no word")
    return ref


def _summary(report: Report) -> None:
    parts = []
    for name, value in (
        ("ready after", report.ready_s),
        ("first word after", report.first_word_s),
        ("final", report.final_after_end_s),
    ):
        if value is not None:
            parts.append(f"{name} {value:.1f} s" + (" after the end" if name == "final" else ""))
    if report.reconnects:
        parts.append(f"connected again {report.reconnects} time" + ("s" if report.reconnects > 1 else ""))
    parts.append(f"{report.lost_seconds:.1f} s lost")
    if report.wer is not None:
        parts.append(f"word error rate {report.wer:.1%}")
    note(", ".join(parts))
