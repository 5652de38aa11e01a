/**
 * One connection's numbers: what was sent, what the server has confirmed, how much may be on its way.
 *
 * Source of the protocol: WhisperLive 0.10.0 with this project's additions (PROGRESS, END, NOTICE, close
 * codes). Samples are counted absolutely since capture began; the server counts seconds from the
 * connection's own first sample, which is `offset`.
 */

export const RATE = 16000;
/** A frame carries at most 0.5 s. */
export const FRAME_SAMPLES = RATE / 2;
/** Seconds that may be on their way unconfirmed. */
const WINDOW = 45;
/** A server that sends no PROGRESS gets this many seconds at once, then twice real time. */
const BURST = 15;
const STOCK_SPEED = 2;

/** Times are seconds of the caller's clock, samples absolute numbers. */
export class Connection {
  /** "opening" until the socket is open, "greeted" until SERVER_READY, "streaming", "ending" from END_OF_AUDIO on. */
  state = "opening";
  offset = 0;
  nextSample = 0;
  /** Everything before was processed by the server: its words are final, or there are none. */
  confirmed = 0;
  /** Everything before has reached the server; null where it does not say so. */
  received = null;
  progressSeen = false;
  /** It confirmed something new: the connection works. */
  proved = false;
  readyAt = 0;
  heardAt = 0;
  /** The server has said that it will close this connection. */
  closingSoon = false;

  /** @param {number} id @param {number} beganAt since when it is opened, then since when the handshake is sent */
  constructor(id, beganAt) {
    this.id = id;
    this.beganAt = beganAt;
  }

  /** SERVER_READY: from here on audio goes out, from sample `offset` on. */
  ready(offset, now) {
    this.state = "streaming";
    this.readyAt = this.heardAt = now;
    this.offset = this.nextSample = this.confirmed = offset;
  }

  /** Server seconds to an absolute sample, never beyond what was sent; null for what is not a number. */
  sample(seconds) {
    const sample = this.offset + Math.round(Number.parseFloat(seconds) * RATE);
    return Number.isFinite(sample) ? Math.min(sample, this.nextSample) : null;
  }

  confirm(seconds) {
    this.confirmed = Math.max(this.confirmed, this.sample(seconds) ?? 0);
  }

  /** How many samples may be sent now without leaving too much unconfirmed. */
  allowance(now) {
    if (this.state !== "streaming") return 0;
    const limit = this.progressSeen
      ? this.confirmed + WINDOW * RATE
      : this.offset + (BURST + STOCK_SPEED * (now - this.readyAt)) * RATE;
    return Math.max(0, Math.floor(limit) - this.nextSample);
  }
}
