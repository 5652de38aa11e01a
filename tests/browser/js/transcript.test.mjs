import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Transcript, beginsParagraph } from "../../../site/js/transcript.js";

const vectors = JSON.parse(readFileSync(new URL("../vectors/transcript.json", import.meta.url)));

for (const { name, messages, finals, partials } of vectors) {
  test(name, () => {
    const transcript = new Transcript();
    const seen = [];
    const fresh = [];
    for (const { segments, offset } of messages) {
      fresh.push(...transcript.update(segments, offset));
      seen.push(transcript.partial?.text ?? "");
    }
    assert.deepEqual(transcript.finals.map((segment) => segment.text), finals);
    assert.deepEqual(fresh, transcript.finals, "each final is reported once");
    assert.deepEqual(seen, partials);
  });
}

test("finish drops what never became words", () => {
  const transcript = new Transcript();
  transcript.update([{ start: 0, end: 1, text: "hm", completed: false }]);
  transcript.finish();
  assert.equal(transcript.partial, null);
});

test("a pause begins a paragraph, and so does the first segment", () => {
  const before = { start: 0, end: 2 };
  assert.equal(beginsParagraph(null, before), true);
  assert.equal(beginsParagraph(before, { start: 2.4, end: 3 }), false);
  assert.equal(beginsParagraph(before, { start: 4, end: 5 }), true);
});
