import assert from "node:assert/strict";
import test from "node:test";

import { cues, fileName, localTime, toJson, toSrt, toText, toVtt, toWav } from "../../../site/js/formats.js";

const HOSTILE = "he said --> <b>&amp;\n\n2\n00:00:00,000 --> 00:00:09,000\nno";

function conversation(segments, changes = {}) {
  const zone = "Europe/Berlin";
  const startedAt = Date.UTC(2026, 10, 22, 18, 3, 20);
  return { title: "Evening talk", startedAt, zone, language: "en", model: "tiny.en", lostSeconds: 0, segments, ...changes };
}

const TALK = conversation([
  { start: 0.5, end: 2.25, text: "Good evening." },
  { start: 2.4, end: 4, text: "Sit down, please." },
  { start: 7, end: 3661.5, text: "Later." },
]);

/** A reader of SRT and WebVTT as players are: blocks between empty lines, the line with the arrow, the text below. */
function read(file) {
  const escaped = file.startsWith("WEBVTT");
  const unescape = (text) => !escaped ? text : text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
  const seconds = (stamp) => {
    const [hours, minutes, rest] = stamp.replace(",", ".").split(":").map(Number);
    return Math.round((3600 * hours + 60 * minutes + rest) * 1000) / 1000;
  };
  return file
    .split(/\n\n+/)
    .map((block) => block.trim().split("\n"))
    .filter((lines) => lines.some((line) => line.includes("-->")))
    .map((lines) => {
      const arrow = lines.findIndex((line) => line.includes("-->"));
      const [start, end] = lines[arrow].split(" --> ").map(seconds);
      return { start, end, text: unescape(lines.slice(arrow + 1).join(" ")) };
    });
}

test("text has a head, paragraphs where somebody paused, and says what was not confirmed", () => {
  assert.equal(
    toText({ ...TALK, lostSeconds: 1.25, unconfirmed: "perhaps\nthis" }),
    "Evening talk\n2026-11-22 19:03:20 Europe/Berlin\nlanguage en, model tiny.en, 1.3 s lost\n\n" +
      "Good evening. Sit down, please.\n\nLater.\n\n[not confirmed: perhaps this]\n",
  );
});

test("subtitles come back as they went", () => {
  for (const file of [toSrt(TALK), toVtt(TALK)]) {
    assert.deepEqual(read(file), TALK.segments);
  }
  assert.ok(toSrt(TALK).startsWith("1\n00:00:00,500 --> 00:00:02,250\nGood evening.\n\n2\n"));
  assert.ok(toSrt(TALK).includes("3\n00:00:07,000 --> 01:01:01,500\nLater.\n"));
  assert.ok(toVtt(TALK).startsWith("WEBVTT\n\nNOTE\nEvening talk\n"));
});

test("what is said cannot forge a cue", () => {
  const hostile = conversation([{ start: 1, end: 2, text: HOSTILE }], { title: "<i> --> &" });
  const plain = HOSTILE.replace(/\s+/g, " ");
  const vtt = read(toVtt(hostile));
  assert.deepEqual(vtt.map(({ text }) => text).join(" "), plain);
  const srt = read(toSrt(hostile));
  assert.equal(srt.map(({ text }) => text).join(" "), plain.replaceAll("-->", "→").replaceAll("<b>", "‹b›"));
  assert.ok(srt.every(({ start, end }) => start >= 1 && end <= 2.5));
});

test("long segments are cut between words into what can be read, and lose none", () => {
  const text = Array.from({ length: 90 }, (_, n) => `word${n}`).join(" ");
  const found = cues([{ start: 10, end: 40, text }]);
  assert.equal(found.map(({ lines }) => lines.join(" ")).join(" "), text);
  for (const { start, end, lines } of found) {
    assert.ok(lines.length <= 2 && lines.every((line) => line.length <= 42), lines.join("|"));
    assert.ok(end - start <= 7.5 && start >= 10 && end <= 40.001);
  }
  for (const [index, one] of found.slice(1).entries()) assert.ok(one.start >= found[index].end - 1e-9);
});

test("words' own times cut a segment where they are known", () => {
  const words = Array.from({ length: 30 }, (_, n) => ({ word: ` w${n}`, start: n < 15 ? n * 0.1 : 20 + n * 0.1, end: n < 15 ? n * 0.1 + 0.1 : 20.1 + n * 0.1 }));
  const found = cues([{ start: 0, end: 24, text: "unused", words }]);
  assert.deepEqual(found.map(({ start }) => start), [0, 21.5]);
});

test("a word longer than a line stands alone, an empty segment is no cue, a moment is long enough to read", () => {
  const long = "a".repeat(100);
  assert.deepEqual(cues([{ start: 0, end: 1, text: long }])[0].lines, [long]);
  assert.deepEqual(cues([{ start: 0, end: 1, text: " \n " }]), []);
  assert.equal(cues([{ start: 1, end: 1.1, text: "Oh." }])[0].end, 1.5);
  const pair = cues([{ start: 1, end: 1.1, text: "Oh." }, { start: 1.3, end: 2, text: "Yes." }]);
  assert.equal(pair[0].end, 1.3);
});

test("JSON comes back whole", () => {
  const { format, ...back } = JSON.parse(toJson(conversation([{ start: 0, end: 1, text: HOSTILE }])));
  assert.equal(format, "whisperlive-edge/1");
  assert.deepEqual(back, conversation([{ start: 0, end: 1, text: HOSTILE }]));
});

test("WAV comes back to half a step, clipped and with its header", () => {
  const blocks = [Float32Array.of(0, 0.5, -0.5), Float32Array.of(1, -1, 2, -2, 1e-9)];
  const file = Buffer.concat(toWav(blocks, 16000));
  assert.equal(file.length, 44 + 16);
  assert.equal(file.toString("latin1", 0, 4), "RIFF");
  assert.equal(file.readUInt32LE(4), file.length - 8);
  assert.equal(file.toString("latin1", 8, 16), "WAVEfmt ");
  assert.deepEqual([20, 22, 32, 34].map((at) => file.readUInt16LE(at)), [1, 1, 2, 16]);
  assert.deepEqual([24, 28, 40].map((at) => file.readUInt32LE(at)), [16000, 32000, 16]);
  const samples = Array.from({ length: 8 }, (_, n) => file.readInt16LE(44 + 2 * n));
  assert.deepEqual(samples, [0, 16384, -16384, 32767, -32768, 32767, -32768, 0]);
  assert.equal(Buffer.concat(toWav([], 16000)).length, 44);
});

test("file names are safe anywhere, and times are the conversation's own", () => {
  assert.equal(fileName(TALK, "srt"), "Evening-talk_2026-11-22_19-03-20.srt");
  assert.equal(fileName({ ...TALK, title: "../..\\con: <a>|?*" }, "txt"), "con-a_2026-11-22_19-03-20.txt");
  assert.equal(fileName({ ...TALK, title: "" }, "txt"), "transcript_2026-11-22_19-03-20.txt");
  assert.equal(fileName({ ...TALK, title: "Übung №1" }, "txt"), "Übung-No1_2026-11-22_19-03-20.txt");
  assert.equal(localTime(Date.UTC(2026, 6, 1, 12), "America/New_York"), "2026-07-01 08:00:00");
});
