import assert from "node:assert/strict";
import test from "node:test";

import { Gaps } from "../../../site/js/capture.js";
import { SignalCheck, signalWords } from "../../../site/js/signal.js";
import { keepAwake } from "../../../site/js/wakelock.js";

const BLOCK = 1600;

/** A tone's block at so many dB below full scale. */
function tone(decibels) {
  const height = Math.SQRT2 * 10 ** (decibels / 20);
  return Float32Array.from({ length: BLOCK }, (_, n) => Math.max(-1, Math.min(1, height * Math.sin(n / 7))));
}

function verdict(...parts) {
  const check = new SignalCheck();
  let last = check.verdict;
  for (const [decibels, seconds] of parts) {
    for (let block = 0; block < seconds * 10; block += 1) last = check.push(tone(decibels));
  }
  return last;
}

test("no verdict before two seconds", () => {
  assert.equal(verdict(), "unknown");
  assert.equal(verdict([-200, 1.9]), "unknown");
  assert.equal(new SignalCheck().push(new Float32Array(0)), "unknown");
});

test("a dead, a quiet, a good and an overdriven microphone", () => {
  assert.equal(verdict([-200, 3]), "none");
  assert.equal(verdict([-60, 3]), "quiet");
  assert.equal(verdict([-20, 3]), "good");
  assert.equal(verdict([3, 3]), "clipping");
  for (const one of ["none", "quiet", "clipping"]) assert.ok(signalWords(one).endsWith(".") || signalWords(one).endsWith("?"));
  assert.equal(signalWords("good") + signalWords("unknown"), "");
});

test("a pause after speech is a pause, a microphone that dies is told", () => {
  assert.equal(verdict([-20, 3], [-60, 30]), "good");
  assert.equal(verdict([-20, 3], [-200, 6]), "none");
});

test("what was too loud is forgotten after the window, one peak is no clipping", () => {
  assert.equal(verdict([3, 3], [-20, 6]), "good");
  const check = new SignalCheck();
  for (let block = 0; block < 30; block += 1) check.push(tone(-20));
  const peak = tone(-20);
  peak[3] = 1;
  assert.equal(check.push(peak), "good");
});

/** Blocks of 0.1 s at these times. */
function missing(times) {
  const gaps = new Gaps();
  return times.map((now) => gaps.heard(BLOCK, now)).filter((gap) => gap > 0);
}

test("a device that slept is found once, to a tenth of a second", () => {
  const before = Array.from({ length: 50 }, (_, n) => 0.1 * (n + 1));
  const after = Array.from({ length: 50 }, (_, n) => 35 + 0.1 * (n + 1));
  const found = missing([...before, ...after]);
  assert.equal(found.length, 1);
  assert.ok(Math.abs(found[0] - 30) < 0.15, `${found[0]}`);
});

test("jitter, late starts and slow clocks are no gaps", () => {
  const jittered = Array.from({ length: 600 }, (_, n) => 100 + 0.1 * n + (n % 7) * 0.08);
  assert.deepEqual(missing(jittered), []);
  const slow = Array.from({ length: 36000 }, (_, n) => 0.1 * n * 1.0002);
  assert.deepEqual(missing(slow), []);
  const stalled = Array.from({ length: 100 }, (_, n) => (n < 50 ? 0.1 * n : Math.max(8.7, 0.1 * n)));
  assert.deepEqual(missing(stalled), [], "blocks that come late but all of them");
});

test("a gap right before the end is found with the last block", () => {
  const gaps = new Gaps();
  for (let n = 0; n < 50; n += 1) assert.equal(gaps.heard(BLOCK, 0.1 * n), 0);
  assert.equal(gaps.heard(BLOCK, 10), 0);
  assert.ok(Math.abs(gaps.heard(0, 10.1, true) - 5.1) < 0.2);
});

class Page extends EventTarget {
  visibilityState = "visible";
}

test("the screen stays on, comes back after hiding, and is let go", async () => {
  const page = new Page();
  const held = [];
  const locks = { request: async () => held[held.push({ released: false, release() { this.released = true; } }) - 1] };
  const lock = keepAwake({ locks, document: page });
  await null;
  page.visibilityState = "hidden";
  page.dispatchEvent(new Event("visibilitychange"));
  page.visibilityState = "visible";
  page.dispatchEvent(new Event("visibilitychange"));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(held.length, 2);
  lock.release();
  page.dispatchEvent(new Event("visibilitychange"));
  assert.equal(held.length, 2);
  assert.ok(held[1].released);
});

test("no lock, or one refused, is no error", async () => {
  keepAwake({ locks: undefined, document: new Page() }).release();
  const refused = Object.assign(new Error("low battery"), { name: "NotAllowedError" });
  keepAwake({ locks: { request: async () => { throw refused; } }, document: new Page() }).release();
  await new Promise((resolve) => setImmediate(resolve));
});
