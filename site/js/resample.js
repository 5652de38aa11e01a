/**
 * Sample rate conversion by a polyphase windowed sinc, as a stream: blocks of any length in, blocks out, and over a
 * whole recording exactly ceil(samples * to / from) samples, without delay between input and output times.
 *
 * The filter: sinc low-pass under a Kaiser window (J. F. Kaiser, "Nonrecursive digital filter design using the
 * I0-sinh window function", 1974): for an attenuation of A dB over a transition of w radians per sample it takes
 * (A - 8) / (2.285 w) taps with beta = 0.1102 (A - 8.7). What would alias is kept out from half the lower rate on;
 * the voice is untouched up to seven eighths of that.
 */

/** dB by which everything beyond half the lower rate is weakened. */
const ATTENUATION = 80;
/** Share of the pass band given up for the transition. */
const TRANSITION = 1 / 8;

export class Resampler {
  #up;
  #down;
  #reach;
  #phases;
  /** Input not needed any less yet; its first sample has number #first. */
  #kept;
  #first;
  /** Numbers of the next input and the next output sample. */
  #taken = 0;
  #given = 0;

  /** @param {number} from @param {number} to sample rates in Hz, whole and positive */
  constructor(from, to) {
    if (!Number.isInteger(from) || !Number.isInteger(to) || from <= 0 || to <= 0) {
      throw new RangeError(`no sample rates: ${from} to ${to}`);
    }
    const common = gcd(from, to);
    this.#up = to / common;
    this.#down = from / common;
    const { reach, phases } = design(this.#up, this.#down);
    this.#reach = reach;
    this.#phases = phases;
    // The first outputs look back before the recording: silence.
    this.#kept = new Float32Array(reach);
    this.#first = -reach;
  }

  /** Take a block and give what can be given. @param {Float32Array} block @returns {Float32Array} */
  push(block) {
    this.#taken += block.length;
    this.#append(block);
    // Output n stands at input time n * down / up and needs `reach` samples after it.
    return this.#give(Math.ceil(((this.#taken - this.#reach) * this.#up) / this.#down));
  }

  /** The recording is over: give the rest. @returns {Float32Array} */
  flush() {
    this.#append(new Float32Array(this.#reach + 1));
    return this.#give(Math.ceil((this.#taken * this.#up) / this.#down));
  }

  #append(block) {
    const joined = new Float32Array(this.#kept.length + block.length);
    joined.set(this.#kept);
    joined.set(block, this.#kept.length);
    this.#kept = joined;
  }

  #give(until) {
    const out = new Float32Array(Math.max(0, until - this.#given));
    for (let index = 0; index < out.length; index += 1) {
      const position = (this.#given + index) * this.#down;
      const whole = Math.floor(position / this.#up);
      const taps = this.#phases[position % this.#up];
      const start = whole - this.#reach + 1 - this.#first;
      let sum = 0;
      for (let tap = 0; tap < taps.length; tap += 1) sum += taps[tap] * this.#kept[start + tap];
      out[index] = sum;
    }
    this.#given += out.length;
    this.#forget(Math.floor((this.#given * this.#down) / this.#up) - this.#reach + 1);
    return out;
  }

  #forget(before) {
    const gone = before - this.#first;
    if (gone <= 0) return;
    this.#kept = this.#kept.slice(gone);
    this.#first = before;
  }
}

/** One set of taps for each position between two input samples; `reach` samples to either side. */
function design(up, down) {
  // In cycles per input sample: half the lower of the two rates, and the middle of the transition below it.
  const edge = 0.5 * Math.min(1, up / down);
  const cutoff = edge * (1 - TRANSITION / 2);
  const transition = 2 * Math.PI * edge * TRANSITION;
  const reach = Math.ceil((ATTENUATION - 8) / (2.285 * transition) / 2);
  const beta = 0.1102 * (ATTENUATION - 8.7);
  const phases = [];
  for (let phase = 0; phase < up; phase += 1) {
    const taps = new Float64Array(2 * reach);
    let total = 0;
    for (let tap = 0; tap < taps.length; tap += 1) {
      const time = tap - reach + 1 - phase / up;
      taps[tap] = sinc(2 * cutoff * time) * kaiser(time / reach, beta);
      total += taps[tap];
    }
    // Each phase passes a constant as it is, or the phases would hum against each other.
    phases.push(taps.map((tap) => tap / total));
  }
  return { reach, phases };
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x, beta) {
  return Math.abs(x) > 1 ? 0 : bessel(beta * Math.sqrt(1 - x * x)) / bessel(beta);
}

/** Modified Bessel function of the first kind, order 0, by its power series. */
function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function gcd(a, b) {
  return b === 0 ? a : gcd(b, a % b);
}
