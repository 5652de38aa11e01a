import assert from "node:assert/strict";
import test from "node:test";

import { Backlog } from "../../../site/js/backlog.js";
import { FRAME_SAMPLES, RATE, StreamProtocol, StreamSocket } from "../../../site/js/stream.js";

const READY = JSON.stringify({ uid: "u", message: "SERVER_READY", backend: "x" });
const progress = (seconds) => JSON.stringify({ uid: "u", status: "PROGRESS", processed_until: seconds });

/** A ramp: each sample is its own absolute number, so that order and completeness can be read back. */
function ramp(from, count) {
  return Float32Array.from({ length: count }, (_, index) => from + index);
}

function filled(seconds) {
  const backlog = new Backlog();
  for (let at = 0; at < seconds * RATE; at += 1600) backlog.append(ramp(at, 1600));
  return backlog;
}

function ready(protocol, now = 0) {
  assert.deepEqual(protocol.receive(READY, now), { type: "ready" });
}

test("backlog reads across blocks, releases whole blocks, and refuses what is gone", () => {
  const backlog = filled(1);
  assert.deepEqual([...backlog.read(1598, 4)], [1598, 1599, 1600, 1601]);
  backlog.release(3300);
  assert.equal(backlog.start, 3200);
  assert.deepEqual([...backlog.read(3200, 2)], [3200, 3201]);
  assert.throws(() => backlog.read(3199, 1), RangeError);
  assert.equal(backlog.read(15990, 100).length, 10);
});

test("nothing is sent before SERVER_READY, then frames of at most half a second", () => {
  const protocol = new StreamProtocol({ uid: "u" });
  const backlog = filled(2);
  assert.equal(protocol.frame(backlog, 0), null);
  ready(protocol);
  const sent = [];
  for (let frame; (frame = protocol.frame(backlog, 0)); ) {
    assert.ok(frame.length <= FRAME_SAMPLES);
    sent.push(...frame);
  }
  assert.deepEqual(sent, [...ramp(0, 2 * RATE)]);
});

test("no more than 45 s is unconfirmed once the server reports progress", () => {
  const protocol = new StreamProtocol({ uid: "u" });
  const backlog = filled(100);
  ready(protocol);
  protocol.receive(progress(0), 0);
  while (protocol.frame(backlog, 0));
  assert.equal(protocol.nextSample, 45 * RATE);
  protocol.receive(progress(10), 1);
  while (protocol.frame(backlog, 1));
  assert.equal(protocol.nextSample, 55 * RATE);
});

test("a server without PROGRESS gets a burst, then twice real time", () => {
  const protocol = new StreamProtocol({ uid: "u" });
  const backlog = filled(60);
  ready(protocol, 100);
  while (protocol.frame(backlog, 100));
  assert.equal(protocol.nextSample, 15 * RATE);
  while (protocol.frame(backlog, 105));
  assert.equal(protocol.nextSample, 25 * RATE);
});

test("confirmation moves forward only, and never beyond what was sent", () => {
  const protocol = new StreamProtocol({ uid: "u", offset: 5 * RATE });
  const backlog = filled(10);
  ready(protocol);
  while (protocol.frame(backlog, 0));
  protocol.receive(progress(2), 0);
  assert.equal(protocol.confirmed, 7 * RATE);
  protocol.receive(progress(1), 0);
  assert.equal(protocol.confirmed, 7 * RATE);
  protocol.receive(progress(99), 0);
  assert.equal(protocol.confirmed, 10 * RATE);
  for (const nonsense of ["{", "null", "[]", '{"status":"PROGRESS"}', '{"status":"LATER"}']) protocol.receive(nonsense, 0);
  assert.equal(protocol.confirmed, 10 * RATE);
});

test("segments carry the connection's offset", () => {
  const protocol = new StreamProtocol({ uid: "u", offset: 3 * RATE });
  ready(protocol);
  const event = protocol.receive(JSON.stringify({ segments: [{ start: "0", end: "1", text: "a" }] }), 0);
  assert.equal(event.offset, 3);
});

test("END makes every word final; an end without it does not", () => {
  const done = new StreamProtocol({ uid: "u" });
  ready(done);
  done.end();
  assert.deepEqual(done.receive('{"status":"END"}', 0), { type: "ended" });
  assert.equal(done.closed(1000, "").complete, true);

  const stock = new StreamProtocol({ uid: "u" });
  ready(stock);
  stock.end();
  const closing = stock.closed(1000, "");
  assert.equal(closing.complete, false);
  assert.match(closing.sentence, /without confirming/);
});

for (const [code, final] of [[4400, true], [4401, true], [4410, true], [4412, true],
  [1006, false], [1012, false], [1013, false], [4408, false], [4409, false], [3999, false]]) {
  test(`close code ${code} is a sentence and ${final ? "" : "not "}final`, () => {
    const closing = new StreamProtocol({ uid: "u" }).closed(code, "because.");
    assert.equal(closing.final, final);
    assert.match(closing.sentence, /^[A-Z].*: because\.$/);
  });
}

test("a notice says why and when", () => {
  const protocol = new StreamProtocol({ uid: "u" });
  ready(protocol);
  const said = { status: "NOTICE", closing_at: "2027-01-04T22:05:00Z", reason: "the night begins" };
  assert.match(protocol.receive(JSON.stringify(said), 0).sentence, /^The night begins, closing at .*\.$/);
});

class FakeSocket {
  sent = [];
  bufferedAmount = 0;
  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    FakeSocket.last = this;
  }
  send(data) {
    this.sent.push(data);
  }
  close(code = 1000) {
    this.onclose({ code, reason: "" });
  }
}

function opened(backlog) {
  const events = [];
  const closings = [];
  const protocol = new StreamProtocol({ uid: "u" });
  const stream = new StreamSocket({
    url: "wss://x/ws", ticket: "t", protocol, backlog, Socket: FakeSocket, now: () => 0,
    onEvent: (event) => events.push(event.type), onClosed: (closing) => closings.push(closing),
  });
  const socket = FakeSocket.last;
  socket.onopen();
  return { stream, socket, events, closings };
}

test("the shell offers the ticket as subprotocol, says hello, streams, ends and closes once", () => {
  const backlog = filled(1);
  const { stream, socket, events, closings } = opened(backlog);
  assert.deepEqual(socket.protocols, ["bearer", "t"]);
  assert.equal(JSON.parse(socket.sent[0]).uid, "u");
  stream.pump();
  assert.equal(socket.sent.length, 1, "no audio before SERVER_READY");
  socket.onmessage({ data: READY });
  stream.finish();
  const audio = socket.sent.slice(1, -1).flatMap((frame) => [...frame]);
  assert.deepEqual(audio, [...ramp(0, RATE)]);
  assert.equal(new TextDecoder().decode(socket.sent.at(-1)), "END_OF_AUDIO");
  socket.onmessage({ data: '{"status":"END"}' });
  socket.onclose({ code: 1000, reason: "" });
  assert.deepEqual(events, ["ready", "ended"]);
  assert.equal(closings.length, 1);
  assert.equal(closings[0].complete, true);
});

test("a full socket holds the audio back, and nothing is dropped", () => {
  const backlog = filled(1);
  const { stream, socket, closings } = opened(backlog);
  socket.bufferedAmount = 10_000_000;
  socket.onmessage({ data: READY });
  assert.equal(socket.sent.length, 1);
  socket.bufferedAmount = 0;
  stream.pump();
  assert.equal(socket.sent.slice(1).reduce((sum, frame) => sum + frame.length, 0), RATE);
  socket.close(1006);
  assert.equal(closings[0].final, false);
});
