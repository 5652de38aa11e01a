/**
 * Whether to ask by HTTP first if anybody is there, before a WebSocket is tried.
 *
 * Browsers make a WebSocket wait that follows many failed ones, however soon the server is back: Chromium up to 5 s
 * from some fifteen failures on within the last minutes, Firefox ever longer. A request by HTTP never waits. So a
 * long outage is spent on requests, and the WebSocket that follows an answer opens at once.
 */

/** So many tries in a row may fail before the next one asks first: a short outage costs no request. */
const FREELY = 6;
/** Seconds from one WebSocket to another that is tried without an answer, in case that HTTP alone is blocked. */
const ANYWAY = 60;

/** Times are seconds of the caller's clock. */
export class Reach {
  #failed = 0;
  #triedAt = -Infinity;

  /** Whether the try that begins now is to ask first. */
  asksFirst(now) {
    return this.#failed >= FREELY && now - this.#triedAt < ANYWAY;
  }

  /** A WebSocket is tried; it counts as failed until it is open. */
  tried(now) {
    this.#failed += 1;
    this.#triedAt = now;
  }

  opened() {
    this.#failed = 0;
  }
}

/**
 * Resolve once the way to the speech server is open: the request goes where the WebSocket would, so that an edge
 * without a server behind it, which answers 502, does not count.
 * @param {string} url of the WebSocket
 * @param {AbortSignal} signal
 */
export async function answers(url, signal) {
  const address = url.replace(/^ws/, "http");
  // The speech server answers 426: no WebSocket was asked for. Elsewhere than here the status cannot be read, and is 0.
  const { status } = await fetch(address, { cache: "no-store", credentials: "omit", mode: "no-cors", signal });
  if (status >= 500) throw new Error(`HTTP ${status}`);
}
