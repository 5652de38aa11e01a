"""The check that cannot lie: wake, speak, read the words, put to sleep; through the edge, as a person would."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from whisperctl.api import Api
from whisperctl.audio import FileSource, decode_file
from whisperctl.commands.power import await_phase
from whisperctl.errors import CtlError
from whisperctl.session.transcript import Segment
from whisperctl.stack import StackInfo
from whisperctl.streaming import Report, Stream, Wish
from whisperctl.wer import word_error_rate

SPEECH = Path(__file__).parent / "speech" / "check.wav"
WER_LIMIT = 0.15
STOP_PATIENCE_S = 120.0


@dataclass(slots=True)
class CheckResult:
    """What the check saw. `ok` only when the words were right, nothing was lost and the GPU sleeps again."""

    ok: bool = False
    transcript: str = ""
    wer: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent in each phase of waking, then `ready` (the command's start to SERVER_READY), `first_word`,
    `final` (after the end of the audio), `stop` (to asleep) and `total`."""
    lost_seconds: float | None = None
    problem: str | None = None
    """Why `ok` is false, in one sentence."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Stopwatch:
    """A view that only measures how long each phase lasted."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase, self._since = "", 0.0

    def phase(self, phase: str, elapsed_s: float, usual_s: float | None) -> None:
        del usual_s
        if self._phase and phase != self._phase:
            spent = self.seconds.get(self._phase, 0.0) + elapsed_s - self._since
            self.seconds[self._phase] = round(spent, 2)
        if phase != self._phase:
            self._phase, self._since = phase, elapsed_s

    def final(self, segment: Segment) -> None: ...
    def partial(self, text: str, stable: int) -> None: ...
    def notice(self, sentence: str) -> None: ...


def run_check(stack: StackInfo) -> CheckResult:
    """Run the whole chain once on `stack`; takes its speaker's and its operator's token. Raises nothing of ours."""
    result, began = CheckResult(), time.monotonic()
    try:
        _speak(stack, result)
        _sleep(stack, result)
    except CtlError as error:
        result.problem = error.message
    result.ok = result.problem is None
    result.seconds["total"] = round(time.monotonic() - began, 2)
    return result


def first_words(stack: StackInfo) -> CheckResult:
    """The first half of the check: wake, speak, read the words. Raises nothing of ours."""
    result, began = CheckResult(), time.monotonic()
    try:
        _speak(stack, result)
    except CtlError as error:
        result.problem = error.message
    result.ok = result.problem is None
    result.seconds["total"] = round(time.monotonic() - began, 2)
    return result


def _speak(stack: StackInfo, result: CheckResult) -> None:
    said = SPEECH.with_suffix(".txt").read_text()
    watch = _Stopwatch()
    samples = decode_file(SPEECH)

    async def stream() -> Report:
        return await Stream(stack, FileSource(samples, 1.0), Wish(language="en"), watch).run()

    report = asyncio.run(stream())
    result.transcript, result.lost_seconds = report.transcript, report.lost_seconds
    result.wer = round(word_error_rate(said, report.transcript), 4)
    result.seconds |= {name: spent for name, spent in watch.seconds.items() if name.startswith("waking")}
    for name, spent_s in (
        ("ready", report.ready_s),
        ("first_word", report.first_word_s),
        ("final", report.final_after_end_s),
    ):
        if spent_s is not None:
            result.seconds[name] = round(spent_s, 2)
    if report.problem:
        result.problem = report.problem
    elif report.lost_seconds > 0:
        result.problem = f"{report.lost_seconds:.1f} s of audio were never confirmed"
    elif result.wer > WER_LIMIT:
        result.problem = f"word error rate {result.wer:.0%}, allowed are {WER_LIMIT:.0%}"


def _sleep(stack: StackInfo, result: CheckResult) -> None:
    began = time.monotonic()
    with Api(stack, "operator") as api:
        status = api.stop_gpu(force=False, closed_until=None, reason="check")
        await_phase(api, "asleep", STOP_PATIENCE_S, status)
    result.seconds["stop"] = round(time.monotonic() - began, 2)
