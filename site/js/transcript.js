/**
 * Merging what WhisperLive sends into one text; whisperctl/transcript.py follows the same rules,
 * and both are held to them by tests/browser/vectors/transcript.json.
 *
 * Each message repeats the last completed segments and carries at most one that is not complete.
 * 1. A completed segment is taken once, and never changes: one whose middle lies before the end of
 *    the last taken one was seen already.
 * 2. The incomplete segment stays as it was while messages come without one, until a completed one
 *    reaches into it. So nothing flickers.
 * 3. Times are moved by the connection's offset: they count from the first captured sample.
 */

/** Seconds; the server rounds its times, this much is no difference. */
const SLACK = 0.05;
/** Seconds of silence between two segments that begin a new paragraph. */
export const PARAGRAPH_GAP = 1.5;

/** @typedef {{start: number, end: number, text: string, completed: boolean}} Segment */

export class Transcript {
  /** @type {Segment[]} only grows */
  finals = [];
  /** @type {Segment | null} what the server still thinks about */
  partial = null;

  /** Where the last final word ends, in seconds. */
  get end() {
    return this.finals.length ? this.finals[this.finals.length - 1].end : 0;
  }

  get text() {
    return this.finals.map((segment) => segment.text).join(" ");
  }

  /**
   * Take one message's segments; broken ones are left out.
   * @param {unknown[]} segments @param {number} offset seconds
   * @returns {Segment[]} the finals that are new
   */
  update(segments, offset = 0) {
    const seen = segments.map((raw) => read(raw, offset)).filter((segment) => segment !== null);
    const fresh = [];
    for (const segment of seen.filter((s) => s.completed).sort((a, b) => a.start - b.start)) {
      const middle = (segment.start + segment.end) / 2;
      if (!this.finals.length || middle > this.end + SLACK) {
        this.finals.push(segment);
        fresh.push(segment);
      }
    }
    const partial = seen.filter((s) => !s.completed).pop();
    if (partial && (!this.finals.length || partial.end > this.end + SLACK)) this.partial = partial;
    else if (this.partial && this.end > this.partial.start + SLACK) this.partial = null;
    return fresh;
  }

  /** The server confirmed everything: what is still incomplete was not speech. */
  finish() {
    this.partial = null;
  }
}

/** Whether `segment` begins a paragraph after `before`. */
export function beginsParagraph(before, segment) {
  return !before || segment.start - before.end >= PARAGRAPH_GAP;
}

function read(raw, offset) {
  if (raw === null || typeof raw !== "object") return null;
  const start = Number.parseFloat(raw.start) + offset;
  const end = Number.parseFloat(raw.end) + offset;
  const text = typeof raw.text === "string" ? raw.text.trim() : "";
  if (!Number.isFinite(start) || !Number.isFinite(end) || !text) return null;
  return { start: round(start), end: round(end), text, completed: Boolean(raw.completed) };
}

function round(seconds) {
  return Math.round(seconds * 1000) / 1000;
}
