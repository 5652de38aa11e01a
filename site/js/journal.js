/**
 * What happened, for whoever has to find out why something went wrong: times, codes, states, settings.
 *
 * Never a word of what was said, never a token or ticket: only what is named here is written down.
 */

/** Events that are kept; of a longer story the beginning and the end matter most, so the middle goes. */
const MOST = 2000;
const FIRST = 500;

export class Journal {
  #events = [];
  #left = 0;
  #now;
  #began;

  /** @param {() => number} [now] seconds */
  constructor(now = () => performance.now() / 1000) {
    this.#now = now;
    this.#began = now();
  }

  /** @param {string} event @param {Record<string, string | number | boolean | null>} [about] */
  note(event, about = {}) {
    this.#events.push({ at_s: Math.round((this.#now() - this.#began) * 1000) / 1000, event, ...about });
    if (this.#events.length > MOST) {
      this.#events.splice(FIRST, 1);
      this.#left += 1;
    }
  }

  /** @returns {{events: object[], left_out: number}} */
  get story() {
    return { events: [...this.#events], left_out: this.#left };
  }
}

/**
 * One document of it all. @param {{journal: Journal, progress: object | null, settings: object, recorded: number,
 *   delays: object, segments: {start: number, end: number, text: string}[], agent: string, startedAt: number}} parts
 *   startedAt: milliseconds since 1970
 * @param {string | null} sound a WAV file in base64, null without
 */
export function diagnostics({ journal, progress, settings, recorded, delays, segments, agent, startedAt }, sound) {
  const counted = segments.map(({ start, end, text }) => ({ start, end, words: text.split(/\s+/).filter(Boolean).length }));
  return {
    format: "whisperlive-edge-diagnostics/1",
    saved_at: new Date().toISOString(),
    started_at: new Date(startedAt).toISOString(),
    browser: agent,
    // Which microphone it was is nobody's business; whether one was chosen may be the cause.
    settings: { ...settings, device: settings.device ? "chosen" : "the system's own" },
    progress,
    recorded_s: recorded,
    delays,
    segments: counted,
    ...journal.story,
    sound,
  };
}
