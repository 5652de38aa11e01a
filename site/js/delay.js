/** How late words are: from the moment they were said to the moment they stood on the page, for good. */

/** Words that are looked back on. */
const KEPT = 200;

export class Delays {
  #seconds = [];

  /**
   * Words became final. @param {{start: number, end: number, text: string}[]} finals times of the recording
   * @param {number} recorded seconds recorded by now: what is said this moment has that time
   */
  shown(finals, recorded) {
    for (const { end, text } of finals) {
      const words = text.split(/\s+/).filter(Boolean).length;
      for (let word = 0; word < words; word += 1) this.#seconds.push(Math.max(0, recorded - end));
    }
    this.#seconds.splice(0, Math.max(0, this.#seconds.length - KEPT));
  }

  /** Seconds at these shares of the last words; null while there are none. @returns {{p50: number, p95: number} | null} */
  get percentiles() {
    if (!this.#seconds.length) return null;
    const sorted = [...this.#seconds].sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
    return { p50: at(0.5), p95: at(0.95) };
  }
}
