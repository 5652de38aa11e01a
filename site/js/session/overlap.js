/** What a later connection hears again, cut off by its words. Pure; docs/lossless.md has the rule and its reasons. */

/** Seconds; segment times are rounded by the server, this much is no difference. */
export const SLACK = 0.05;
/** Seconds; times of words are guesses, since a segment has only two: this far off they may be. */
export const ABOUT = 0.5;
/** Of words this long, the part of the letters that must agree for one to be the other, heard differently. */
const LONG = 5;
const ALIKE = 0.6;

/** A word without case and punctuation. */
export function bare(text) {
  return text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
}

/** The words of a segment, their times shared out by their length, a space counted to the word before it. */
export function wordsOf(text, start, end) {
  const texts = text.split(/\s+/).filter(Boolean);
  const total = texts.reduce((sum, word) => sum + word.length + 1, 0);
  let at = 0;
  return texts.map((word) => {
    const after = at + word.length + 1;
    const found = { text: word, start: start + ((end - start) * at) / total, end: start + ((end - start) * after) / total };
    at = after;
    return found;
  });
}

/** The words that were final when a connection began, and that it may hear once more; one per connection. */
export class Overlap {
  #said;
  #seam;
  #saidUntil;

  /** @param {object[]} said @param {number} seam seconds up to where all was confirmed @param {number} saidUntil */
  constructor(said, seam, saidUntil) {
    this.#said = [...said];
    this.#seam = seam;
    this.#saidUntil = saidUntil;
  }

  copy() {
    return new Overlap(this.#said, this.#seam, this.#saidUntil);
  }

  /** What of a segment is new; "" when all of it was said before. */
  rest(text, start, end) {
    if (start >= this.#seam - SLACK) {
      this.#said = [];
      return text;
    }
    if (!this.#said.length) return end <= this.#seam + SLACK ? "" : text;
    const words = wordsOf(text, start, end);
    let { skip, used } = this.#match(words.filter((word) => word.start < this.#seam + ABOUT));
    if (used) this.#said = this.#said.slice(used);
    else skip = words.filter((word) => (word.start + word.end) / 2 < this.#saidUntil).length;
    if (skip === words.length) return "";
    this.#said = [];
    return skip ? words.slice(skip).map((word) => word.text).join(" ") : text;
  }

  /** The longest run that both have and that ends where either ends; of equal ones the earliest. */
  #match(heard) {
    const said = this.#said;
    let best = { run: 0, skip: 0, used: 0 };
    for (let i = 0; i < said.length; i += 1) {
      for (let j = 0; j < heard.length; j += 1) {
        let run = 0;
        while (i + run < said.length && j + run < heard.length && alike(said[i + run], heard[j + run], j + run)) run += 1;
        const ends = i + run === said.length || j + run === heard.length;
        if (ends && run > best.run) best = { run, skip: j + run, used: i + run };
      }
    }
    return best;
  }
}

/** Whether it is the same word. The first one heard may lack its beginning. */
function alike(said, heard, position) {
  const one = bare(said.text);
  const other = bare(heard.text);
  if (one === other) return true;
  if (position === 0 && other.length >= 2 && one.endsWith(other)) return true;
  const shortest = Math.min(one.length, other.length);
  return shortest >= LONG && 1 - distance(one, other) / Math.max(one.length, other.length) >= ALIKE;
}

/** Levenshtein's edit distance. */
function distance(one, other) {
  const row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i += 1) {
    let diagonal = row[0];
    row[0] = i;
    for (let j = 1; j <= other.length; j += 1) {
      const above = row[j];
      row[j] = Math.min(above + 1, row[j - 1] + 1, diagonal + (one[i - 1] === other[j - 1] ? 0 : 1));
      diagonal = above;
    }
  }
  return row[other.length];
}
