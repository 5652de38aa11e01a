/** The dialogue that saves what was said, at any moment: words, subtitles, sound, and diagnostics. */

import { download, saveAs } from "./files.js";
import { fileName, toWav } from "./formats.js";
import { diagnostics } from "./journal.js";
import { paperText } from "./paper.js";
import { RATE } from "./session/connection.js";

const at = (id) => document.getElementById(id);

/**
 * Wire the dialogue up. @param {{conversation: () => import("./formats.js").Conversation,
 *   sound: () => Promise<Float32Array[] | null>, record: () => object}} parts
 *   sound: what was recorded until now, null where nothing is kept; record: for diagnostics, see journal.js
 * @returns {{open: () => Promise<void>}}
 */
export function savingDialogue({ conversation, sound, record }) {
  const dialogue = at("saving");
  at("saving-close").addEventListener("click", () => dialogue.close());
  at("copy").addEventListener("click", copy);
  at("diagnose").addEventListener("click", () => attempt(diagnose));
  for (const button of dialogue.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => attempt(() => save(button.dataset.save)));
  }

  async function save(kind) {
    saveAs(kind, conversation(), kind === "wav" ? await sound() : []);
  }

  async function diagnose() {
    const audio = at("with-sound").checked ? await sound() : null;
    const document = diagnostics(record(), audio ? await base64(new Blob(toWav(audio, RATE))) : null);
    const name = fileName({ ...conversation(), title: "diagnostics" }, "json");
    download(name, new Blob([JSON.stringify(document, null, 2)], { type: "application/json" }));
  }

  return {
    async open() {
      at("saving-problem").textContent = "";
      const kept = (await sound().catch(() => null)) !== null;
      at("with-sound").disabled = dialogue.querySelector("[data-save=wav]").disabled = !kept;
      at("with-sound").checked = false;
      at("not-kept").hidden = kept;
      dialogue.showModal();
    },
  };
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    at("saving-problem").textContent = error.message;
  }
}

async function copy() {
  const button = at("copy");
  try {
    await navigator.clipboard.writeText(paperText());
    button.textContent = "Copied";
  } catch {
    button.textContent = "Copying was refused";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

/** A blob's bytes as base64. @returns {Promise<string>} */
function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
