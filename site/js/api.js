/** The HTTP API, version 1, for one speaker: sessions, status, and every failure as one sentence. */

const HEARTBEAT_MS = 30_000;
/** Longest wait for an answer; one that opens a session may ask AWS for several things. */
const PATIENCE_MS = 10_000;
const OPEN_PATIENCE_MS = 30_000;

/** A refusal of the API or of the network; `message` is a sentence to show. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status 0: nobody answered */
  constructor(message, status) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

/** One sentence of a problem+json object. */
export function problemSentence(status, problem) {
  const said = problem && typeof problem === "object" ? problem.detail || problem.title : null;
  if (said) return sentence(String(said));
  if (status === 401) return "The access token is not accepted.";
  if (status === 403) return "This access token does not allow that.";
  if (status >= 502 && status <= 504) return "The service behind this page does not answer; try again shortly.";
  return `The service answered with an error (${status}).`;
}

function sentence(text) {
  const trimmed = text.trim();
  const ended = /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
  return ended.charAt(0).toUpperCase() + ended.slice(1);
}

export class Api {
  #base;
  #token;
  #fetch;
  #onUnauthorized;

  /**
   * @param {string} token
   * @param {{base?: string, fetch?: typeof fetch, onUnauthorized?: (error: ApiError) => void}} [parts]
   *   `onUnauthorized`: called with each 401, which is thrown as well
   */
  constructor(token, { base = "/api", fetch: doFetch, onUnauthorized = () => {} } = {}) {
    this.#base = base;
    this.#token = token;
    this.#onUnauthorized = onUnauthorized;
    this.#fetch = doFetch ?? ((...call) => fetch(...call));
  }

  status() {
    return this.#call("GET", "/v1/status");
  }

  /** Ask to speak; wakes the GPU. The key lets a repeated request open one session only. */
  openSession(wish, key) {
    return this.#call("POST", "/v1/sessions", { body: wish, headers: { "Idempotency-Key": key } });
  }

  session(id) {
    return this.#call("GET", `/v1/sessions/${encodeURIComponent(id)}`);
  }

  heartbeat(id, body) {
    return this.#call("POST", `/v1/sessions/${encodeURIComponent(id)}/heartbeat`, { body });
  }

  /** `keepalive` lets the request outlive the page. */
  closeSession(id, { keepalive = false } = {}) {
    return this.#call("DELETE", `/v1/sessions/${encodeURIComponent(id)}`, { keepalive });
  }

  async #call(method, path, { body, headers = {}, keepalive = false } = {}) {
    let answer;
    try {
      answer = await this.#fetch(this.#base + path, {
        method,
        keepalive,
        cache: "no-store",
        signal: AbortSignal.timeout(method === "POST" && path === "/v1/sessions" ? OPEN_PATIENCE_MS : PATIENCE_MS),
        headers: {
          Authorization: `Bearer ${this.#token}`,
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch {
      throw new ApiError("The service cannot be reached; check the connection and try again.", 0);
    }
    if (answer.status === 204) return null;
    let content = null;
    try {
      content = await answer.json();
    } catch {
      if (answer.ok) throw new ApiError("The service answered with something that is not JSON.", answer.status);
    }
    if (!answer.ok) {
      const error = new ApiError(problemSentence(answer.status, content), answer.status);
      if (answer.status === 401) this.#onUnauthorized(error);
      throw error;
    }
    return content;
  }
}

/**
 * Keep a session alive. @param {() => Promise<unknown>} beat
 * @param {(error: ApiError) => void} onError @returns {() => void} ends it
 */
export function heartbeats(beat, onError, everyMs = HEARTBEAT_MS) {
  const timer = setInterval(() => beat().catch(onError), everyMs);
  return () => clearInterval(timer);
}
