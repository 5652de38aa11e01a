/**
 * One conversation from the click to the last word: records from the first moment, wakes the GPU,
 * streams, flushes, ends the session. Knows neither the page nor the network: its parts are handed in.
 */

import { heartbeats } from "./api.js";
import { RATE } from "./session/connection.js";
import { LosslessStream } from "./session/stream.js";

/** Until another session is asked for again, where that failed: the network may be back any moment. */
const RENEW_AGAIN_S = 1;

/**
 * What a listener sees. `stage`: "waking" until the server takes audio, then "live" and "reconnecting",
 * "finishing" after stop, and "finished", "discarded" or "failed" at the end. `taken`: the server takes
 * audio; where a conversation that finishes is not taken, the rest can be discarded. `usual`: seconds that it
 * usually takes from the click until then, as first estimated. `behind`: seconds of speech without words yet.
 * `lostSeconds`: recorded, and known never to become words.
 * @typedef {{stage: string, phase: string, taken: boolean, usual: number | null, notice: string,
 *   error: string, behind: number, slow: boolean, reconnects: number, lostSeconds: number,
 *   unconfirmed: boolean}} Progress
 */

export class Conversation {
  /** @type {Progress} */
  progress = {
    stage: "waking",
    phase: "asleep",
    taken: false,
    usual: null,
    notice: "",
    error: "",
    behind: 0,
    slow: false,
    reconnects: 0,
    lostSeconds: 0,
    unconfirmed: false,
  };

  #api;
  #openCapture;
  #wish;
  #ask;
  #listener;
  #pause;
  #stream;
  #capture = null;
  #session = null;
  #renew = false;
  /** How often another session was asked for, and what ends the pause before that. */
  #renewals = 0;
  #wake = () => {};
  /** Idempotency-Key of the session that is being opened. */
  #key = "";
  #stopped = false;
  #discarded = false;
  /** Seconds that the microphone did not give. */
  #unrecorded = 0;
  #began = 0;
  #told = null;
  #now;
  #endHeartbeats = () => {};

