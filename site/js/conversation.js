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
 * after stop, and "finished" or "failed" at the end.
 * @typedef {{stage: string, phase: string, usual: number | null, notice: string, error: string,
 *   lostSeconds: number, unconfirmed: boolean}} Progress
 */

export class Conversation {
  transcript = new Transcript();
  /** @type {Progress} */
  progress = {
    stage: "waking",
    phase: "asleep",
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
  #confirmed = 0;
  #endHeartbeats = () => {};
  #whenStopped;
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
    this.#whenStopped = new Promise((resolve) => (this.#wake = resolve));
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
      if (!this.#stopped || this.progress.error === "") this.#change({ error: error.message });
    } finally {
      await this.#end();
    }
  }

  /** Stop recording. What was said is still written; before the GPU is awake this gives up. */
  async stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    if (this.progress.stage === "live") this.#change({ stage: "finishing" });
    await this.#capture?.stop();
    this.#socket?.finish();
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
      this.#openCapture(
        (samples) => this.#captured(samples),
        () => this.#microphoneGone(),
      ),
      this.#api.openSession({ task: "transcribe" }, crypto.randomUUID()),
    ]);
    if (capture.status === "fulfilled") this.#capture = capture.value;
    if (session.status === "fulfilled") this.#session = session.value;
    if (capture.status === "rejected") throw capture.reason;
    if (session.status === "rejected") throw session.reason;
    if (this.#stopped) await this.#capture.stop();
    const { id } = this.#session;
    this.#endHeartbeats = heartbeats(
      () => this.#api.heartbeat(id, { lost_seconds: this.progress.lostSeconds }),
      (error) => this.#change({ notice: error.message }),
    );
  }

  #microphoneGone() {
    this.#change({ notice: "The microphone went away; what was said until then is kept." });
    this.stop();
  }

  #captured(samples) {
    this.#backlog.append(samples);
    this.#listener.heard(samples);
    this.#socket?.pump();
  }

  /** Poll until a place on a ready GPU is ours. */
  async #reserved() {
    let failures = 0;
    while (!isReserved(this.#session)) {
      this.#showSession();
      const wait = this.#pause((this.#session.poll_after_seconds || 2) * 1000);
      await Promise.race([wait, this.#whenStopped]);
      if (this.#stopped) throw new ApiError("Stopped before the GPU was awake; nothing was transcribed.", 0);
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
      const { closing, began } = await this.#carry();
      if (closing.complete) return;
      if (began) {
        const lost = Math.max(0, this.#backlog.end - this.#confirmed) / RATE;
        this.#change({ lostSeconds: lost, unconfirmed: true });
        throw new ApiError(closing.sentence, 0);
      }
      if (closing.final || Date.now() > until) throw new ApiError(closing.sentence, 0);
      await this.#pause(pause);
    }
  }

  /** One connection; resolves when it is closed. `began`: the server had taken audio. */
  #carry() {
    const protocol = new StreamProtocol({ uid: this.#session.id, offset: this.#confirmed });
    let began = false;
    return new Promise((resolve) => {
      const socket = this.#openSocket({
        url: this.#session.ws_url,
        ticket: this.#session.ticket,
        protocol,
        backlog: this.#backlog,
        onEvent: (event) => {
          began ||= event.type === "ready";
          this.#hear(event, protocol);
        },
        onClosed: (closing) => {
          this.#socket = null;
          this.#confirmed = protocol.confirmed;
          resolve({ closing, began });
        },
      });
      this.#socket = socket;
      if (this.#stopped) socket.finish();
    });
  }

  #hear(event, protocol) {
    switch (event.type) {
      case "ready":
        this.#change({ stage: this.#stopped ? "finishing" : "live", phase: "ready", notice: "" });
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
    this.#change({ stage: this.progress.error ? "failed" : "finished" });
  }

  #change(changes) {
    Object.assign(this.progress, changes);
    this.#listener.changed();
  }
}

function isReserved(session) {
  return session.phase === "ready" && session.place === "reserved" && Boolean(session.ticket);
}
