/** Long outages are spent on requests by HTTP: browsers make WebSockets wait that follow many failed ones. */

import assert from "node:assert/strict";
import test from "node:test";

import { Reach, answers } from "../../../site/js/session/reach.js";
import { LosslessStream } from "../../../site/js/session/stream.js";
import { Wire } from "../../../site/js/session/wire.js";

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("six tries fail freely, then the server is asked first, and a WebSocket goes out anyway once a minute", () => {
  const reach = new Reach();
  for (let at = 0; at < 6; at += 1) {
    assert.equal(reach.asksFirst(at), false, `try ${at}`);
    reach.tried(at);
  }
  assert.equal(reach.asksFirst(6), true);
  assert.equal(reach.asksFirst(64.9), true);
  assert.equal(reach.asksFirst(65), false);
  reach.tried(65);
  assert.equal(reach.asksFirst(66), true);
  reach.opened();
  assert.equal(reach.asksFirst(67), false);
});

/** A WebSocket that never does anything by itself. */
class Socket {
  static made = [];
  bufferedAmount = 3;
  constructor(url) {
    this.url = url;
    Socket.made.push(this);
  }
  send() {}
  close(code) {
    this.closed = code;
  }
}

function asking() {
  Socket.made = [];
  const heard = [];
  const about = {};
  const wire = new Wire({
    url: "wss://x/ws", ticket: "t", Socket,
    onOpened: () => heard.push("opened"), onMessage: () => {}, onClosed: (code) => heard.push(code),
    onTried: () => heard.push("tried"),
    ask: (url, signal) => new Promise((resolve, reject) => Object.assign(about, { url, signal, resolve, reject })),
  });
  return { wire, heard, about };
}

test("a wire that asks opens its socket with the answer", async () => {
  const { wire, heard, about } = asking();
  assert.equal(about.url, "wss://x/ws");
  assert.deepEqual([Socket.made.length, wire.buffered, heard], [0, 0, []]);
  about.resolve();
  await settled();
  Socket.made[0].onopen();
  assert.deepEqual([wire.buffered, heard], [3, ["tried", "opened"]]);
});

test("without an answer it is a socket that could not be opened", async () => {
  const { heard, about } = asking();
  about.reject(new TypeError("Failed to fetch"));
  await settled();
  assert.deepEqual([Socket.made.length, heard], [0, [1006]]);
});

test("one that is closed while it asks opens nothing, says nothing and waits for nobody", async () => {
  const { wire, heard, about } = asking();
  wire.close();
  assert.equal(about.signal.aborted, true);
  about.resolve();
  await settled();
  assert.deepEqual([Socket.made.length, heard], [0, []]);
});

test("the way is open where the server's place answers, and not where the edge alone does", async (t) => {
  const asked = [];
  let status = 426;
  t.mock.method(globalThis, "fetch", async (url, options) => (asked.push([url, options]), { status }));
  const { signal } = new AbortController();
  await answers("wss://edge/ws", signal);
  await answers("ws://localhost:8080/ws", signal);
  assert.deepEqual(asked.map(([url]) => url), ["https://edge/ws", "http://localhost:8080/ws"]);
  assert.equal(asked[0][1].signal, signal);
  for (status of [0, 403]) await answers("wss://edge/ws", signal);
  for (status of [502, 503]) await assert.rejects(answers("wss://edge/ws", signal), { message: `HTTP ${status}` });
});

test("a stream asks from its seventh try on, and connects as soon as it is answered", async () => {
  let now = 0;
  let there = false;
  let asked = 0;
  const opened = [];
  class Away extends Socket {
    constructor(url) {
      super(url);
      queueMicrotask(() => (there ? this.onopen() : this.onclose({ code: 1006 })));
    }
    send(data) {
      opened.push(data);
    }
  }
  Socket.made = [];
  const stream = new LosslessStream({
    listener: { words() {}, changed() {}, notice() {}, renew() {} },
    Socket: Away, now: () => now, jitter: () => 0.5, store: null,
    ask: async () => {
      asked += 1;
      if (!there) throw new TypeError("Failed to fetch");
    },
  });
  stream.place({ id: "s-1", ws_url: "wss://x/ws", ticket: "t" });
  const pass = async (seconds) => {
    now += seconds;
    stream.keep(new Float32Array(1600)); // as the microphone does: the machine looks at its clock
    await settled();
  };
  try {
    for (let looks = 0; looks < 40; looks += 1) await pass(0.5);
    assert.equal(Socket.made.length, 6);
    assert.ok(asked > 10, `asked ${asked} times`);
    there = true;
    await pass(1);
    assert.deepEqual([Socket.made.length, opened.length], [7, 1], "the handshake went out");
  } finally {
    stream.giveUp("the test is over");
  }
  await stream.ended;
});
