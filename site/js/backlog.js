/**
 * Captured samples by absolute number since recording began (16 kHz mono), kept until the server
 * has confirmed them.
 */
export class Backlog {
  #blocks = [];
  /** Number of the oldest sample still kept. */
  start = 0;
  /** Number after the newest captured sample. */
  end = 0;

  /** @param {Float32Array} samples taken over, not copied */
  append(samples) {
    if (!samples.length) return;
    this.#blocks.push(samples);
    this.end += samples.length;
  }

  /** Up to `count` samples from number `first` on. RangeError when they were released already. */
  read(first, count) {
    if (first < this.start) {
      throw new RangeError(`sample ${first} was released; the oldest kept is ${this.start}`);
    }
    const found = new Float32Array(Math.max(0, Math.min(count, this.end - first)));
    let at = this.start;
    let filled = 0;
    for (const block of this.#blocks) {
      if (filled === found.length) break;
      const skip = Math.max(0, first + filled - at);
      if (skip < block.length) {
        const part = block.subarray(skip, skip + found.length - filled);
        found.set(part, filled);
        filled += part.length;
      }
      at += block.length;
    }
    return found;
  }

  /** Forget whole blocks that lie before sample number `before`. */
  release(before) {
    let gone = 0;
    while (gone < this.#blocks.length && this.start + this.#blocks[gone].length <= before) {
      this.start += this.#blocks[gone].length;
      gone += 1;
    }
    this.#blocks.splice(0, gone);
  }
}
