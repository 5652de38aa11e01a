/** A microphone tried before anything is recorded: its level, its name, and what is wrong with it. */

import { loudness, openCapture } from "./capture.js";
import { SignalCheck, signalWords } from "./signal.js";

const at = (id) => document.getElementById(id);

/**
 * @param {() => import("./capture.js").Wish} wish what is chosen now @param {() => void} onAllowed one was opened
 * @returns {{end: () => Promise<void>}}
 */
export function trying(wish, onAllowed) {
  /** @type {Promise<{stop: () => Promise<void>, label: string} | null> | null} */
  let running = null;

  async function begin() {
    at("try").setAttribute("aria-pressed", "true");
    say("Say something.");
    const check = new SignalCheck();
    let label = "";
    const heard = (samples) => {
      at("try-level").value = loudness(samples);
      const verdict = check.push(samples);
      if (verdict !== "unknown") say(verdict === "good" ? `You are heard well, by ${label}.` : signalWords(verdict));
    };
    running = openCapture(heard, () => say("The microphone went away."), wish()).catch((error) => {
      say(error.message);
      return null;
    });
    const capture = await running;
    label = capture?.label || "this microphone";
    if (capture) onAllowed();
  }

  async function end() {
    const capture = await running;
    running = null;
    await capture?.stop();
    at("try").setAttribute("aria-pressed", "false");
    at("try-level").value = 0;
    say("");
  }

  at("try").addEventListener("click", () => (running ? end() : begin()));
  at("choice-device").addEventListener("change", async () => {
    if (!running) return;
    await end();
    await begin();
  });
  return { end };
}

function say(sentence) {
  if (at("try-words").textContent !== sentence) at("try-words").textContent = sentence;
}
