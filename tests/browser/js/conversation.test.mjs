import assert from "node:assert/strict";
import test from "node:test";

import { ApiError } from "../../../site/js/api.js";
import { Conversation } from "../../../site/js/conversation.js";
import { RATE } from "../../../site/js/session/connection.js";

const LATER = { id: "s-1", phase: "waking.boot", place: "waiting", ticket: null, ws_url: "wss://x/ws", poll_after_seconds: 1 };
const NOW = { ...LATER, phase: "ready", place: "reserved", ticket: "t" };

/** A server that takes everything, and says it back as one final segment when asked for the last words. */
class FakeSocket {
  bufferedAmount = 0;
  seconds = 0;
  constructor() {
    queueMicrotask(() => this.onopen());
  }
  send(data) {
    const say = (said) => queueMicrotask(() => this.onmessage({ data: JSON.stringify(said) }));
    if (typeof data === "string") say({ message: "SERVER_READY" });
    else if (data instanceof Float32Array) this.seconds += data.length / RATE;
    else {
      say({ segments: [{ start: "0", end: String(this.seconds), text: "all of it", completed: true }] });
      say({ status: "END" });
    }
  }
  close(code = 1005) {
    queueMicrotask(() => this.onclose({ code, reason: "" }));
  }
  drop() {
    this.onclose({ code: 1006, reason: "" });
  }
}

/** A conversation whose polls and microphone are moved by the test. */
function begun({ Socket = FakeSocket, answers = {}, now } = {}) {
  const calls = [];
  const beats = [];
  const polls = [];
  const keys = [];
  let speak;
  let mute = async () => {};
  const api = {
    openSession: async (_, key) => (calls.push("open"), keys.push(key), answers.open ? answers.open() : LATER),
    session: (id) => (calls.push("poll"), answers.session ? answers.session(id) : Promise.resolve(LATER)),
    heartbeat: async (_, body) => (beats.push(body), LATER),
    closeSession: async () => void calls.push("close"),
  };
  const conversation = new Conversation({
    api,
    openCapture: async (onSamples) => {
      speak = (seconds) => onSamples(new Float32Array(seconds * RATE));
      return { stop: () => mute() };
    },
    listener: { changed() {}, words() {}, heard() {}, measured: () => ({ words: 7 }) },
    stream: { Socket, store: null, ...(now ? { now } : {}) },
    pause: () => new Promise((resolve) => polls.push(resolve)),
  });
  const ended = conversation.run();
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  return {
    conversation, calls, keys, beats, ended, settled, answers,
    speak: (seconds) => speak(seconds),
    onMute: (last) => (mute = last),
    poll: () => polls.shift()?.(),
  };
}

test("a session that lapsed is followed by another at once, though a call for the old one hangs", { timeout: 10_000 }, async () => {
  let now = 0;
  let live = null;
  class Old extends FakeSocket {
    constructor() {
      super();
      live = this;
    }
  }
  const { conversation, calls, ended, settled, answers, speak, poll } = begun({ Socket: Old, now: () => now });
  answers.session = async () => NOW;
  await settled();
  poll();
  await settled();
  speak(3);
  assert.equal(conversation.progress.stage, "live");
  now = 200; // nobody has answered for longer than a session lives without a heartbeat
  answers.session = () => new Promise(() => {});
  live.drop();
  for (const _ of [1, 2, 3]) poll();
  await settled();
  live.onclose({ code: 4410, reason: "the session is over" });
  await settled();
  assert.equal(calls.filter((call) => call === "open").length, 2, calls.join());
  conversation.stop();
  await settled();
  conversation.discard();
  await ended;
});

test("an API that does not answer yet is asked again, and what is said meanwhile is kept", async () => {
  const outages = [new ApiError("Nobody answers.", 0), new ApiError("It is down.", 503)];
  const open = () => {
    if (outages.length) throw outages.shift();
    return NOW;
  };
  const { conversation, calls, keys, ended, settled, speak, poll } = begun({ answers: { open } });
  await settled();
  speak(2);
  assert.deepEqual([conversation.progress.stage, conversation.progress.notice], ["waking", "Nobody answers."]);
  poll();
  await settled();
  assert.deepEqual([conversation.progress.stage, conversation.progress.notice], ["waking", "It is down."]);
  poll();
  await settled();
  assert.deepEqual([conversation.progress.stage, conversation.progress.notice], ["live", ""]);
  assert.equal(new Set(keys).size, 1, "the same key, so that one session is opened");
  await conversation.stop();
  await ended;
  assert.equal(conversation.transcript.end, 2, "from the click on");
  assert.deepEqual(calls, ["open", "open", "open", "close"]);
  assert.equal(conversation.progress.stage, "finished");
});

