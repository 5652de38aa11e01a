import assert from "node:assert/strict";
import test from "node:test";

import { asked, readChoices, USUAL, writeChoices } from "../../../site/js/choices.js";
import { Delays } from "../../../site/js/delay.js";

class Storage {
  #kept = new Map();
  getItem(name) {
    return this.#kept.get(name) ?? null;
  }
  setItem(name, value) {
    this.#kept.set(name, value);
  }
}

test("what was chosen is chosen again; what is no choice is the usual one", () => {
  const storage = new Storage();
  assert.deepEqual(readChoices(storage), USUAL);
  const choices = { ...USUAL, device: "d", noiseSuppression: true, language: "de", task: "translate", model: "base", keep: false };
  writeChoices(choices, storage);
  assert.deepEqual(readChoices(storage), choices);
  for (const broken of ["{", "null", "7", '{"keep":"yes","task":"sing","language":5,"other":1}']) {
    storage.setItem("whisperlive-choices", broken);
    assert.deepEqual(readChoices(storage), USUAL);
  }
});

test("a browser that keeps nothing is no error", () => {
  const refusing = {
    getItem() {
      throw new DOMException("no", "SecurityError");
    },
    setItem() {
      throw new DOMException("full", "QuotaExceededError");
    },
  };
  assert.deepEqual(readChoices(refusing), USUAL);
  writeChoices(USUAL, refusing);
});

test("only what was chosen is asked for", () => {
  assert.deepEqual(asked(USUAL), { task: "transcribe" });
  assert.deepEqual(asked({ ...USUAL, language: "auto", model: "base", task: "translate" }), {
    task: "translate",
    language: "auto",
    model: "base",
  });
});

test("words are as late as the last of them, and only the last ones count", () => {
  const delays = new Delays();
  assert.equal(delays.percentiles, null);
  delays.shown([{ start: 0, end: 2, text: "one two three" }], 3);
  delays.shown([{ start: 2, end: 4, text: "four" }], 9);
  assert.deepEqual(delays.percentiles, { p50: 1, p95: 5 });
  delays.shown([{ start: 4, end: 6, text: "later " }], 5.5);
  assert.equal(delays.percentiles.p50, 1);
  for (let n = 0; n < 300; n += 1) delays.shown([{ start: 0, end: 10, text: "w" }], 12);
  assert.deepEqual(delays.percentiles, { p50: 2, p95: 2 });
});
