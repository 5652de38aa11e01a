import assert from "node:assert/strict";
import test from "node:test";

import { Journal, diagnostics } from "../../../site/js/journal.js";
import { detailWords, lostShown } from "../../../site/js/telling.js";

const QUIET = { elapsed: 0, late: null, growing: false };
const progress = (changes) => ({
  stage: "live", phase: "ready", taken: true, usual: null, notice: "", error: "", behind: 0, slow: false, reconnects: 0,
  lostSeconds: 0, unconfirmed: false, ...changes,
});

test("waking says how long it usually takes and how long it takes this time", () => {
  const waking = progress({ stage: "waking", phase: "waking.boot", taken: false, usual: 71 });
  assert.equal(
    detailWords(waking, { ...QUIET, elapsed: 85.4 }),
    "You are being recorded already. Usually about 70 s, this time 85 s so far.",
  );
  assert.equal(detailWords({ ...waking, usual: null }, QUIET), "You are being recorded already.");
  const stopped = { ...waking, stage: "finishing" };
  const kept = "Your words are kept; leave this page open.";
  assert.equal(detailWords(stopped, { ...QUIET, elapsed: 12 }), `${kept} Usually about 70 s, this time 12 s so far.`);
  assert.equal(detailWords({ ...stopped, phase: "ready" }, QUIET), kept);
});

test("while it is live: how late words are, and what is wrong, the worst first", () => {
  const late = { p50: 1.24, p95: 2.5 };
  assert.equal(detailWords(progress(), QUIET), "");
  assert.equal(detailWords(progress(), { ...QUIET, late }), "Words final after 1.2 s, most within 2.5 s.");
  assert.equal(detailWords(progress({ behind: 8, reconnects: 1 }), { ...QUIET, late }), "Catching up, 8 s behind.");
  assert.equal(
    detailWords(progress({ behind: 9.2 }), { ...QUIET, late, growing: true }),
    "The words fall back, 9 s behind by now: the GPU is busy, what you say is kept.",
  );
  assert.match(detailWords(progress({ behind: 9, slow: true }), { ...QUIET, growing: true }), /^Slow network: /);
  assert.equal(detailWords(progress({ notice: "Closing at 22:05." }), QUIET), "Closing at 22:05.");
});

test("what is lost is told as long as somebody is recorded, whatever else is told", () => {
  for (const stage of ["waking", "live", "reconnecting", "finishing"]) {
    assert.equal(lostShown(progress({ stage, notice: "Closing at 22:05." })), "0.0 s lost");
  }
  assert.equal(lostShown(progress({ lostSeconds: 1.26 })), "1.3 s lost");
  assert.equal(lostShown(progress({ stage: "finished" })), "");
});

test("at the end: the truth", () => {
  assert.equal(detailWords(progress({ stage: "finished" }), QUIET), "Every word is final, 0.0 s lost.");
  assert.equal(detailWords(progress({ stage: "failed", lostSeconds: 3.21 }), QUIET), "3.2 s were not transcribed.");
  assert.match(detailWords(progress({ stage: "failed", lostSeconds: 3, unconfirmed: true }), QUIET), /underlined/);
});

test("a journal counts its times from its beginning and keeps the beginning and the end of a long story", () => {
  let now = 100;
  const journal = new Journal(() => now);
  for (let n = 0; n < 3000; n += 1) {
    now += 1;
    journal.note("event", { n });
  }
  const { events, left_out: left } = journal.story;
  assert.deepEqual(events[0], { at_s: 1, event: "event", n: 0 });
  assert.equal(events.at(-1).n, 2999);
  assert.equal(events.length + left, 3000);
  assert.equal(events[499].n, 499);
});

test("diagnostics hold times and counts of words, no word, and not which microphone it was", () => {
  const journal = new Journal();
  journal.note("closed", { conn: 1, code: 1012, reason: "the server restarts" });
  const parts = {
    journal, progress: progress(), settings: { device: "6f1e", language: "de" }, recorded: 3, delays: {},
    segments: [{ start: 0, end: 2, text: "a secret said" }], agent: "Browser/1", startedAt: 0,
  };
  const found = diagnostics(parts, null);
  const text = JSON.stringify(found);
  assert.deepEqual(found.segments, [{ start: 0, end: 2, words: 3 }]);
  assert.equal(found.events[0].code, 1012);
  assert.equal(found.sound, null);
  assert.ok(!text.includes("secret") && !text.includes("6f1e"));
  assert.equal(diagnostics(parts, "UklGRg==").sound, "UklGRg==");
});
