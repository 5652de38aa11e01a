/** Whether what the microphone gives can be speech: heard before anybody has spoken for an hour in vain. */

const RATE = 16000;
/** A working microphone has noise of its own; below this there is none, or another device was chosen. */
const NO_SIGNAL_DB = -75;
/** Speech that quiet is transcribed, but badly. */
const QUIET_DB = -50;
/** Samples this near to full scale were cut off. */
const FULL = 0.985;
/** This share of a loud second being cut off is heard as distortion. */
const CLIPPED = 0.002;
/** Seconds that are looked back on. */
const WINDOW = 5;
/** Seconds after which a verdict is given at all. */
const PATIENCE = 2;

/** @typedef {"unknown" | "good" | "none" | "quiet" | "clipping"} Verdict */

const SENTENCES = new Map([
  ["none", "No sound arrives: is this the right microphone, and is it switched on?"],
  ["quiet", "Very quiet: come nearer, or turn the microphone up."],
  ["clipping", "Too loud: the sound is cut off; go back a little, or turn the microphone down."],
]);

/** What to show; "" when all is well. @param {Verdict} verdict */
export function signalWords(verdict) {
  return SENTENCES.get(verdict) ?? "";
}

export class SignalCheck {
  /** The last seconds' blocks: length, power and samples cut off. */
  #blocks = [];
  #held = 0;
  /** Somebody was heard well once: later silence is silence. */
  #proved = false;

  /** @param {Float32Array} samples 16 kHz @returns {Verdict} */
  push(samples) {
    if (samples.length) this.#blocks.push(measure(samples));
    this.#held += samples.length;
    while (this.#held - this.#blocks[0]?.length >= WINDOW * RATE) this.#held -= this.#blocks.shift().length;
    return this.verdict;
  }

  /** @returns {Verdict} */
  get verdict() {
    if (this.#held < PATIENCE * RATE) return "unknown";
    const loudest = Math.max(...this.#blocks.map(({ decibels }) => decibels));
    const clipped = this.#blocks.reduce((sum, block) => sum + block.clipped, 0);
    if (clipped > CLIPPED * RATE) return "clipping";
    if (loudest >= QUIET_DB) {
      this.#proved = true;
      return "good";
    }
    if (loudest <= NO_SIGNAL_DB) return "none";
    return this.#proved ? "good" : "quiet";
  }
}

function measure(samples) {
  let power = 0;
  let clipped = 0;
  for (const sample of samples) {
    power += sample * sample;
    if (Math.abs(sample) >= FULL) clipped += 1;
  }
  return { length: samples.length, decibels: 10 * Math.log10(power / samples.length + 1e-12), clipped };
}
