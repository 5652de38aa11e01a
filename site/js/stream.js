/**
 * The WebSocket protocol of one stream: a state machine without I/O (`StreamProtocol`), and a thin
 * shell that gives it a socket (`StreamSocket`). whisperctl/protocol.py is the same machine.
 *
 * Source: WhisperLive 0.10.0's wire protocol with this project's additions (PROGRESS, END, NOTICE,
 * close codes). Samples are counted absolutely since recording began; a connection begins at
 * `offset`, and the server counts seconds from the connection's own first sample.
 */

export const RATE = 16000;
/** A frame carries at most 0.5 s. */
export const FRAME_SAMPLES = RATE / 2;
/** Seconds that may be unconfirmed: beyond this a stock server throws audio away. */
const WINDOW = 45;
/** A server that sends no PROGRESS gets this many seconds at once, then twice real time. */
const BURST = 15;
const STOCK_SPEED = 2;
/** Bytes the socket may hold before we wait: about four seconds of audio. */
const SOCKET_BUFFER = 4 * RATE * 4;
/** Seconds the server may stay silent between END_OF_AUDIO and END. */
const FLUSH_PATIENCE = 30;

/** Trying again cannot help after these. */
const FINAL_CODES = new Map([
  [4400, "The server does not accept what was sent"],
  [4401, "The session's ticket is not accepted"],
  [4410, "The session is over"],
  [4412, "Another window took over this session"],
]);
const RETRY_CODES = new Map([
  [1012, "The server restarts"],
  [1013, "Every place on the GPU is taken"],
  [4408, "The server waited too long for the first message"],
  [4409, "The connection reached its time limit"],
]);
const DROPPED_CODES = [1001, 1005, 1006, 1011];

export class StreamProtocol {
  /** "handshake" | "streaming" | "ending" | "ended" | "closed" */
  state = "handshake";
  readyAt = 0;
  #progressSeen = false;
  #wish;

  /**
   * @param {{uid: string, language?: string | null, task?: string, model?: string | null,
   *          offset?: number}} wish  `offset`: absolute number of this connection's first sample
   */
  constructor({ uid, language = null, task = "transcribe", model = null, offset = 0 }) {
    this.#wish = { uid, task, language, use_vad: true, ...(model ? { model } : {}) };
    this.offset = offset;
    /** Absolute number of the next sample to send. */
    this.nextSample = offset;
    /** Everything before this absolute number was processed. */
    this.confirmed = offset;
  }

  /** The first message: WhisperLive's handshake. */
  hello() {
    return JSON.stringify(this.#wish);
  }

  /**
   * Read one message. @param {string} message @param {number} now seconds
   * @returns {{type: "ready"} | {type: "segments", segments: object[], offset: number}
   *   | {type: "progress", confirmed: number} | {type: "notice", sentence: string}
   *   | {type: "ended"} | null} null: nothing a listener needs; unknown messages are ignored
   */
  receive(message, now) {
    let said;
    try {
      said = JSON.parse(message);
    } catch {
      return null;
    }
    if (said === null || typeof said !== "object") return null;
    if (said.message === "SERVER_READY" && this.state === "handshake") {
      this.state = "streaming";
      this.readyAt = now;
      return { type: "ready" };
    }
    if (said.message === "DISCONNECT") {
      return { type: "notice", sentence: "The server ends this connection: its time limit is reached." };
    }
    if (Array.isArray(said.segments)) {
      for (const segment of said.segments) if (segment?.completed) this.#confirm(segment.end);
      return { type: "segments", segments: said.segments, offset: this.offset / RATE };
    }
    return this.#status(said);
  }

  #status(said) {
    switch (said.status) {
      case "PROGRESS":
        this.#progressSeen = true;
        this.#confirm(said.processed_until);
        return { type: "progress", confirmed: this.confirmed };
      case "END":
        this.state = "ended";
        this.confirmed = Math.max(this.confirmed, this.nextSample);
        return { type: "ended" };
      case "NOTICE":
        return { type: "notice", sentence: noticeSentence(said) };
      case "WAIT":
        return { type: "notice", sentence: "Every place on the GPU is taken." };
      case "WARNING":
      case "ERROR":
        return { type: "notice", sentence: String(said.message ?? "The server warns, without a reason.") };
      default:
        return null;
    }
  }

