import assert from "node:assert/strict";
import test from "node:test";

import { RATE } from "../../../site/js/session/connection.js";
import { Ring } from "../../../site/js/session/ring.js";
import { Wire } from "../../../site/js/session/wire.js";

/** A ramp: each sample is its own absolute number, so that order and completeness can be read back. */
function ramp(from, count) {
  return Float32Array.from({ length: count }, (_, index) => from + index);
}

function filled(ring, seconds) {
  for (let at = 0; at < seconds * RATE; at += 1600) ring.append(ramp(at, 1600));
  return ring;
}

/** A store like IndexedDB's, which answers later. */
class Store {
  pieces = new Map();
  async put(first, samples) {
    await null;
    this.pieces.set(first, samples.slice());
  }
  async get(first) {
    await null;
    return this.pieces.get(first);
  }
  async remove(first) {
    this.pieces.delete(first);
  }
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

test("a ring reads across blocks, releases whole blocks, and refuses what is gone", () => {
  const ring = filled(new Ring(), 1);
  assert.deepEqual([...ring.read(1598, 4)], [1598, 1599, 1600, 1601]);
  ring.release(3300);
  assert.equal(ring.start, 3200);
  assert.deepEqual([...ring.read(3200, 2)], [3200, 3201]);
  assert.throws(() => ring.read(3199, 1), RangeError);
  assert.equal(ring.read(15990, 100).length, 10);
});

test("what memory does not hold comes back from the store, sample for sample", async () => {
  const store = new Store();
  const ring = new Ring(store, 10 * RATE);
  filled(ring, 60);
  await settled();
  const stored = [...store.pieces.values()].reduce((sum, piece) => sum + piece.length, 0);
  assert.equal(stored, 45 * RATE, "all but the last ten seconds, in pieces of five");
  for (let at = 0; at < 60 * RATE; at += 8000) assert.deepEqual(await ring.read(at, 8000), ramp(at, 8000));
  ring.release(20 * RATE);
  await settled();
  assert.equal(ring.start, 20 * RATE);
  assert.equal([...store.pieces.keys()].length, 5, "what is confirmed leaves the store");
  assert.equal(ring.missing, 0);
});

test("a store that refuses costs memory, and nothing else", async () => {
  const ring = new Ring({ put: () => Promise.reject(new Error("full")) }, 10 * RATE);
  filled(ring, 60);
  await settled();
  assert.deepEqual(ring.read(0, 8000), ramp(0, 8000));
});

test("a store that is full still gives what it has", async () => {
  const store = new Store();
  const put = store.put.bind(store);
  store.put = (first, samples) => (store.pieces.size < 3 ? put(first, samples) : Promise.reject(new Error("full")));
  const ring = filled(new Ring(store, 10 * RATE), 60);
  await settled();
  assert.equal(store.pieces.size, 3);
  for (let at = 0; at < 60 * RATE; at += 8000) assert.deepEqual(await ring.read(at, 8000), ramp(at, 8000));
  assert.equal(ring.missing, 0);
});

test("a store that lost something is told, once", async () => {
  const store = new Store();
  const ring = filled(new Ring(store, 10 * RATE), 30);
  await settled();
  store.pieces.delete(0);
  for (const at of [0, 100, 6 * RATE, 200]) await ring.read(at, 10);
  assert.deepEqual(await ring.read(0, 10), new Float32Array(10));
  assert.equal(ring.missing, 5 * RATE);
});

test("a wire sends in order, though some of it comes late", async () => {
  const sent = [];
  class Socket {
    bufferedAmount = 7;
    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      Socket.last = this;
    }
    send(data) {
      sent.push(data);
    }
    close() {}
  }
  const heard = [];
  const wire = new Wire({
    url: "wss://x/ws", ticket: "t", Socket,
    onOpened: () => heard.push("opened"), onMessage: (text) => heard.push(text), onClosed: (code) => heard.push(code),
  });
  assert.deepEqual(Socket.last.protocols, ["bearer", "t"]);
  wire.send("a");
  wire.send(Promise.resolve("b"), 100);
  wire.send("c", 10);
  assert.equal(wire.buffered, 117);
  await settled();
  assert.deepEqual(sent, ["a", "b", "c"]);
  assert.equal(wire.buffered, 7);
  Socket.last.onopen();
  Socket.last.onmessage({ data: "hello" });
  Socket.last.onclose({ code: 1006 });
  Socket.last.onclose({ code: 1006 });
  assert.deepEqual(heard, ["opened", "hello", 1006]);
  wire.close();
  wire.send("d");
  assert.equal(sent.length, 3, "nothing after the close");
});
