/**
 * Segments to words: each final once and for ever, the open ones as sure as they are.
 *
 * Each message repeats the last completed segments and carries at most one that is not complete.
 * 1. Within a connection a completed segment is known by its place: those that the message shares with
 *    what was taken already are the end of that; what follows them is new, however short. Where they share
 *    nothing, what lies behind the last one taken is new. A final never changes.
 * 2. The incomplete segment stays as it was while messages come without one, until a completed one reaches
 *    into it. So nothing flickers. Of its words those are stable that two messages in a row begin with.
 * 3. Times are moved by the connection's offset. What a later connection hears again is cut off (overlap.js).
 */

import { ABOUT, Overlap, SLACK, bare, wordsOf } from "./overlap.js";

/** Seconds of silence between two segments that begin a new paragraph. */
export const PARAGRAPH_GAP = 1.5;

/**
 * @typedef {{start: number, end: number, text: string, completed: boolean,
 *   words?: {word: string, start: number, end: number}[]}} Segment
 *   words: with their own times, where the server was asked for them
 */

export class Transcript {
  /** @type {Segment[]} only grows */
  finals = [];
  /** @type {Segment | null} what the server still thinks about */
  partial = null;
  /** How many words of the partial two messages in a row agree on. */
  stable = 0;
  #offset = 0;
  /** @type {Segment[]} as this connection said them */
  #taken = [];
  /** @type {Overlap | null} */
  #overlap = null;
  #before = [];

  /** Where the last final word ends, in seconds. */
  get end() {
    return this.finals.length ? this.finals[this.finals.length - 1].end : 0;
  }

  get text() {
    return this.finals.map((segment) => segment.text).join(" ");
  }

  /** Another connection speaks from here on; it hears from `offset` seconds on, all before `confirmed` is final. */
  begin(offset, confirmed) {
    this.#offset = offset;
    this.#taken = [];
    const said = this.finals
      .filter((segment) => segment.end > offset - ABOUT)
      .flatMap((segment) => wordsOf(segment.text, segment.start, segment.end))
      .filter((word) => word.end > offset - ABOUT);
    this.#overlap = confirmed > offset ? new Overlap(said, Math.max(confirmed, this.end), this.end) : null;
  }

  /**
   * Take one message's segments; broken ones are left out.
   * @param {unknown[]} segments
   * @returns {Segment[]} the finals that are new
   */
  update(segments) {
    const seen = segments.map((raw) => read(raw, this.#offset)).filter((segment) => segment !== null);
    const fresh = [];
    for (const segment of this.#unseen(seen.filter((s) => s.completed).sort((a, b) => a.start - b.start))) {
      this.#taken.push(segment);
      const rest = this.#overlap ? this.#overlap.rest(segment.text, segment.start, segment.end) : segment.text;
      if (!rest) continue;
      const start = rest === segment.text ? segment.start : Math.min(Math.max(segment.start, this.end), segment.end);
      const final = { ...segment, start, text: rest };
      if (final.words) final.words = final.words.slice(-split(rest).length);
      this.finals.push(final);
      fresh.push(final);
    }
    this.#takePartial(seen.filter((s) => !s.completed).pop() ?? null, fresh);
    return fresh;
  }

  /** The server confirmed everything: what is still incomplete was not speech. */
  finish() {
    this.partial = null;
    this.stable = 0;
    this.#before = [];
  }

  /** Rule 1. */
  #unseen(completed) {
    const taken = this.#taken;
    if (!taken.length) return completed;
    for (let shared = Math.min(completed.length, taken.length); shared > 0; shared -= 1) {
      const from = taken.length - shared;
      if (completed.slice(0, shared).every((segment, index) => same(segment, taken[from + index]))) {
        return completed.slice(shared);
      }
    }
    const last = taken[taken.length - 1];
    const behind = (s) => s.start >= last.end - SLACK || s.start + s.end > 2 * last.end;
    return completed.filter((s) => !taken.some((t) => same(s, t)) && behind(s));
  }

  /** Rule 2. */
  #takePartial(given, fresh) {
    let partial = given;
    if (partial && this.#overlap) {
      const rest = this.#overlap.copy().rest(partial.text, partial.start, partial.end);
      if (rest !== partial.text) {
        partial = rest ? { ...partial, start: Math.max(partial.start, this.end), text: rest, words: undefined } : null;
      }
    }
    if (fresh.length && this.#before.length) {
      this.#before = behind(this.#before, fresh.flatMap((segment) => split(segment.text)));
    }
    if (partial && (!this.finals.length || partial.end > this.end + SLACK)) {
      const words = split(partial.text);
      this.stable = agreed(this.#before, words);
      this.partial = partial;
      this.#before = words;
    } else if (this.partial && this.end > this.partial.start + SLACK) {
      this.finish();
    }
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
  const words = readWords(raw.words, offset);
  const segment = { start: round(start), end: round(end), text, completed: Boolean(raw.completed) };
  return words.length === split(text).length ? { ...segment, words } : segment;
}

/** Words with their times moved; none where the server sends none, or broken ones. */
function readWords(raw, offset) {
  if (!Array.isArray(raw)) return [];
  const words = raw.map((each) => ({
    word: String(each?.word ?? "").trim(),
    start: round(Number.parseFloat(each?.start) + offset),
    end: round(Number.parseFloat(each?.end) + offset),
  }));
  return words.every(({ word, start, end }) => word && Number.isFinite(start) && Number.isFinite(end)) ? words : [];
}

function same(one, other) {
  return one.start === other.start && one.end === other.end && one.text === other.text;
}

function split(text) {
  return text.split(/\s+/).filter(Boolean);
}

/** With how many words both begin, whatever their case and punctuation. */
function agreed(before, now) {
  let count = 0;
  while (count < before.length && count < now.length && bare(before[count]) === bare(now[count])) count += 1;
  return count;
}

/** What was open behind the words that became final; nothing where they are not the same words. */
function behind(open, finals) {
  return agreed(open, finals) === Math.min(finals.length, open.length) ? open.slice(finals.length) : [];
}

function round(seconds) {
  return Math.round(seconds * 1000) / 1000;
}
