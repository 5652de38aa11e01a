/** How late words are, where the time goes, and whether it grows: from the moment they were said to the page. */

/** Words that are looked back on. */
const KEPT = 200;
/** Words this many seconds behind the speech are told. */
export const BEHIND = 5;
/** A backlog grows when it is so many seconds longer than so many seconds ago. */
const GROWN = 2;
const LOOK_BACK = 10;
const PARTS = ["total", "network", "decode", "policy"];

/**
 * Seconds from a word's end to its standing on the page for good.
 * network: from the microphone to the server and back, all buffers included; decode: the decode that gave the words,
 * with the wait for its turn; policy: what is left, mostly the wait until the sentence is surely over.
 * @typedef {{total: number, network: number | null, decode: number | null, policy: number | null}} Delay
 */

export class Delays {
  /** @type {Delay[]} one for each word */
  #words = [];
  /** The last ones' parts are not known yet: so many words. */
  #open = 0;
  /** Words that became final since the beginning. */
  count = 0;
  /** @type {number | null} seconds recorded when the first word was final */
  first = null;

  /**
   * Words became final. @param {{start: number, end: number, text: string}[]} finals times of the recording
   * @param {number} recorded seconds recorded by now: what is said this moment has that time
   * @param {boolean} [spoken] false: of a file, whose words are counted and never late
   */
  shown(finals, recorded, spoken = true) {
    this.#open = 0;
    if (!spoken) {
      for (const { text } of finals) this.count += text.split(/\s+/).filter(Boolean).length;
      return;
    }
    for (const { end, text } of finals) {
      const total = Math.max(0, recorded - end);
      for (const _ of text.split(/\s+/).filter(Boolean)) {
        this.#words.push({ total, network: null, decode: null, policy: null });
        this.#open += 1;
        this.count += 1;
        this.first ??= recorded;
      }
    }
    this.#words.splice(0, Math.max(0, this.#words.length - KEPT));
  }

  /**
   * The server's PROGRESS behind those words. @param {number} recorded seconds recorded by now
   * @param {{received: number | null, decode: number | null}} progress seconds: of the recording that had reached the
   *   server when it spoke, and that its last decode took; null where it does not say
   */
  explained(recorded, { received, decode }) {
    if (received === null || decode === null) return;
    for (const word of this.#words.slice(-this.#open || Infinity)) {
      word.network = Math.min(word.total, Math.max(0, recorded - received));
      word.decode = Math.min(word.total - word.network, decode);
      word.policy = word.total - word.network - word.decode;
    }
    this.#open = 0;
  }

  /** For a heartbeat: seconds to the first word, of the last words, and how many there were. */
  get measured() {
    const { total } = this.percentiles;
    if (total === null || this.first === null) return { words: this.count };
    const rounded = (seconds) => Math.round(seconds * 1000) / 1000;
    const latency = { first_word: rounded(this.first), final_p50: rounded(total.p50), final_p95: rounded(total.p95) };
    return { words: this.count, latency };
  }

  /**
   * Seconds at these shares of the last words, in total and by part; a part that no word has is null.
   * @returns {Record<"total" | "network" | "decode" | "policy", {p50: number, p95: number} | null>}
   */
  get percentiles() {
    return Object.fromEntries(PARTS.map((part) => [part, shares(this.#words.map((word) => word[part]))]));
  }
}

function shares(seconds) {
  const sorted = seconds.filter((one) => one !== null).sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
  return sorted.length ? { p50: at(0.5), p95: at(0.95) } : null;
}

/** Whether the words fall ever further behind the speech. */
export class Backlog {
  #looks = [];

  /** @param {number} now seconds of any clock @param {number} behind seconds @returns {boolean} it grows */
  look(now, behind) {
    this.#looks.push({ now, behind });
    while (this.#looks.length > 1 && this.#looks[1].now <= now - LOOK_BACK) this.#looks.shift();
    const before = this.#looks[0];
    return behind > BEHIND && now - before.now >= LOOK_BACK && behind - before.behind > GROWN;
  }
}
