/**
 * The page's conversation with a ramp in place of the microphone: each sample is its own number, so that a server can
 * count them. Everything else is the real thing: the API, the WebSocket, IndexedDB.
 */

import { Api } from "/js/api.js";
import { Conversation } from "/js/conversation.js";

const RATE = 16000;
const at = (id) => document.getElementById(id);
let next = 0;
let give = () => {};

function ramp(count) {
  const samples = Float32Array.from({ length: count }, (_, index) => next + index);
  next += count;
  give(samples);
}

async function openCapture(onSamples) {
  give = onSamples;
  const timer = setInterval(() => ramp(RATE / 10), 25); // four times as fast as speech
  return {
    async stop() {
      clearInterval(timer);
      give = () => {};
    },
  };
}

const conversation = new Conversation({
  api: new Api(new URLSearchParams(location.hash.slice(1)).get("token")),
  openCapture,
  listener: {
    changed: () => (at("stage").textContent = conversation.progress.stage),
    words: () => (at("words").textContent = conversation.transcript.text),
    heard: () => {},
  },
});

at("start").onclick = async () => {
  await conversation.run();
  const { lostSeconds, error, stage, reconnects } = conversation.progress;
  at("report").textContent = JSON.stringify({ samples: next, lostSeconds, error, stage, reconnects });
};
at("stop").onclick = () => conversation.stop();
at("burst").onclick = () => {
  for (let block = 0; block < 6000; block += 1) ramp(RATE / 10);
};
