import assert from "node:assert/strict";
import test from "node:test";

import { asked, readChoices, USUAL, writeChoices } from "../../../site/js/choices.js";

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
