/** The settings' dialogue: shows what can be chosen, and hands on what was. */

import { microphones } from "./capture.js";
import { readChoices, writeChoices } from "./choices.js";
import { trying } from "./trying.js";
import { fillZones, localZone } from "./zones.js";

/** Whisper's commonest languages, by their own names; any other code may be asked for by the API. */
const LANGUAGES = ["en", "de", "fr", "es", "it", "pt", "nl", "pl", "sv", "da", "no", "fi", "cs", "uk", "ru", "tr", "ar", "hi", "zh", "ja", "ko"];
const SWITCHES = ["echoCancellation", "noiseSuppression", "autoGainControl", "keep", "wordTimes", "stamps"];
const PICKS = ["device", "language", "task", "model", "zone"];

const OWN = ["", "The system's own"];

const at = (id) => document.getElementById(id);

/** Wire the dialogue up. @returns {{open: (models: string[], loaded: string) => Promise<void>}} */
export function settingsDialogue() {
  const dialogue = at("settings");
  const trial = trying(read, list);
  navigator.mediaDevices?.addEventListener?.("devicechange", () => dialogue.open && list());
  dialogue.addEventListener("close", () => {
    writeChoices(read());
    trial.end();
  });
  at("settings-close").addEventListener("click", () => dialogue.close());
  let usual = "";
  const offer = (choices) => offered(at("choice-model").value || usual, choices);
  at("choice-model").addEventListener("change", () => offer(read()));
  return {
    /** @param {string[]} models what the speech server has, by its own word @param {string} loaded its usual one */
    async open(models, loaded) {
      const choices = readChoices();
      usual = loaded;
      const own = loaded ? `The usual one (${loaded})` : "The usual one";
      fill(at("choice-model"), [["", own], ...models.map((one) => [one, one])], choices.model);
      offer(choices);
      fillZones(at("choice-zone"), choices.zone || localZone());
      for (const name of SWITCHES) at(`choice-${name}`).checked = choices[name];
      dialogue.showModal();
      fill(at("choice-device"), [OWN], choices.device);
      await list();
    },
  };
}

/** Languages and tasks of this model: one whose name ends so knows English only. */
function offered(model, { language, task }) {
  const own = ["", "The model's own"];
  const write = ["transcribe", "Write what is said"];
  const english = model.endsWith(".en");
  const languages = english ? [own, ["en", "English"]] : [own, ["auto", "Listen and find out"], ...names()];
  const tasks = english ? [write] : [write, ["translate", "Translate into English"]];
  fill(at("choice-language"), languages, language);
  fill(at("choice-task"), tasks, task);
}

/** The microphones there are now, which may take a moment; their names are known once one was allowed. */
async function list() {
  const found = await devices();
  fill(at("choice-device"), [OWN, ...found], at("choice-device").value);
}

function read() {
  const picked = PICKS.map((name) => [name, at(`choice-${name}`).value]);
  // This device's own zone is no choice: it may travel.
  if (at("choice-zone").value === localZone()) picked.push(["zone", ""]);
  const switched = SWITCHES.map((name) => [name, at(`choice-${name}`).checked]);
  return Object.fromEntries([...picked, ...switched]);
}

async function devices() {
  const found = await microphones();
  return found.map(({ deviceId, label }, index) => [deviceId, label || `Microphone ${index + 1}`]).filter(([id]) => id);
}

function names() {
  return LANGUAGES.map((code) => [code, new Intl.DisplayNames([code], { type: "language" }).of(code)]);
}

/** What was chosen stays to be seen, even where it is not there now. */
function fill(select, pairs, chosen) {
  const known = pairs.some(([value]) => value === chosen) ? pairs : [...pairs, [chosen, `${chosen} (not there now)`]];
  select.replaceChildren(
    ...known.map(([value, textContent]) => Object.assign(document.createElement("option"), { value, textContent })),
  );
  select.value = chosen;
}
