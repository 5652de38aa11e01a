/** The page's carrier and transcript, by the vectors they share with the client. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Carrier } from "../../../site/js/session/carrier.js";
import { FRAME_SAMPLES, RATE } from "../../../site/js/session/connection.js";
import { Transcript, beginsParagraph } from "../../../site/js/session/transcript.js";

const vectors = (name) => JSON.parse(readFileSync(new URL(`../../session/vectors/${name}.json`, import.meta.url)));
const METHODS = { session_over: "sessionOver", give_up: "giveUp" };

for (const { name, jitter = 0.5, steps } of vectors("carrier")) {
  test(`carrier: ${name}`, () => {
    let buffered = 0;
    const carrier = new Carrier({ buffered: () => buffered * RATE * 4, jitter: () => jitter });
    for (const [number, [now, event, ...given]] of steps.entries()) {
      const { then = [], ...looks } = given.pop();
      const where = `step ${number} at ${now}: ${event}`;
      const told = play(carrier, now, event, given, (seconds) => (buffered = seconds));
      assert.deepEqual(short(told ?? []), then, where);
      for (const [look, expected] of Object.entries(looks)) assert.equal(seen(carrier, look), expected, `${where}: ${look}`);
    }
  });
}

function play(carrier, now, event, given, setBuffered) {
  switch (event) {
    case "captured":
      return carrier.captured(Math.round(given[0] * RATE), now);
    case "message":
      return carrier.message(given[0], typeof given[1] === "string" ? given[1] : JSON.stringify(given[1]), now);
    case "closed":
      return carrier.closed(given[0], given[1], given[2] ?? "", now);
    case "buffered":
      setBuffered(given[0]);
      return carrier.tick(now);
    default:
      return carrier[METHODS[event] ?? event](...given, now);
  }
}

function seen(carrier, look) {
  const rounded = (value) => Math.round(value * 1000) / 1000;
  return {
    state: carrier.state,
    keep_from: carrier.keepFrom / RATE,
    behind: rounded(carrier.behind),
    lost: rounded(carrier.lost),
    reconnects: carrier.reconnects,
    slow: carrier.slowNetwork,
    wants_place: carrier.wantsPlace,
    text: carrier.transcript.text,
    partial: carrier.transcript.partial?.text ?? "",
  }[look];
}

/** As tests/session/carriers.py writes them. */
function short(effects) {
  const told = [];
  let audio = null;
  for (const effect of [...effects, { do: "nothing" }]) {
    if (effect.do === "audio") {
      assert.ok(effect.count > 0 && effect.count <= FRAME_SAMPLES);
      if (audio && audio.conn === effect.conn && audio.to === effect.first) audio.to += effect.count;
      else {
        if (audio) told.push(audioWords(audio));
        audio = { conn: effect.conn, from: effect.first, to: effect.first + effect.count };
      }
      continue;
    }
    if (audio) told.push(audioWords(audio));
    audio = null;
    if (["connect", "hello", "end", "close"].includes(effect.do)) told.push(`${effect.do} ${effect.conn}`);
    else if (effect.do === "renew") told.push("renew");
    else if (effect.do === "notice") told.push(`notice ${effect.sentence}`);
    else if (effect.do === "over") told.push(effect.complete ? "over complete" : `over ${effect.code ?? "-"} ${effect.sentence}`);
    else if (effect.do === "words") told.push(...effect.finals.map((s) => `final ${s.start}..${s.end} ${s.text}`));
  }
  return told;
}

function audioWords({ conn, from, to }) {
  return `audio ${conn} ${Number((from / RATE).toPrecision(6))}..${Number((to / RATE).toPrecision(6))}`;
}

for (const { name, messages, finals, partials, stable, words } of vectors("transcript")) {
  test(`transcript: ${name}`, () => {
    const transcript = new Transcript();
    const fresh = [];
    const shown = [];
    const sure = [];
    for (const { begin, segments } of messages) {
      if (begin) transcript.begin(...begin);
      fresh.push(...transcript.update(segments));
      shown.push(transcript.partial?.text ?? "");
      sure.push(transcript.stable);
    }
    assert.deepEqual(transcript.finals.map((segment) => segment.text), finals);
    assert.deepEqual(fresh, transcript.finals, "each final is reported once");
    assert.deepEqual(shown, partials);
    if (stable) assert.deepEqual(sure, stable);
    const timed = fresh.flatMap((segment) => segment.words ?? []).map(({ word, start, end }) => [word, start, end]);
    if (words) assert.deepEqual(timed, words);
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
