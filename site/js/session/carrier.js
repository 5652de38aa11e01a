/**
 * Carries captured samples to the server, whatever happens to connections: events in, effects out.
 *
 * No socket, no clock, no timer: a shell tells what happened and when (seconds of any clock that only
 * grows), and does what it is told. docs/lossless.md describes the algorithm;
 * whisperctl/session/carrier.py is the same machine, and tests/session/vectors hold both to it.
 */

import { meaning } from "./codes.js";
import { Connection, FRAME_SAMPLES, RATE } from "./connection.js";
import { Transcript } from "./transcript.js";

/** Samples before what is confirmed that a later connection hears again. */
const OVERLAP = RATE;
/** Bytes a socket may hold before we wait: four seconds of audio. */
const SOCKET_BUFFER = 4 * RATE * 4;
/** Seconds a connection may take to open. Every third try in a row, and the first ever, has the longer time. */
const OPEN = 2;
const OPEN_LONG = 8;
/** Seconds SERVER_READY may take. */
const GREET = 5;
/** Full jitter: the n-th try in a row begins a random part of min(cap, 0.25 * 2^n) after the one before it began. */
const BACKOFF = 0.25;
const BACKOFF_CAP = 1.5;
const FULL_CAP = 5;
/** A server that sends PROGRESS says something every two seconds; this long without a word is a dead connection. */
const SILENCE = 5;
const MOST_SILENCE = 60;
/** Seconds it may be silent after END_OF_AUDIO, with PROGRESS and without. */
const FLUSH = 6;
const STOCK_FLUSH = 30;
/** How often END_OF_AUDIO is tried before the server is believed to be unable to answer it. */
const FLUSHES = 3;
/** A session nobody heard of for three minutes ends; after this long its end is no surprise, and no one's decision. */
const LAPSED = 150;
/** So many seconds of audio under way, or waiting for the socket, for as long, are told as a slow network. */
const HELD = 3;

/**
 * What a shell is to do, in order.
 * @typedef {{do: "connect" | "hello" | "end" | "close", conn: number}
 *   | {do: "audio", conn: number, first: number, count: number}
 *   | {do: "renew"} | {do: "words", finals: object[]} | {do: "notice", sentence: string}
 *   | {do: "over", complete: boolean, code: number | null, sentence: string}} Effect
 *   renew: the session lapsed while nobody could be reached, open another one and tell its place;
 *   close: close the socket, nothing it still says counts; over, complete: every word is final
 */

/** One stream. Every method takes the time `now` and returns effects. */
export class Carrier {
  transcript = new Transcript();
  /** Number after the newest captured sample. */
  end = 0;
  /** Everything before was processed: its words are final, or there are none. */
  confirmed = 0;
  /** Everything before was read by a decode; its words may still change. */
  decoded = 0;
  /** Connections that carried audio after the first one. */
  reconnects = 0;
  /** The last PROGRESS: what had reached the server (absolute sample), and what its last decode took (seconds). */
  progress = { received: null, decode: null };
  over = null;
  full = false;
  wasLive = false;

  #buffered;
  #jitter;
  #patience;
  #out = [];
  #ids = 0;
  /** The newest connection that sent its handshake. */
  #greeted = 0;
  /** @type {Connection | null} carries the audio */
  #current = null;
  /** @type {Connection | null} is being opened, to take over */
  #next = null;
  #finished = false;
  #ticket = false;
  #progress = false;
  #failures = 0;
  #flushes = 0;
  #retryAt = -Infinity;
  #attemptAt = -Infinity;
  #silence = SILENCE;
  #suspect = false;
  #contactAt = -Infinity;
  #outSince = null;
  #heldSince = null;
  #held = false;

  /**
   * @param {{buffered?: (conn: number) => number, jitter?: () => number, patience?: number}} [parts]
   *   buffered: bytes that a connection's socket still holds; jitter: random numbers from 0 to 1;
   *   patience: seconds without a connection after which the rest is given up
   */
  constructor({ buffered = () => 0, jitter = Math.random, patience = Infinity } = {}) {
    this.#buffered = buffered;
    this.#jitter = jitter;
    this.#patience = patience;
  }

