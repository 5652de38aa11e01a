/**
 * The thin shell around the carrier: gives it sockets, a clock and the ring, and does what it says.
 * Knows neither the API nor the page.
 */

import { Carrier } from "./carrier.js";
import { RATE } from "./connection.js";
import { Reach, answers } from "./reach.js";
import { Ring } from "./ring.js";
import { Spill } from "./spill.js";
import { Wire } from "./wire.js";

/** Milliseconds between two looks at the clock; samples and messages drive it as well. */
const TICK = 100;
const END_OF_AUDIO = new TextEncoder().encode("END_OF_AUDIO");

export class LosslessStream {
  /** Resolves when nothing more will come. */
  ended;
  #carrier;
  #ring;
  #store;
  #wires = new Map();
  #listener;
  #Socket;
  #ask;
  #reach = new Reach();
  #now;
  #session = null;
  #timer;
  #online;
  #whenEnded;

  /**
   * @param {{listener: {words: (finals: object[]) => void, changed: () => void,
   *     notice: (sentence: string, closingAt?: string) => void, renew: () => void,
   *     note?: (event: string, about: object) => void},
   *   Socket?: typeof WebSocket, ask?: (url: string, signal: AbortSignal) => Promise<void>, now?: () => number,
   *   jitter?: () => number, store?: object | null}} parts
   *   note: for a journal; store: where older samples go, IndexedDB where there is one; now: seconds;
   *   ask: whether anybody answers at a WebSocket's address
   */
  constructor({ listener, Socket, ask = answers, now, jitter, store }) {
    this.#listener = listener;
    this.#Socket = Socket;
    this.#ask = ask;
    this.#now = now ?? (() => performance.now() / 1000);
    this.#store = store === undefined ? (globalThis.indexedDB ? new Spill() : null) : store;
    this.#ring = new Ring(this.#store);
    this.#carrier = new Carrier({ buffered: (conn) => this.#wires.get(conn)?.buffered ?? 0, jitter });
    this.ended = new Promise((resolve) => (this.#whenEnded = resolve));
    this.#timer = setInterval(() => this.#do(this.#carrier.tick(this.#now())), TICK);
    this.#online = () => this.#do(this.#carrier.online(this.#now()));
    globalThis.addEventListener?.("online", this.#online);
  }

  /** The machine, to look at: state, transcript, behind, reconnects, over, wantsPlace. */
  get carrier() {
    return this.#carrier;
  }

  get recordedSeconds() {
    return this.#ring.end / RATE;
  }

  /** Captured and known never to become words. */
  get lostSeconds() {
    return this.#carrier.lost + this.#ring.missing / RATE;
  }

  /** @param {Float32Array} samples taken over */
  keep(samples) {
    this.#ring.append(samples);
    this.#do(this.#carrier.captured(this.#ring.end, this.#now()));
  }

  /** No more samples will come. */
  finish() {
    this.#do(this.#carrier.finish(this.#now()));
  }

  /** A session with its ticket: `{id, ws_url, ticket}`. */
  place(session) {
    this.#session = session;
    this.#do(this.#carrier.place(this.#now()));
  }

  /** The API answered for the session. */
  contact() {
    this.#carrier.contact(this.#now());
  }

  sessionOver(sentence) {
    this.#do(this.#carrier.sessionOver(sentence, this.#now()));
  }

  giveUp(sentence) {
    if (!this.#carrier.over) this.#do(this.#carrier.giveUp(sentence, this.#now()));
  }

  #do(effects) {
    for (const effect of effects) this.#carryOut(effect);
    this.#ring.release(this.#carrier.keepFrom);
    this.#listener.changed();
  }

  #note(event, about = {}) {
    this.#listener.note?.(event, about);
  }

  #carryOut(effect) {
    if (["hello", "end", "close", "renew"].includes(effect.do)) this.#note(effect.do, { conn: effect.conn ?? null });
    switch (effect.do) {
      case "connect":
        this.#connect(effect.conn);
        break;
      case "hello":
        this.#wires.get(effect.conn).send(hello(this.#session, this.#carrier.known));
        break;
      case "audio":
        this.#wires.get(effect.conn).send(this.#ring.read(effect.first, effect.count), 4 * effect.count);
        break;
      case "end":
        this.#wires.get(effect.conn).send(END_OF_AUDIO);
        break;
      case "close":
        this.#wires.get(effect.conn)?.close();
        this.#wires.delete(effect.conn);
        break;
      case "words":
        this.#listener.words(effect.finals);
        break;
      case "notice":
        this.#note("notice", { sentence: effect.sentence });
        this.#listener.notice(effect.sentence, effect.closingAt);
        break;
      case "renew":
        this.#listener.renew();
        break;
      case "over":
        this.#note("over", { complete: effect.complete, code: effect.code, sentence: effect.sentence });
        this.#close();
        break;
    }
  }

  #connect(conn) {
    const ask = this.#reach.asksFirst(this.#now()) ? this.#ask : null;
    this.#note("connect", { conn, asks: ask !== null });
    const wire = new Wire({
      url: this.#session.ws_url,
      ticket: this.#session.ticket,
      ask,
      onTried: () => this.#reach.tried(this.#now()),
      onOpened: () => {
        this.#reach.opened();
        this.#note("opened", { conn });
        this.#do(this.#carrier.opened(conn, this.#now()));
      },
      onMessage: (text) => this.#do(this.#carrier.message(conn, text, this.#now())),
      onClosed: (code, reason) => {
        this.#note("closed", { conn, code, reason });
        this.#wires.delete(conn);
        this.#do(this.#carrier.closed(conn, code, reason, this.#now()));
      },
      Socket: this.#Socket,
    });
    this.#wires.set(conn, wire);
  }

  #close() {
    clearInterval(this.#timer);
    globalThis.removeEventListener?.("online", this.#online);
    this.#store?.clear?.().catch(() => {}); // the next stream overwrites what stays
    this.#whenEnded();
  }
}

/** WhisperLive's handshake. */
function hello({ id, language = null, task = "transcribe", model = null, wordTimes = false }, known) {
  const wish = { uid: id, task, language, use_vad: true, resumes: true, known_s: known };
  return JSON.stringify({ ...wish, ...(model ? { model } : {}), ...(wordTimes ? { word_timestamps: true } : {}) });
}
