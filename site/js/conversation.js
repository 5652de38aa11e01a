/**
 * One conversation from the click to the last word: records from the first moment, wakes the GPU,
 * streams, flushes, ends the session. Knows neither the page nor the network: its parts are handed in.
 */

import { Backlog } from "./backlog.js";
import { ApiError, heartbeats } from "./api.js";
import { RATE, StreamProtocol, StreamSocket } from "./stream.js";
import { Transcript } from "./transcript.js";

/** Milliseconds during which a connection is tried anew while no audio was sent yet. */
const CONNECT_PATIENCE = 20_000;
/** Failed polls in a row after which waking is given up. */
const POLL_FAILURES = 5;

/**
 * What a listener sees. `stage`: "waking" until the server takes audio, then "live", "finishing"
 * after stop, and "finished", "discarded" or "failed" at the end. `taken`: the server takes audio;
 * until then a conversation that finishes can still be discarded. `lostSeconds`: recorded, and known
 * never to become words.
 * @typedef {{stage: string, phase: string, taken: boolean, usual: number | null, notice: string,
 *   error: string, lostSeconds: number, unconfirmed: boolean}} Progress
 */

export class Conversation {
  transcript = new Transcript();
  /** @type {Progress} */
  progress = {
    stage: "waking",
    phase: "asleep",
    taken: false,
    usual: null,
    notice: "",
    error: "",
    lostSeconds: 0,
    unconfirmed: false,
  };

  #api;
  #openCapture;
  #listener;
  #openSocket;
  #pause;
  #backlog = new Backlog();
  #capture = null;
  #session = null;
  #socket = null;
  #stopped = false;
  /** The last block was handed over. */
  #captured = false;
  #discarded = false;
  #confirmed = 0;
  #endHeartbeats = () => {};
  #whenDiscarded;
  #wake = () => {};

  /**
   * @param {{api: object, openCapture: Function,
   *   listener: {changed: () => void, words: (finals: object[]) => void, heard: (s: Float32Array) => void},
   *   openSocket?: (parts: object) => object, pause?: (ms: number) => Promise<void>}} parts
   */
  constructor({ api, openCapture, listener, openSocket, pause }) {
    this.#api = api;
    this.#openCapture = openCapture;
    this.#listener = listener;
    this.#openSocket = openSocket ?? ((parts) => new StreamSocket(parts));
    this.#pause = pause ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
    this.#whenDiscarded = new Promise((resolve) => (this.#wake = resolve));
  }

  /** Seconds recorded so far. */
  get recordedSeconds() {
    return this.#backlog.end / RATE;
  }

  /** Run to the end; never throws, `progress` says how it went. */
  async run() {
    try {
      await this.#begin();
      await this.#reserved();
      await this.#connect();
    } catch (error) {
      if (!this.#discarded) this.#change({ error: error.message });
    } finally {
      await this.#end();
    }
  }

  /** Stop recording. What was said is still written, even when the GPU has yet to wake for it. */
  async stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#change({ stage: "finishing" });
    await this.#endCapture();
    if (!this.#backlog.end) this.discard();
  }

  /** After stop, and before the server takes audio: give up what was said. */
  discard() {
    if (this.progress.stage !== "finishing" || this.progress.taken) return;
    this.#discarded = true;
    this.#socket?.close();
    this.#wake();
  }

  /** The page goes away: end the session without waiting. */
  abandon() {
    this.#endHeartbeats();
    if (this.#session) this.#api.closeSession(this.#session.id, { keepalive: true }).catch(() => {});
    this.#session = null;
  }

  /** Microphone and GPU at the same time: permission takes a moment, waking takes longer. */
  async #begin() {
    const [capture, session] = await Promise.allSettled([
      this.#record(),
      this.#api.openSession({ task: "transcribe" }, crypto.randomUUID()),
    ]);
    if (session.status === "fulfilled") this.#session = session.value;
    if (capture.status === "rejected") throw capture.reason;
    if (session.status === "rejected") throw session.reason;
    const { id } = this.#session;
    this.#endHeartbeats = heartbeats(
      () => this.#api.heartbeat(id, { lost_seconds: this.progress.lostSeconds }),
      (error) => this.#change({ notice: error.message }),
    );
  }

