import assert from "node:assert/strict";
import test from "node:test";

import { Backlog, Delays } from "../../../site/js/delay.js";

const near = (found, wanted) => assert.ok(Math.abs(found - wanted) < 1e-9, `${found} is not ${wanted}`);

test("words are as late as the last of them, and only the last ones count", () => {
  const delays = new Delays();
  assert.equal(delays.percentiles.total, null);
  delays.shown([{ start: 0, end: 2, text: "one two three" }], 3);
  delays.shown([{ start: 2, end: 4, text: "four" }], 9);
  assert.deepEqual(delays.percentiles.total, { p50: 1, p95: 5 });
  delays.shown([{ start: 4, end: 6, text: "later " }], 5.5);
  assert.equal(delays.percentiles.total.p50, 1);
  for (let n = 0; n < 300; n += 1) delays.shown([{ start: 0, end: 10, text: "w" }], 12);
  assert.deepEqual(delays.percentiles.total, { p50: 2, p95: 2 });
});

test("a delay is split into the network, the decode and the rest", () => {
  const delays = new Delays();
  delays.shown([{ start: 0, end: 8, text: "one two" }], 10);
  delays.explained(10.1, { received: 9.8, decode: 0.5 });
  const { total, network, decode, policy } = delays.percentiles;
  assert.deepEqual(total, { p50: 2, p95: 2 });
  near(network.p50, 0.3);
  near(decode.p95, 0.5);
  near(policy.p50, 1.2);
});

test("no part is longer than what is left of the whole", () => {
  const delays = new Delays();
  delays.shown([{ start: 0, end: 9.6, text: "soon" }], 10);
  delays.explained(10, { received: 9.8, decode: 3 });
  const { network, decode, policy } = delays.percentiles;
  near(network.p50, 0.2);
  near(decode.p50, 0.2);
  near(policy.p50, 0);
});

test("a server that says nothing of it leaves the parts unknown, and later words are explained alone", () => {
  const delays = new Delays();
  delays.shown([{ start: 0, end: 9, text: "one" }], 10);
  delays.explained(10, { received: null, decode: null });
  assert.equal(delays.percentiles.network, null);
  delays.shown([{ start: 0, end: 11, text: "two" }], 12);
  delays.explained(12, { received: 12, decode: 0.25 });
  delays.explained(13, { received: 10, decode: 0.75 }); // of later audio: says nothing of these words any more
  assert.deepEqual(delays.percentiles.decode, { p50: 0.25, p95: 0.25 });
  assert.deepEqual(delays.percentiles.network, { p50: 0, p95: 0 });
});

test("a backlog grows when it is longer than ten seconds ago, not when it is long or jumps for a moment", () => {
  const growing = new Backlog();
  const steady = new Backlog();
  const shrinking = new Backlog();
  const jumping = new Backlog();
  let found = [];
  for (let now = 0; now <= 30; now += 0.25) {
    found = [
      growing.look(now, 2 + now * 0.4),
      steady.look(now, 20),
      shrinking.look(now, 40 - now),
      jumping.look(now, now > 10 && now < 12 ? 8 : 1),
    ];
  }
  assert.deepEqual(found, [true, false, false, false]);
});

test("a short backlog is none, however it grows", () => {
  const backlog = new Backlog();
  for (let now = 0; now <= 20; now += 1) assert.equal(backlog.look(now, now / 5), false);
});

test("a heartbeat tells numbers, and never a word", () => {
  const delays = new Delays();
  assert.deepEqual(delays.measured, { words: 0 });
  delays.shown([{ start: 0, end: 2, text: "one two three" }], 3.1234567);
  delays.shown([{ start: 2, end: 4, text: "four" }], 9);
  assert.deepEqual(delays.measured, { words: 4, latency: { first_word: 3.123, final_p50: 1.123, final_p95: 5 } });
});

test("the words of a file are counted, and none is late", () => {
  const delays = new Delays();
  delays.shown([{ start: 0, end: 2, text: "one two" }], 600, false);
  assert.equal(delays.percentiles.total, null);
  assert.deepEqual(delays.measured, { words: 2 });
});