  /**
   * @param {{api: object, openCapture: Function,
   *   listener: {changed: () => void, words: (finals: object[]) => void, heard: (s: Float32Array) => void,
   *     progressed?: (progress: {received: number | null, decode: number | null}) => void,
   *     note?: (event: string, about: object) => void, measured?: () => {latency?: object, words?: number}},
   *   wish?: import("./capture.js").Wish & {wordTimes?: boolean},
   *   ask?: {task?: string, language?: string, model?: string},
   *   pause?: (ms: number) => Promise<void>, now?: () => number, stream?: object}} parts
   *   progressed: seconds of the recording that had reached the server, and of its last decode; note: for a journal;
   *   measured: for the heartbeats;
   *   stream: parts of the lossless stream other than its listener
   */
  constructor({ api, openCapture, listener, wish = {}, ask = { task: "transcribe" }, pause, now, stream = {} }) {
    this.#api = api;
    this.#openCapture = openCapture;
    this.#wish = wish;
    this.#ask = ask;
    this.#listener = listener;
    this.#now = now ?? (() => performance.now() / 1000);
    this.#pause = pause ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
    this.#stream = new LosslessStream({
      ...stream,
      listener: {
        words: (finals) => listener.words(finals),
        changed: () => this.#follow(),
        notice: (sentence, closingAt) => this.#change({ notice: shown(sentence, closingAt) }),
        renew: () => {
          this.#renew = true;
          this.#renewals += 1;
          this.#wake();
        },
        note: (event, about) => this.#note(event, about),
      },
    });
  }

  get transcript() {
    return this.#stream.carrier.transcript;
  }

  /** Seconds recorded so far. */
  get recordedSeconds() {
    return this.#stream.recordedSeconds;
  }

  /** Run to the end; never throws, `progress` says how it went. */
  async run() {
    this.#began = this.#now();
    try {
      await this.#begin();
      await this.#accompany();
      const { over, wasLive } = this.#stream.carrier;
      if (!over.complete && !this.#discarded) this.#change({ error: shown(over.sentence), unconfirmed: wasLive });
    } catch (error) {
      this.#stream.giveUp(error.message);
      if (!this.#discarded) this.#change({ error: error.message });
    } finally {
      await this.#end();
    }
  }

  /** Stop recording. What was said is still written, even when the GPU has yet to wake for it. */
  async stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#follow();
    await this.#endCapture();
    if (!this.recordedSeconds) this.discard();
  }

  /** After stop, and while the server does not take audio: give up what has no words yet. */
  discard() {
    if (this.progress.stage !== "finishing" || this.progress.taken) return;
    this.#discarded = true;
    this.#stream.giveUp("discarded");
  }

  /** The page goes away: end the session without waiting. */
  abandon() {
    this.#endHeartbeats();
    if (this.#session) this.#api.closeSession(this.#session.id, { keepalive: true }).catch(() => {});
    this.#session = null;
  }

  /** Microphone and GPU at the same time: permission takes a moment, waking takes longer. */
  async #begin() {
    const [capture, session] = await Promise.allSettled([this.#record(), this.#open()]);
    if (capture.status === "rejected") throw capture.reason;
    if (session.status === "rejected") this.#notOpened(session.reason);
    this.#endHeartbeats = heartbeats(() => this.#beat(), (error) => this.#trouble(error));
  }

  /** The first call failed. Unless it was refused it is made again: somebody speaks, and what is said is kept. */
  #notOpened(error) {
    if (!(error.status === 0 || error.status >= 500)) throw error;
    this.#renew = true;
    this.#trouble(error);
  }

  async #open() {
    // The same key until it has worked: what was opened and not heard of is not opened twice.
    this.#key ||= crypto.randomUUID();
    this.#session = await this.#api.openSession(this.#ask, this.#key);
    this.#key = "";
    this.#renew = false;
    this.#placed();
  }

  async #record() {
    this.#capture = await this.#openCapture(
      (samples) => {
        this.#listener.heard(samples);
        this.#stream.keep(samples);
      },
      () => this.#microphoneGone(),
      this.#wish,
      ({ sentence, gap }) => {
        this.#unrecorded += gap;
        this.#change({ notice: sentence, lostSeconds: this.#lost });
      },
    );
    if (this.#stopped) await this.#endCapture();
  }

  /** The last block comes before the server is told that it was the last. */
  async #endCapture() {
    if (!this.#capture) return;
    await this.#capture.stop();
    this.#stream.finish();
  }

  #microphoneGone() {
    this.#change({ notice: "The microphone went away; what was said until then is kept." });
    this.stop();
  }

  /** Ask for a place whenever the stream has none, until the end; for another session at once. */
  async #accompany() {
    const { carrier } = this.#stream;
    let renewals = 0;
    while (!carrier.over) {
      const asked = new Promise((resolve) => (this.#wake = resolve));
      if (renewals === this.#renewals) {
        const seconds = this.#renew ? RENEW_AGAIN_S : this.#session?.poll_after_seconds || 2;
        await Promise.race([this.#pause(seconds * 1000), this.#stream.ended, asked]);
      }
      renewals = this.#renewals;
      if (carrier.over || !carrier.wantsPlace) continue;
      try {
        if (this.#renew) await this.#open();
        else {
          // A call that hangs since before the network came back must not hold up another session.
          const session = await Promise.race([this.#api.session(this.#session.id), asked]);
          if (session) {
            this.#session = session;
            this.#placed();
          }
        }
      } catch (error) {
        this.#trouble(error);
      }
    }
  }

  /** The API answered with a session: use its place, or show what it waits for. */
  #placed() {
    const session = this.#session;
    this.#note("place", { session: session.id, phase: session.phase, place: session.place, left_s: left(session) });
    this.#stream.contact();
    const waiting = session.phase === "ready" && session.place === "waiting";
    this.#change({
      phase: waiting ? "waiting" : session.phase,
      // The API says what is left; what was hoped for at first stays to be compared with.
      usual: this.progress.usual ?? (left(session) ? this.#now() - this.#began + left(session) : null),
      notice: session.notice ? String(session.notice) : "",
    });
    if (session.phase === "ready" && session.place === "reserved" && session.ticket) {
      this.#stream.place({ ...session, ...this.#ask, wordTimes: this.#wish.wordTimes });
    }
  }

  async #beat() {
    if (!this.#session || this.#renew) return;
    await this.#api.heartbeat(this.#session.id, this.#measured());
    this.#stream.contact();
  }

  /** A call failed. The stream needs no API while it runs; a refusal ends what waits for one. */
  #trouble(error) {
    const { carrier } = this.#stream;
    this.#note("api", { status: error.status, sentence: error.message });
    if (this.#renew && error.status >= 400 && error.status < 500) this.#stream.giveUp(error.message);
    else if (error.status === 404 || error.status === 410) this.#stream.sessionOver(error.message);
    else if (error.status >= 400 && error.status < 500 && !carrier.wasLive) this.#stream.giveUp(error.message);
    else this.#change({ notice: error.message });
  }

  /** Take over what the stream is doing. */
  #follow() {
    const { carrier } = this.#stream;
    const { state } = carrier;
    const taken = state === "live" || state === "finishing";
    const changes = { taken, behind: carrier.behind, slow: carrier.slowNetwork, reconnects: carrier.reconnects };
    if (carrier.over) {
      // How it went is said once, at the end of `run`.
    } else if (this.#stopped) changes.stage = "finishing";
    else if (taken) changes.stage = "live";
    else changes.stage = carrier.wasLive ? "reconnecting" : "waking";
    if (taken) changes.phase = "ready";
    else if (carrier.full) changes.phase = "waiting";
    if (taken && !this.progress.taken) changes.notice = "";
    this.#change(changes);
    if (carrier.progress === this.#told) return;
    this.#told = carrier.progress;
    const { received, decode } = carrier.progress;
    this.#listener.progressed?.({ received: received === null ? null : received / RATE, decode });
  }

  #note(event, about) {
    this.#listener.note?.(event, about);
  }

  /** What the operator's metrics are made of: numbers, and never a word. */
  #measured() {
    const audio = Math.round(this.recordedSeconds * 10) / 10;
    return { lost_seconds: this.progress.lostSeconds, audio_seconds: audio, ...this.#listener.measured?.() };
  }

  get #lost() {
    return this.#stream.lostSeconds + this.#unrecorded;
  }

  async #end() {
    this.#endHeartbeats();
    this.#stopped = true;
    await this.#capture?.stop();
    // Every word stands there, or never will: nobody need wait for the API to hear of it.
    this.#change({ lostSeconds: this.#lost, stage: this.#outcome() });
    this.#close(this.#session);
    this.#session = null;
  }

  /** Tell the API that it is over; it outlives the page, and nobody waits for it. */
  async #close(session) {
    if (!session) return;
    try {
      const told = this.#api.heartbeat(session.id, this.#measured());
      // Only what was lost is waited for; all else is not worth a page that stays open, or a GPU that stays awake.
      if (this.progress.lostSeconds) await told;
      await Promise.all([told, this.#api.closeSession(session.id, { keepalive: true })]);
    } catch (error) {
      // Already over is what was wanted; without a heartbeat it ends by itself.
      if (error.status !== 404 && error.status !== 410) this.#change({ notice: error.message });
    }
  }

  #outcome() {
    if (this.progress.error) return "failed";
    return this.#discarded && this.recordedSeconds ? "discarded" : "finished";
  }

  /** Tell the listener, where anything that a person sees is different. */
  #change(changes) {
    const before = { ...this.progress };
    Object.assign(this.progress, changes);
    const same = Object.keys(changes).every((key) =>
      key === "behind" ? Math.round(before.behind) === Math.round(changes.behind) : before[key] === changes[key],
    );
    for (const key of ["stage", "phase", "slow", "error"]) {
      if (before[key] !== this.progress[key]) this.#note(key, { now: this.progress[key] });
    }
    if (!same) this.#listener.changed();
  }
}

/** Seconds until the GPU is ready, as the API estimates; null where it does not. */
function left(session) {
  return session.eta_seconds?.p50 ?? null;
}

/** A sentence of the protocol as a person reads it, the time in their zone. */
function shown(sentence, closingAt) {
  const at = new Date(closingAt ?? NaN);
  const local = Number.isNaN(at.getTime())
    ? sentence
    : sentence.replace(closingAt, at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  const text = local.trim();
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