  // What a shell looks at

  /** "waiting" for a ticket, "connecting", "live", "reconnecting", "full", "finishing", "over". */
  get state() {
    if (this.over) return "over";
    if (this.#current && !this.#suspect) return this.#current.state === "ending" ? "finishing" : "live";
    if (this.full) return "full";
    if (this.wasLive) return "reconnecting";
    return this.#ticket ? "connecting" : "waiting";
  }

  /** Samples before this one are never needed again. */
  get keepFrom() {
    return Math.max(0, this.confirmed - OVERLAP);
  }

  /** Seconds that a connection which says hello now is to hear again, though all was said of them; it may be more. */
  get known() {
    return (this.confirmed - this.keepFrom) / RATE;
  }

  /** Audio does not get to the server as fast as it comes; it is kept. */
  get slowNetwork() {
    return this.#held;
  }

  /** Seconds that the words are behind what was captured. */
  get behind() {
    return (this.end - Math.max(this.confirmed, this.decoded)) / RATE;
  }

  /** Seconds captured and known never to become words. */
  get lost() {
    return this.over ? (this.end - this.confirmed) / RATE : 0;
  }

  /** Whether the API is to be asked for the session's place: there is no ticket, or it opens nothing now. */
  get wantsPlace() {
    return !this.over && !this.#current && (!this.#ticket || this.full || this.#failures > 2);
  }

  // What a shell tells

  /** A ticket is in hand (again). */
  place(now) {
    if (!this.#ticket || this.full) this.#retryAt = Math.min(this.#retryAt, Math.max(now, this.#attemptAt + 1));
    if (this.#outSince === null && !this.#ticket) this.#outSince = now;
    this.#ticket = true;
    this.contact(now);
    return this.#goOn(now);
  }

  /** The API answered for this session. */
  contact(now) {
    this.#contactAt = now;
  }

  captured(end, now) {
    this.end = end;
    return this.#goOn(now);
  }

  /** Nothing more will be captured. */
  finish(now) {
    this.#finished = true;
    return this.#goOn(now);
  }

  opened(conn, now) {
    if (this.#next?.id === conn && this.#next.state === "opening") {
      this.#next.state = "greeted";
      this.#next.beganAt = now;
      this.#greeted = conn;
      this.#out.push({ do: "hello", conn });
    }
    return this.#goOn(now);
  }

  /** Unknown messages, and those of connections that do not count any more, mean nothing. */
  message(conn, text, now) {
    let said = null;
    try {
      said = JSON.parse(text);
    } catch {
      // Not ours to read; it counts for nothing.
    }
    if (said !== null && typeof said === "object") {
      if (this.#current?.id === conn) this.#hear(this.#current, said, now);
      else if (this.#next?.id === conn) this.#hearNext(said, now);
    }
    return this.#goOn(now);
  }

  /** A socket is closed, or could not be opened (`code` null or 1006). */
  closed(conn, code, reason, now) {
    if (this.#next?.id === conn) {
      this.#next = null;
      this.#refused(code, reason, now);
    } else if (this.#current?.id === conn) {
      const lost = this.#current;
      this.#current = null;
      this.#suspect = false;
      this.#dropped(lost, code, reason, now);
    }
    return this.#goOn(now);
  }

  /** The API says that the session has ended; where it still streams, the server will say so itself. */
  sessionOver(sentence, now) {
    if (!this.#current || this.#suspect) this.#noMore("refused", null, sentence, now);
    return this.#goOn(now);
  }

  /** The system says that the network is back: nothing that hangs is waited for. */
  online(now) {
    this.#retryAt = now;
    if (this.#next?.state === "opening") this.#abandonNext();
    return this.#goOn(now);
  }

  /** Time passes; to be called at least every quarter of a second while nothing else happens. */
  tick(now) {
    return this.#goOn(now);
  }

  /** Nobody waits for the rest, or the API refuses it. */
  giveUp(sentence, now) {
    this.#end(false, null, sentence);
    return this.#goOn(now);
  }

  // Connections

  #goOn(now) {
    if (!this.over) {
      this.#look(now);
      this.#pump(now);
    }
    const out = this.#out;
    this.#out = [];
    return out;
  }

  /** What time alone brings: hung attempts, silent servers, the next try. */
  #look(now) {
    if (this.#next) {
      const opening = this.#next.state === "opening";
      if (now - this.#next.beganAt > (opening ? this.#openPatience() : GREET)) {
        this.#abandonNext();
        this.#again(now);
      }
    }
    if (this.#current && !this.#suspect && this.#silent(this.#current, now)) this.#wentSilent(this.#current, now);
    if (this.over) return;
    const wanted = !this.#current || this.#suspect || this.#current.closingSoon;
    if (wanted && this.#ticket && !this.#next && now >= this.#retryAt) {
      this.#ids += 1;
      this.#next = new Connection(this.#ids, now);
      this.#attemptAt = now;
      this.#out.push({ do: "connect", conn: this.#ids });
    }
    if (this.#outSince !== null && now - this.#outSince > this.#patience) {
      this.#end(false, null, `no connection for ${this.#patience} s`);
    }
  }

  #openPatience() {
    return !this.wasLive || this.#failures % 3 === 2 ? OPEN_LONG : OPEN;
  }

  #silent(current, now) {
    const since = now - current.heardAt;
    if (current.state === "ending") return since > (this.#progress ? FLUSH : STOCK_FLUSH);
    return current.progressSeen && current.nextSample - current.confirmed > RATE && since > this.#silence;
  }

  #wentSilent(current, now) {
    if (current.state === "ending") {
      this.#flushes += 1;
      if (!this.#progress || this.#flushes >= FLUSHES) {
        this.#end(false, null, "the server ended without confirming the last words");
        return;
      }
    }
    this.#silence = Math.min(MOST_SILENCE, 2 * this.#silence);
    this.#suspect = true;
    this.#outSince = now;
    this.#retryAt = now;
  }

  /** Schedule the next try after one that failed. */
  #again(now) {
    const cap = this.full ? FULL_CAP : BACKOFF_CAP;
    let delay = this.#jitter() * Math.min(cap, BACKOFF * 2 ** this.#failures);
    if (this.full) delay += 1;
    this.#failures = Math.min(this.#failures + 1, 30);
    this.#retryAt = Math.max(now, this.#attemptAt + delay);
  }

  #abandonNext() {
    if (this.#next) this.#out.push({ do: "close", conn: this.#next.id });
    this.#next = null;
  }

  /** SERVER_READY of the next connection: from now on it carries the audio, and nothing older counts. */
  #takeOver(now) {
    if (this.#current) this.#out.push({ do: "close", conn: this.#current.id });
    this.#current = this.#next;
    this.#next = null;
    this.#current.ready(this.keepFrom, now);
    if (this.wasLive) this.reconnects += 1;
    this.transcript.begin(this.keepFrom / RATE, this.confirmed / RATE);
    this.wasLive = true;
    this.full = false;
    this.#suspect = false;
    this.#outSince = null;
  }

  /** The connection that carried the audio is closed. */
  #dropped(lost, code, reason, now) {
    this.#outSince = now;
    let { then, sentence } = meaning(code, reason);
    if (code === 4412 && this.#greeted > lost.id) then = "retry"; // by ourselves: a newer one has said hello
    if (lost.state === "ending" && code === 1000) this.#flushes += 1;
    // A stock server never confirms the end.
    if (this.#flushes >= (this.#progress ? FLUSHES : 1)) this.#end(false, code, sentence);
    else if (then === "final" || then === "refused") this.#noMore(then, code, sentence, now);
    else {
      this.full = then === "wait";
      if (this.#next) return;
      if (!this.full && (lost.proved || !this.#failures)) {
        if (!lost.proved) this.#failures += 1;
        this.#retryAt = now;
      } else this.#again(now);
    }
  }

  /** The next connection was closed before it carried anything. */
  #refused(code, reason, now) {
    const { then, sentence } = meaning(code, reason);
    if ((then === "final" || then === "refused") && (!this.#current || this.#suspect)) {
      this.#noMore(then, code, sentence, now);
      return;
    }
    this.full = then === "wait";
    if (this.full || (code !== null && code !== 1006)) this.#out.push({ do: "notice", sentence });
    this.#again(now);
  }

  /** The ticket opens nothing any more. Where the session merely lapsed, another one carries the rest. */
  #noMore(then, code, sentence, now) {
    if (then !== "refused" || now - this.#contactAt <= LAPSED) {
      this.#end(false, code, sentence);
      return;
    }
    this.#ticket = false;
    this.#abandonNext();
    if (this.#current) this.#out.push({ do: "close", conn: this.#current.id });
    this.#current = null;
    this.#suspect = false;
    this.#contactAt = now;
    this.#out.push({ do: "renew" });
  }

  #end(complete, code, sentence) {
    this.#abandonNext();
    if (this.#current) this.#out.push({ do: "close", conn: this.#current.id });
    this.#current = null;
    this.over = { do: "over", complete, code, sentence };
    this.#out.push(this.over);
  }

  // What the server says

  #hearNext(said, now) {
    if (said.message === "SERVER_READY" && this.#next.state === "greeted") this.#takeOver(now);
    else if (said.status === "WARNING" || said.status === "ERROR") this.#warn(said);
  }

  #hear(current, said, now) {
    current.heardAt = now;
    if (this.#suspect) {
      this.#suspect = false; // it was only slow
      this.#outSince = null;
      if (this.#next?.state === "opening") this.#abandonNext();
    }
    if (Array.isArray(said.segments)) {
      for (const segment of said.segments) if (segment?.completed) current.confirm(segment.end);
      this.#out.push({ do: "words", finals: this.transcript.update(said.segments) });
      this.#confirm(current);
      return;
    }
    switch (said.status) {
      case "PROGRESS":
        current.progressSeen = this.#progress = true;
        current.confirm(said.processed_until);
        this.decoded = Math.max(this.decoded, current.confirmed, current.sample(said.decoded_until) ?? 0);
        current.received = current.sample(said.received_until);
        this.progress = { received: current.received, decode: Number.isFinite(said.decode_s) ? said.decode_s : null };
        this.#confirm(current);
        break;
      case "END":
        if (current.state !== "ending") break;
        this.confirmed = this.decoded = this.end;
        this.transcript.finish();
        this.#out.push({ do: "words", finals: [] });
        this.#end(true, 1000, "done");
        break;
      case "NOTICE":
        this.#out.push({ do: "notice", sentence: noticeSentence(said), closingAt: said.closing_at });
        if (current.state === "streaming") {
          current.closingSoon = true;
          this.#retryAt = now;
        }
        break;
      case "WARNING":
      case "ERROR":
        this.#warn(said);
        break;
    }
  }

  #warn(said) {
    this.#out.push({ do: "notice", sentence: String(said.message || "the server warns without saying of what") });
  }

  #confirm(current) {
    if (current.confirmed <= this.confirmed) return;
    this.confirmed = current.confirmed;
    current.proved = true;
    this.#failures = this.#flushes = 0;
    this.#silence = SILENCE;
  }

  // Sending

  #pump(now) {
    const current = this.#current;
    if (!current) {
      this.#held = false;
      this.#heldSince = null;
      return;
    }
    let room = SOCKET_BUFFER - this.#buffered(current.id);
    while (room > 0) {
      const count = Math.min(FRAME_SAMPLES, current.allowance(now), this.end - current.nextSample);
      if (count <= 0) break;
      this.#out.push({ do: "audio", conn: current.id, first: current.nextSample, count });
      current.nextSample += count;
      room -= 4 * count;
    }
    const underWay = current.received === null ? 0 : current.nextSample - current.received;
    const waits = (current.allowance(now) > 0 && current.nextSample < this.end) || underWay > HELD * RATE;
    this.#heldSince = waits ? (this.#heldSince ?? now) : null;
    this.#held = this.#heldSince !== null && now - this.#heldSince > HELD;
    if (this.#finished && current.state === "streaming" && current.nextSample === this.end) {
      current.state = "ending";
      current.heardAt = now;
      this.#out.push({ do: "end", conn: current.id });
    }
  }
}

function noticeSentence(said) {
  return `${String(said.reason || "the server will close").replace(/\.+$/, "")}, closing at ${said.closing_at}`;
}