  async #record() {
    this.#capture = await this.#openCapture(
      (samples) => this.#keep(samples),
      () => this.#microphoneGone(),
    );
    if (this.#stopped) await this.#endCapture();
  }

  /** The last block comes before the server is told that it was the last. */
  async #endCapture() {
    if (!this.#capture) return;
    await this.#capture.stop();
    this.#captured = true;
    this.#socket?.finish();
  }

  #microphoneGone() {
    this.#change({ notice: "The microphone went away; what was said until then is kept." });
    this.stop();
  }

  #keep(samples) {
    this.#backlog.append(samples);
    this.#listener.heard(samples);
    this.#socket?.pump();
  }

  /** Poll until a place on a ready GPU is ours. */
  async #reserved() {
    let failures = 0;
    while (!isReserved(this.#session)) {
      this.#showSession();
      await this.#patience((this.#session.poll_after_seconds || 2) * 1000);
      try {
        this.#session = await this.#api.session(this.#session.id);
        failures = 0;
      } catch (error) {
        failures += 1;
        if (error.status !== 0 && error.status < 500) throw error;
        if (failures >= POLL_FAILURES) throw error;
        this.#change({ notice: error.message });
      }
    }
    this.#showSession();
  }

  /** A pause that discarding ends, and with it the conversation. */
  async #patience(milliseconds) {
    if (!this.#discarded) await Promise.race([this.#pause(milliseconds), this.#whenDiscarded]);
    if (this.#discarded) throw new Discarded();
  }

  #showSession() {
    const { phase, notice, eta_seconds: eta, place } = this.#session;
    const waiting = phase === "ready" && place === "waiting";
    this.#change({
      phase: waiting ? "waiting" : phase,
      usual: eta?.p50 ?? null,
      notice: notice ? String(notice) : "",
    });
  }

  /** Connect and carry the stream; tries anew while no audio was sent. */
  async #connect() {
    const until = Date.now() + CONNECT_PATIENCE;
    for (let pause = 200; ; pause = Math.min(2000, pause * 2)) {
      if (this.#discarded) throw new Discarded();
      const closing = await this.#carry();
      if (closing.complete) return;
      if (this.#discarded) throw new Discarded();
      if (this.progress.taken) this.#change({ unconfirmed: true });
      if (this.progress.taken || closing.final || Date.now() > until) throw new ApiError(closing.sentence, 0);
      await this.#patience(pause);
    }
  }

  /** One connection; resolves when it is closed. */
  #carry() {
    const protocol = new StreamProtocol({ uid: this.#session.id, offset: this.#confirmed });
    return new Promise((resolve) => {
      const socket = this.#openSocket({
        url: this.#session.ws_url,
        ticket: this.#session.ticket,
        protocol,
        backlog: this.#backlog,
        onEvent: (event) => this.#hear(event, protocol),
        onClosed: (closing) => {
          this.#socket = null;
          this.#confirmed = protocol.confirmed;
          resolve(closing);
        },
      });
      this.#socket = socket;
      if (this.#captured) socket.finish();
    });
  }

  #hear(event, protocol) {
    switch (event.type) {
      case "ready":
        this.#change({ stage: this.#stopped ? "finishing" : "live", phase: "ready", taken: true, notice: "" });
        break;
      case "segments":
        this.#listener.words(this.transcript.update(event.segments, event.offset));
        break;
      case "progress":
        // One second stays for the overlap that a later connection may need.
        this.#backlog.release(protocol.confirmed - RATE);
        break;
      case "notice":
        this.#change({ notice: event.sentence });
        break;
      case "ended":
        this.transcript.finish();
        this.#listener.words([]);
        break;
    }
  }

  async #end() {
    this.#endHeartbeats();
    this.#stopped = true;
    await this.#capture?.stop();
    this.#change({ lostSeconds: Math.max(0, this.#backlog.end - this.#confirmed) / RATE });
    const session = this.#session;
    this.#session = null;
    if (session) {
      try {
        await this.#api.closeSession(session.id);
      } catch (error) {
        // Already over is what was wanted; without a heartbeat it ends by itself.
        if (error.status !== 404 && error.status !== 410) this.#change({ notice: error.message });
      }
    }
    this.#change({ stage: this.#outcome() });
  }

  #outcome() {
    if (this.progress.error) return "failed";
    return this.#discarded && this.#backlog.end ? "discarded" : "finished";
  }

  #change(changes) {
    Object.assign(this.progress, changes);
    this.#listener.changed();
  }
}

/** Whoever spoke gave it up; no failure. */
class Discarded extends Error {}

function isReserved(session) {
  return session.phase === "ready" && session.place === "reserved" && Boolean(session.ticket);
}
