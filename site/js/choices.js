/** What a person chose, kept in this browser: microphone, filters, language, task, model, keeping. */

const NAME = "whisperlive-choices";

/**
 * @typedef {{device: string, echoCancellation: boolean, noiseSuppression: boolean, autoGainControl: boolean,
 *   language: string, task: "transcribe" | "translate", model: string, keep: boolean, wordTimes: boolean, stamps: boolean,
 *   zone: string}} Choices
 *   language: "" is what the speech server takes for the usual one, "auto" lets it listen; model: "" is its own;
 *   wordTimes: ask for the times of words; stamps: show those of paragraphs; zone: IANA name, "" is this device's
 */

/** @type {Choices} */
export const USUAL = {
  device: "",
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
  language: "",
  task: "transcribe",
  model: "",
  keep: true,
  wordTimes: false,
  stamps: false,
  zone: "",
};

/** What was chosen last; whatever is not a choice any more is the usual one. @returns {Choices} */
export function readChoices(storage = globalThis.localStorage) {
  let kept = {};
  try {
    kept = JSON.parse(storage.getItem(NAME) ?? "{}") ?? {};
  } catch {
    kept = {}; // another program's, or none may be kept
  }
  const found = Object.entries(USUAL).map(([name, usual]) => [
    name,
    typeof kept[name] === typeof usual ? kept[name] : usual,
  ]);
  const choices = Object.fromEntries(found);
  if (choices.task !== "translate") choices.task = "transcribe";
  return choices;
}

/** @param {Choices} choices */
export function writeChoices(choices, storage = globalThis.localStorage) {
  try {
    storage.setItem(NAME, JSON.stringify(choices));
  } catch {
    // A private window keeps nothing: the choice holds until the page is closed.
  }
}

/** What to ask the API and the speech server for. @param {Choices} choices */
export function asked({ language, task, model }) {
  return { task, ...(language ? { language } : {}), ...(model ? { model } : {}) };
}
