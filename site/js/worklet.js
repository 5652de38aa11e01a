/**
 * Runs in the audio thread: the microphone's first channel as blocks of 0.1 s at 16 kHz, handed over without a copy.
 * A context at another rate is converted here, where samples come one by one and none is skipped.
 */
import { Resampler } from "./resample.js";

const RATE = 16000;
const BLOCK = RATE / 10;

class Recorder extends AudioWorkletProcessor {
  #resampler = sampleRate === RATE ? null : new Resampler(sampleRate, RATE);
  #block = new Float32Array(BLOCK);
  #filled = 0;
  #running = true;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.#running = false;
      if (this.#resampler) this.#gather(this.#resampler.flush());
      this.#hand(this.#block.slice(0, this.#filled));
      this.port.postMessage(null);
    };
  }

  process([channels]) {
    if (!this.#running) return false;
    const input = channels[0];
    if (input) this.#gather(this.#resampler ? this.#resampler.push(input) : input);
    return true;
  }

  #gather(input) {
    let taken = 0;
    while (taken < input.length) {
      const part = input.subarray(taken, taken + BLOCK - this.#filled);
      this.#block.set(part, this.#filled);
      this.#filled += part.length;
      taken += part.length;
      if (this.#filled === BLOCK) {
        this.#hand(this.#block); // its memory goes along: a new block, of the constant's length
        this.#block = new Float32Array(BLOCK);
        this.#filled = 0;
      }
    }
  }

  #hand(samples) {
    this.port.postMessage(samples, [samples.buffer]);
  }
}

registerProcessor("recorder", Recorder);