test("a refusal of the first call ends it", async () => {
  const open = () => {
    throw new ApiError("The GPU is closed until Monday.", 409);
  };
  const { conversation, calls, ended } = begun({ answers: { open } });
  await ended;
  assert.deepEqual([conversation.progress.stage, conversation.progress.error], ["failed", "The GPU is closed until Monday."]);
  assert.deepEqual(calls, ["open"]);
});

test("stop while the GPU wakes keeps what was said until it is written", async () => {
  const { conversation, calls, beats, ended, settled, answers, speak, onMute, poll } = begun();
  await settled();
  speak(3);
  onMute(async () => speak(0.05)); // the last, shorter block
  await conversation.stop();
  onMute(async () => {});
  assert.equal(conversation.progress.stage, "finishing");
  assert.equal(conversation.progress.taken, false);
  poll();
  await settled();
  assert.ok(!calls.includes("close"), "the session lives on");
  answers.session = () => NOW;
  poll();
  await ended;
  assert.equal(conversation.transcript.text, "all of it");
  assert.equal(conversation.transcript.end, 3.05, "the last block too");
  assert.equal(conversation.progress.stage, "finished");
  assert.equal(conversation.progress.lostSeconds, 0);
  assert.deepEqual(calls, ["open", "poll", "poll", "close"]);
  assert.deepEqual(beats, [{ lost_seconds: 0, audio_seconds: 3.1, words: 7 }], "what was measured, once it is over");
});

test("discard then gives up at once, and says how much was not transcribed", async () => {
  const { conversation, calls, ended, settled, speak } = begun();
  await settled();
  speak(3);
  conversation.discard();
  assert.equal(conversation.progress.stage, "waking", "only what was stopped can be discarded");
  await conversation.stop();
  conversation.discard();
  await ended;
  const { stage, phase, taken, error, lostSeconds, unconfirmed } = conversation.progress;
  assert.deepEqual([stage, phase, taken, error, lostSeconds, unconfirmed], ["discarded", "waking.boot", false, "", 3, false]);
  assert.equal(calls.at(-1), "close");
});

test("discard ends a connection that the server did not take up", async () => {
  class Silent extends FakeSocket {
    send() {}
  }
  const { conversation, calls, ended, settled, answers, speak, poll } = begun({ Socket: Silent });
  answers.session = () => NOW;
  await settled();
  speak(2);
  await conversation.stop();
  poll();
  await settled();
  conversation.discard();
  await ended;
  assert.equal(conversation.progress.stage, "discarded");
  assert.equal(conversation.progress.lostSeconds, 2);
  assert.equal(calls.at(-1), "close");
});

test("stopped before anything was said: nothing to wait for", async () => {
  const { conversation, calls, ended, settled } = begun();
  await settled();
  await conversation.stop();
  await ended;
  assert.equal(conversation.progress.stage, "finished");
  assert.equal(conversation.progress.lostSeconds, 0);
  assert.equal(calls.at(-1), "close");
});

test("a wake that fails after stop counts what was said as lost", async () => {
  const { conversation, ended, settled, answers, speak, poll } = begun();
  answers.session = () => {
    throw new ApiError("The session is over.", 410);
  };
  await settled();
  speak(4);
  await conversation.stop();
  poll();
  await ended;
  assert.equal(conversation.progress.stage, "failed");
  assert.equal(conversation.progress.error, "The session is over.");
  assert.equal(conversation.progress.lostSeconds, 4);
});

test("stop in front of the permission prompt: what comes after it is not recorded", async () => {
  let allow;
  let muted = 0;
  const conversation = new Conversation({
    api: { openSession: async () => LATER, closeSession: async () => {} },
    openCapture: () => new Promise((resolve) => (allow = () => resolve({ stop: async () => void (muted += 1) }))),
    listener: { changed() {}, words() {}, heard() {} },
  });
  const ended = conversation.run();
  await conversation.stop();
  allow();
  await ended;
  assert.ok(muted > 0);
  assert.equal(conversation.progress.stage, "finished");
});

test("a drop: connected again with the ticket in hand, nothing lost, no word twice", async () => {
  const sockets = [];
  class Dropping extends FakeSocket {
    constructor(...given) {
      super(...given);
      sockets.push(this);
    }
  }
  const { conversation, ended, settled, answers, speak, poll } = begun({ Socket: Dropping });
  answers.session = () => NOW;
  await settled();
  speak(3);
  poll();
  await settled();
  assert.equal(conversation.progress.stage, "live");
  answers.session = () => {
    throw new ApiError("nobody there", 0);
  };
  sockets[0].drop();
  assert.equal(conversation.progress.stage, "reconnecting");
  speak(1);
  await settled();
  assert.equal(conversation.progress.stage, "live");
  assert.equal(conversation.progress.reconnects, 1);
  await conversation.stop();
  await ended;
  assert.equal(sockets.length, 2);
  assert.equal(sockets[1].seconds, 4, "all of it again: nothing was confirmed");
  assert.equal(conversation.progress.lostSeconds, 0);
  assert.equal(conversation.progress.stage, "finished");
});
