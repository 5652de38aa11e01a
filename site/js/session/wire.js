/** One WebSocket of a stream: sends in order what may come late, says once how it ended. */

export class Wire {
  /** @type {WebSocket | null} null until there is an answer, where one is waited for */
  #socket = null;
  #asking = new AbortController();
  #queue = Promise.resolve();
  #queued = 0;
  #waiting = 0;
  #silenced = false;

  /**
   * @param {{url: string, ticket: string, onOpened: () => void, onMessage: (text: string) => void,
   *   onClosed: (code: number, reason: string) => void, Socket?: typeof WebSocket, onTried?: () => void,
   *   ask?: ((url: string, signal: AbortSignal) => Promise<void>) | null}} parts
   *   ask: whether anybody is there, to be waited for; refused is as good as a socket that could not be opened;
   *   onTried: a WebSocket is being opened
   */
  constructor({ url, ticket, onOpened, onMessage, onClosed, Socket = WebSocket, onTried = () => {}, ask = null }) {
    const closed = (code, reason) => {
      if (!this.#silenced) onClosed(code, reason);
      this.#silenced = true;
    };
    const open = () => {
      if (this.#silenced) return;
      onTried();
      this.#socket = new Socket(url, ["bearer", ticket]);
      this.#socket.binaryType = "arraybuffer";
      this.#socket.onopen = () => this.#silenced || onOpened();
      this.#socket.onmessage = ({ data }) => this.#silenced || typeof data !== "string" || onMessage(data);
      this.#socket.onclose = ({ code, reason }) => closed(code, reason ?? "");
    };
    if (ask) ask(url, this.#asking.signal).then(open, () => closed(1006, ""));
    else open();
  }

  /** Bytes handed to `send` that are not on their way yet. */
  get buffered() {
    return this.#queued + (this.#socket?.bufferedAmount ?? 0);
  }

  /** @param {string | ArrayBufferView | Promise<ArrayBufferView>} data @param {number} size bytes */
  send(data, size = 0) {
    if (!this.#waiting && !(data instanceof Promise)) {
      this.#pass(data);
      return;
    }
    this.#waiting += 1;
    this.#queued += size;
    this.#queue = this.#queue.then(async () => {
      this.#pass(await data);
      this.#queued -= size;
      this.#waiting -= 1;
    });
  }

  /** Close; nothing is called back any more. */
  close() {
    this.#silenced = true;
    this.#asking.abort();
    this.#socket?.close(1000);
  }

  #pass(data) {
    if (!this.#silenced) this.#socket.send(data);
  }
}
