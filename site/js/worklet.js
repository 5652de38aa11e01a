/**
 * Runs in the audio thread: gathers the microphone's first channel into blocks of 0.1 s and hands
 * them over without a copy. Sample rate: the context's.
 */
const BLOCK = Math.round(sampleRate / 10);

class Recorder extends AudioWorkletProcessor {
  #block = new Float32Array(BLOCK);
  #filled = 0;
  #running = true;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.#running = false;
      this.#hand(this.#block.slice(0, this.#filled));
      this.port.postMessage(null);
    };
  }

  process([channels]) {
    if (!this.#running) return false;
    const input = channels[0];
    if (!input) return true;
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
    return true;
  }

  #hand(samples) {
    this.port.postMessage(samples, [samples.buffer]);
  }
}

registerProcessor("recorder", Recorder);
