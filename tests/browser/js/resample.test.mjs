import assert from "node:assert/strict";
import test from "node:test";

import { Resampler } from "../../../site/js/resample.js";

const TO = 16000;

function tone(rate, frequency, seconds) {
  return Float32Array.from({ length: Math.round(rate * seconds) }, (_, n) =>
    Math.sin((2 * Math.PI * frequency * n) / rate),
  );
}

/** Convert in blocks of the audio thread's 128 samples, or of `length`. */
function convert(input, from, length = 128) {
  const resampler = new Resampler(from, TO);
  const blocks = [];
  for (let at = 0; at < input.length; at += length) blocks.push(resampler.push(input.subarray(at, at + length)));
  blocks.push(resampler.flush());
  const out = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of blocks) {
    out.set(block, at);
    at += block.length;
  }
  return out;
}

/** Power in the middle of a signal, in dB of a full sine; its ends hold the beginning and end of the tone. */
function decibels(samples) {
  const middle = samples.subarray(Math.floor(samples.length / 4), Math.floor((3 * samples.length) / 4));
  const power = middle.reduce((sum, sample) => sum + sample * sample, 0) / middle.length;
  return 10 * Math.log10(2 * power + 1e-20);
}

const RATES = [8000, 11025, 22050, 24000, 32000, 44100, 48000, 96000, 192000];

for (const from of RATES) {
  test(`${from} Hz: exactly as many samples as the time holds, however it is cut`, () => {
    for (const length of [0, 1, 127, 128, 4410, 10007]) {
      const input = tone(from, 440, length / from);
      const wanted = Math.ceil((input.length * TO) / from);
      assert.equal(convert(input, from).length, wanted);
      assert.deepEqual(convert(input, from, 1000), convert(input, from, 77));
    }
  });

  test(`${from} Hz: a tone keeps its height, and its time to a fraction of a sample`, () => {
    const frequency = Math.min(3000, from / 4);
    const out = convert(tone(from, frequency, 0.5), from);
    const wanted = tone(TO, frequency, 0.5);
    const error = Float32Array.from(out.subarray(0, wanted.length), (sample, n) => sample - wanted[n]);
    assert.ok(decibels(error) < -70, `${decibels(error)} dB`);
  });
}

for (const from of RATES.filter((rate) => rate > TO)) {
  test(`${from} Hz: what would alias is 60 dB down`, () => {
    const highest = from / 2;
    for (const share of [0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 0.999]) {
      const frequency = TO / 2 + share * (highest - TO / 2);
      const left = decibels(convert(tone(from, frequency, 0.5), from));
      assert.ok(left < -60, `${frequency} Hz came through at ${left} dB`);
    }
  });
}

test("the voice's range is untouched, silence stays silence, a constant stays one", () => {
  for (const frequency of [100, 1000, 4000, 6900]) {
    assert.ok(Math.abs(decibels(convert(tone(48000, frequency, 0.5), 48000))) < 0.1, `${frequency} Hz`);
  }
  assert.ok(convert(new Float32Array(4800), 48000).every((sample) => sample === 0));
  const constant = convert(new Float32Array(48000).fill(0.5), 48000).subarray(500, 15500);
  assert.ok(constant.every((sample) => Math.abs(sample - 0.5) < 1e-4));
});

test("equal rates pass, rates that are none do not", () => {
  const input = tone(TO, 1000, 0.1);
  const out = convert(input, TO);
  assert.equal(out.length, input.length);
  for (const [from, to] of [[0, TO], [-1, TO], [44100.5, TO], [NaN, TO], [TO, 0]]) {
    assert.throws(() => new Resampler(from, to), RangeError);
  }
});

test("an hour in the audio thread costs little", () => {
  const resampler = new Resampler(44100, TO);
  const block = new Float32Array(44100);
  const began = performance.now();
  for (let second = 0; second < 20; second += 1) resampler.push(block);
  assert.ok(performance.now() - began < 20_000 * 0.2, "more than a fifth of real time");
});
