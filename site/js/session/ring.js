/**
 * Captured samples by absolute number, 16 kHz mono: kept until they are confirmed. Two minutes stay in
 * memory; what is older goes to a store (spill.js), and what that refuses stays in memory as well.
 */

import { RATE } from "./connection.js";

const MEMORY = 120 * RATE;
/** Samples that go to the store as one piece. */
const PIECE = 5 * RATE;

export class Ring {
  /** @type {{first: number, length: number, samples: Float32Array | null}[]} null: in the store */
  #pieces = [];
  #store;
  #memory;
  #inMemory = 0;
  #spilling = false;
  /** The store takes no more; what it has it still gives. */
  #full = false;
  /** The piece read from the store last: the next frame mostly lies in it too. */
  #fetched = { piece: null, samples: null };
  /** Number of the oldest sample still kept. */
  start = 0;
  /** Number after the newest captured sample. */
  end = 0;
  /** Samples that the store has lost; silence goes in their place. */
  missing = 0;

  /** @param {{put: Function, get: Function, remove: Function} | null} [store] @param {number} [memory] samples */
  constructor(store = null, memory = MEMORY) {
    this.#store = store;
    this.#memory = memory;
  }

  /** @param {Float32Array} samples taken over, not copied */
  append(samples) {
    if (!samples.length) return;
    this.#pieces.push({ first: this.end, length: samples.length, samples });
    this.end += samples.length;
    this.#inMemory += samples.length;
    if (this.#inMemory > this.#memory + PIECE) this.#spill();
  }

  /**
   * Up to `count` samples from number `first` on; a promise of them where some are in the store.
   * RangeError when they were released already.
   * @returns {Float32Array | Promise<Float32Array>}
   */
  read(first, count) {
    if (first < this.start) throw new RangeError(`sample ${first} was released; the oldest kept is ${this.start}`);
    const last = Math.min(first + count, this.end);
    const found = new Float32Array(Math.max(0, last - first));
    const late = [];
    for (const piece of this.#pieces) {
      if (piece.first >= last) break;
      if (piece.first + piece.length <= first) continue;
      if (piece.samples) copy(piece.samples, piece.first, found, first);
      else late.push(this.#fetch(piece).then((samples) => copy(samples, piece.first, found, first)));
    }
    return late.length ? Promise.all(late).then(() => found) : found;
  }

  /** Forget whole pieces that lie before sample number `before`. */
  release(before) {
    let gone = 0;
    while (gone < this.#pieces.length && this.#pieces[gone].first + this.#pieces[gone].length <= before) {
      const piece = this.#pieces[gone];
      if (piece.samples) this.#inMemory -= piece.length;
      else this.#store?.remove(piece.first).catch(() => {}); // cleared with the rest when the session ends
      this.start = piece.first + piece.length;
      gone += 1;
    }
    this.#pieces.splice(0, gone);
  }

  /** Move the oldest samples in memory to the store; they leave memory once it has them. */
  async #spill() {
    if (this.#spilling || !this.#store || this.#full) return;
    this.#spilling = true;
    try {
      while (this.#inMemory > this.#memory + PIECE) {
        const piece = this.#joined();
        await this.#store.put(piece.first, piece.samples);
        piece.samples = null;
        if (this.#pieces.includes(piece)) this.#inMemory -= piece.length;
        else await this.#store.remove(piece.first); // released meanwhile
      }
    } catch {
      this.#full = true; // no room, or not allowed: memory has to do, nothing is dropped
    } finally {
      this.#spilling = false;
    }
  }

  /** The oldest samples in memory as one piece of the list. */
  #joined() {
    const at = this.#pieces.findIndex((piece) => piece.samples);
    let until = at;
    let length = 0;
    while (until < this.#pieces.length && length < PIECE) length += this.#pieces[until++].length;
    const parts = this.#pieces.slice(at, until);
    const piece = { first: parts[0].first, length, samples: new Float32Array(length) };
    for (const part of parts) copy(part.samples, part.first, piece.samples, piece.first);
    this.#pieces.splice(at, parts.length, piece);
    return piece;
  }

  #fetch(piece) {
    if (this.#fetched.piece !== piece) this.#fetched = { piece, samples: this.#load(piece) };
    return this.#fetched.samples;
  }

  async #load(piece) {
    try {
      const samples = await this.#store.get(piece.first);
      if (samples?.length === piece.length) return samples;
    } catch {
      // As if it were not there.
    }
    // Counted once, however often it is sent: from here on it is silence in memory.
    this.missing += piece.length;
    piece.samples = new Float32Array(piece.length);
    this.#inMemory += piece.length;
    return piece.samples;
  }
}

/** Copy the part of `from` (whose first sample is number `fromFirst`) that falls into `to`. */
function copy(from, fromFirst, to, toFirst) {
  const skip = Math.max(0, toFirst - fromFirst);
  const part = from.subarray(skip, Math.max(skip, toFirst + to.length - fromFirst));
  to.set(part, fromFirst + skip - toFirst);
}
