"""Stop right after the last word, in Chromium on the real chain: every word is final soon after."""

from __future__ import annotations

import statistics
import wave
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Playwright, expect

from tests.browser.chain import conversation, microphone, report
from tests.stack import Stack
from tests.wss import CHECK, SHORT, TRAIN, plain_words, word_error_rate

pytestmark = [pytest.mark.chromium, pytest.mark.endurance]
RATE = 16000
LOUD = 0.02
SOON_S = 1.5
CLIPS = [SHORT, TRAIN, CHECK] * 5

# Counts what the page sends; presses Stop with the block in which the last word ends, and notes when it was clicked,
# when END_OF_AUDIO went out, when END came, when the last final word stood on the page and when the page said that it
# had finished.
PRESS_STOP = """
([lasts, loud]) => {
  const times = (window.times = { stopped: 0, flushed: 0, answered: 0, words: 0, finished: 0 });
  let sent = 0;
  let began = -1;
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    send.call(this, data);
    if (data instanceof Uint8Array) {
      times.flushed = performance.now();
      this.addEventListener("message", (message) => {
        if (JSON.parse(message.data).status === "END") times.answered = performance.now();
      });
    }
    if (!(data instanceof Float32Array)) return;
    if (began < 0) {
      const first = data.findIndex((sample) => Math.abs(sample) > loud);
      if (first >= 0) began = sent + first;
    }
    sent += data.length;
    if (began < 0 || times.stopped || sent < began + lasts) return;
    times.stopped = performance.now();
    document.getElementById("stop").click();
  };
  const watch = (id, note) => new MutationObserver(note).observe(
    document.getElementById(id), { childList: true, characterData: true, subtree: true });
  watch("transcript", () => (times.words = performance.now()));
  watch("phase", () => {
    if (document.getElementById("phase").textContent === "Finished") times.finished = performance.now();
  });
}
"""


def loud_for(clip: Path) -> int:
    """Samples from the first loud one to the last."""
    with wave.open(str(clip)) as source:
        samples = np.frombuffer(source.readframes(source.getnframes()), dtype="<i2")
    loud = np.flatnonzero(np.abs(samples) > LOUD * 32768)
    return int(loud[-1] - loud[0])


def test_every_word_is_final_soon_after_stop(playwright_driver: Playwright, stack: Stack, tmp_path: Path) -> None:
    stack.call("POST", "/v1/gpu/start").raise_for_status()
    stack.wait_phase("ready")
    waits, parts, complete = [], [], 0
    for number, clip in enumerate(CLIPS):
        target = tmp_path / f"{number}.wav"
        said = microphone(target, [clip], 2.0, 30)
        with conversation(playwright_driver, stack, target) as run:
            run.page.evaluate(PRESS_STOP, [loud_for(clip), LOUD])
            expect(run.page.get_by_test_id("phase")).to_have_text("Finished", timeout=60_000)
            run.check(said)
            times = run.page.evaluate("window.times")
            after = {step: (at - times["stopped"]) / 1000 for step, at in times.items() if step != "stopped"}
            waits.append(max(after.values()))
            parts.append((after["flushed"], after["answered"] - after["flushed"], waits[-1] - after["answered"]))
            # The last word is where a tail that was not flushed would show.
            complete += plain_words(run.heard).split()[-1] == plain_words(said).split()[-1]
            report("stop", run=number, after_s={step: round(at, 2) for step, at in after.items()},
                   wer=round(word_error_rate(said, run.heard), 3), words=run.heard)  # fmt: skip
    ordered = sorted(waits)
    p95 = ordered[round(0.95 * len(waits)) - 1]
    report("stop", runs=len(waits), p50=round(statistics.median(waits), 2), p95=round(p95, 2),
           max=round(ordered[-1], 2), last_word_there=complete,
           flush_server_display=[round(statistics.median(part), 2) for part in zip(*parts, strict=True)])  # fmt: skip
    assert p95 <= SOON_S
    assert complete == len(CLIPS)