  /** Server seconds on this connection to an absolute sample: never back, never beyond what was sent. */
  #confirm(seconds) {
    const sample = this.offset + Math.round(Number.parseFloat(seconds) * RATE);
    if (!Number.isFinite(sample)) return;
    this.confirmed = Math.max(this.confirmed, Math.min(sample, this.nextSample));
  }

  /** How many samples may go now without leaving too much unconfirmed. @param {number} now seconds */
  allowance(now) {
    if (this.state !== "streaming") return 0;
    const limit = this.#progressSeen
      ? this.confirmed + WINDOW * RATE
      : this.offset + (BURST + STOCK_SPEED * (now - this.readyAt)) * RATE;
    return Math.max(0, Math.floor(limit) - this.nextSample);
  }

  /** The next frame, or null while there is nothing to send or it must wait. */
  frame(backlog, now) {
    const count = Math.min(FRAME_SAMPLES, this.allowance(now), backlog.end - this.nextSample);
    if (count <= 0) return null;
    const samples = backlog.read(this.nextSample, count);
    this.nextSample += samples.length;
    return samples;
  }

  /** Everything was sent: the binary frame that asks for the last words. */
  end() {
    this.state = "ending";
    return new TextEncoder().encode("END_OF_AUDIO");
  }

  /**
   * The socket is closed. @param {number} code @param {string} reason the server's own words
   * @returns {{code: number, sentence: string, final: boolean, complete: boolean}}
   *   final: trying again cannot help; complete: every word is final
   */
  closed(code, reason) {
    const complete = this.state === "ended";
    this.state = "closed";
    if (complete) return { code, sentence: "", final: true, complete };
    let known = FINAL_CODES.get(code) ?? RETRY_CODES.get(code);
    if (code === 1000) known = "The server ended without confirming the last words";
    known ??= DROPPED_CODES.includes(code) ? "The connection was lost" : `The server closed with code ${code}`;
    const sentence = (reason ? `${known}: ${reason}` : known).replace(/\.*$/, ".");
    return { code, sentence, final: FINAL_CODES.has(code), complete };
  }
}

function noticeSentence(said) {
  const reason = String(said.reason ?? "the server will close").replace(/\.*$/, "");
  const at = new Date(said.closing_at);
  const when = Number.isNaN(at.getTime())
    ? ""
    : `, closing at ${at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`;
  return `${reason.charAt(0).toUpperCase()}${reason.slice(1)}${when}.`;
}

/** A socket driven by a protocol. Calls `onEvent` with the protocol's events, `onClosed` once at the end. */
export class StreamSocket {
  #protocol;
  #backlog;
  #socket;
  #onEvent;
  #onClosed;
  #now;
  #timer;
  #captured = false;
  #heardAt = 0;
  #gone = false;

  /**
   * @param {{url: string, ticket: string, protocol: StreamProtocol, backlog: object,
   *   onEvent: (event: object) => void, onClosed: (closing: object) => void,
   *   Socket?: typeof WebSocket, now?: () => number}} parts
   */
  constructor({ url, ticket, protocol, backlog, onEvent, onClosed, Socket, now }) {
    this.#protocol = protocol;
    this.#backlog = backlog;
    this.#onEvent = onEvent;
    this.#onClosed = onClosed;
    this.#now = now ?? (() => performance.now() / 1000);
    this.#socket = new (Socket ?? WebSocket)(url, ["bearer", ticket]);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => this.#socket.send(protocol.hello());
    this.#socket.onmessage = ({ data }) => this.#hear(data);
    this.#socket.onclose = ({ code, reason }) => this.#leave(code, reason);
    // Messages and new samples drive the sending; the timer lets a stock server's allowance grow.
    this.#timer = setInterval(() => this.pump(), 250);
  }

  /** Send what may be sent; call when samples were captured. */
  pump() {
    const { state } = this.#protocol;
    if (state === "ending" && this.#now() - this.#heardAt > FLUSH_PATIENCE) {
      this.close();
    }
    while (this.#socket.bufferedAmount < SOCKET_BUFFER) {
      const frame = this.#protocol.frame(this.#backlog, this.#now());
      if (!frame) break;
      this.#socket.send(frame);
    }
    const all = this.#captured && this.#protocol.nextSample === this.#backlog.end;
    if (all && this.#protocol.state === "streaming") {
      this.#heardAt = this.#now();
      this.#socket.send(this.#protocol.end());
    }
  }

  /** No more samples will come: send the rest, then ask for the last words. */
  finish() {
    this.#captured = true;
    this.pump();
  }

  /** Leave at once, whatever is still to be said. */
  close() {
    this.#socket.close();
    this.#leave(1000, "");
  }

  #hear(data) {
    if (typeof data !== "string") return;
    this.#heardAt = this.#now();
    const event = this.#protocol.receive(data, this.#heardAt);
    if (event) this.#onEvent(event);
    if (this.#protocol.state === "ended") this.#socket.close(1000);
    this.pump();
  }

  #leave(code, reason) {
    if (this.#gone) return;
    this.#gone = true;
    clearInterval(this.#timer);
    this.#onClosed(this.#protocol.closed(code, reason));
  }
}
