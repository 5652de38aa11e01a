/** The page's state, and the only module that touches the document. Text goes in as textContent only. */

import { Api } from "./api.js";
import { loudness, openCapture } from "./capture.js";
import { asked, readChoices } from "./choices.js";
import { Conversation } from "./conversation.js";
import { Backlog, Delays } from "./delay.js";
import { openFile } from "./file.js";
import { Journal } from "./journal.js";
import { Keeper, Keeping } from "./keeping.js";
import { Paper } from "./paper.js";
import { savingDialogue } from "./saving.js";
import { settingsDialogue } from "./settings.js";
import { SignalCheck, signalWords } from "./signal.js";
import { detailWords, lostShown } from "./telling.js";
import { keepAwake } from "./wakelock.js";
import { clockWords, idleWords, stageWords } from "./words.js";
import { localZone } from "./zones.js";

const TOKEN = "whisperlive-token";
const STEPS = ["waking.capacity", "waking.boot", "waking.service", "ready"];
const RUNNING = ["waking", "live", "reconnecting", "finishing"];
/** Milliseconds between two looks at the GPU while nobody speaks. */
const LOOK_EVERY = 15_000;

const at = (id) => document.getElementById(id);
const show = (id, visible) => (at(id).hidden = !visible);
const write = (id, text) => {
  if (at(id).textContent !== text) at(id).textContent = text;
};

const page = {
  token: "",
  /** @type {Conversation | null} */
  conversation: null,
  /** Phase of the GPU while nobody speaks; "" when unknown. */
  idlePhase: "",
  error: "",
  /** Seconds, by performance.now, of the click. */
  startedAt: 0,
  /** What is said of this conversation in a file, without its words: see formats.js. */
  about: null,
  /** @type {Paper | null} */
  paper: null,
  /** What the speech server has, by its last word. @type {string[]} */
  models: [],
  /** The one it has loaded. */
  model: "",
  signal: new SignalCheck(),
  /** Somebody speaks now; of a file no word is late. */
  spoken: true,
  delays: new Delays(),
  backlog: new Backlog(),
  /** The words fall ever further behind. */
  growing: false,
  journal: new Journal(),
  choices: readChoices(),
  /** Writes what is said into this browser. @type {Keeper | null} */
  keeper: null,
};

/** The token comes after # in the link; it leaves the address at once, and the history with it. */
function takeToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const given = fragment.get("token");
  if (given) {
    sessionStorage.setItem(TOKEN, given.trim());
    history.replaceState(null, "", location.pathname + location.search);
  }
  page.token = sessionStorage.getItem(TOKEN) ?? "";
}

function forgetToken() {
  sessionStorage.removeItem(TOKEN);
  page.token = "";
}

/** The API with the page's token; one that is not accepted any more is forgotten, whatever was asked. */
function api() {
  const { token } = page;
  return new Api(token, {
    onUnauthorized: (error) => {
      if (token !== page.token) return;
      forgetToken();
      page.error = error.message;
      render();
    },
  });
}

/** Look at the GPU once, while the page is seen; a look is no activity and keeps nothing awake. */
async function look() {
  if (!page.token || page.conversation || document.visibilityState !== "visible") return;
  const { token } = page;
  let phase = "";
  let problem = "";
  try {
    const status = await api().status();
    phase = status.phase ?? "";
    page.models = status.gpu?.models ?? page.models;
    page.model = status.gpu?.model ?? page.model;
  } catch (error) {
    problem = error.message;
  }
  if (page.conversation || token !== page.token) return;
  page.idlePhase = phase;
  page.error = problem;
  render();
}

/** @param {File} [file] a sound file in place of the microphone */
async function start(file) {
  if (!page.token || isRunning()) return;
  const choices = readChoices();
  const ask = asked(choices);
  const about = aboutNow(file?.name, choices);
  Object.assign(page, { error: "", startedAt: seconds(), about, choices, growing: false, spoken: !file });
  Object.assign(page, { signal: new SignalCheck(), delays: new Delays(), backlog: new Backlog(), journal: new Journal() });
  page.paper = new Paper(about.startedAt, choices.stamps ? about.zone : null);
  page.keeper?.close();
  page.keeper = null;
  const conversation = new Conversation({
    api: api(),
    openCapture: file ? openFile(file, () => conversation.stop()) : openCapture,
    wish: choices,
    ask,
    listener: {
      changed,
      words,
      heard,
      progressed,
      note: (event, told) => page.journal.note(event, told),
      measured: () => page.delays.measured,
    },
  });
  page.conversation = conversation;
  render();
  const awake = keepAwake();
  const ticking = setInterval(tick, 250);
  if (choices.keep) await keep(about);
  await conversation.run();
  clearInterval(ticking);
  awake.release();
  level(0);
  render();
  await page.keeper?.finish({
    lostSeconds: conversation.progress.lostSeconds,
    unconfirmed: conversation.transcript.partial?.text ?? "",
  });
}

function aboutNow(name, { language, model, zone }) {
  return {
    title: name ?? "Conversation",
    startedAt: Date.now(),
    zone: zone || localZone(),
    language: language || null,
    model: model || null,
  };
}

/** Begin to keep the conversation in this browser; speaking goes on whatever becomes of it. */
async function keep(about) {
  try {
    const keeping = await Keeping.open();
    page.keeper = new Keeper(keeping, { ...about, id: crypto.randomUUID(), lostSeconds: 0, unconfirmed: "" }, tell);
  } catch (error) {
    tell(error.message);
  }
}

function tell(sentence) {
  page.error = sentence;
  page.journal.note("page", { sentence });
  render();
}

function changed() {
  const { error } = page.conversation.progress;
  if (error) page.error = error;
  render();
}

function tick() {
  const { behind, stage } = page.conversation.progress;
  page.growing = stage === "live" && page.backlog.look(seconds(), behind);
  render();
}

/** @param {object[]} finals segments that became final just now */
function words(finals) {
  const follow = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
  page.paper.add(finals);
  page.keeper?.segments(finals);
  page.delays.shown(finals, page.conversation.recordedSeconds, page.spoken);
  page.paper.open(page.conversation.transcript);
  if (follow) toEnd();
  render();
}

function toEnd() {
  scrollTo({ top: document.documentElement.scrollHeight });
}

/** The server told how far it is: what the last words waited for follows from it. */
function progressed(progress) {
  page.delays.explained(page.conversation.recordedSeconds, progress);
}

function heard(samples) {
  page.keeper?.samples(samples);
  page.signal.push(samples);
  level(loudness(samples));
}

function level(loud) {
  document.documentElement.style.setProperty("--level", loud.toFixed(2));
}

function isRunning() {
  return page.conversation !== null && RUNNING.includes(page.conversation.progress.stage);
}

function seconds() {
  return performance.now() / 1000;
}

// Everything visible follows from `page`.
function render() {
  const progress = page.conversation?.progress;
  const stage = progress?.stage ?? "idle";
  const running = isRunning();
  const kept = stage === "finishing" && !progress.taken;
  document.body.dataset.stage = stage;
  show("welcome", !progress || (!page.token && !running));
  show("paper", Boolean(progress));
  show("access", !page.token);
  show("start", !running);
  show("stop", running && !kept);
  at("start").disabled = !page.token;
  at("stop").disabled = stage === "finishing";
  for (const id of ["choose", "open-file"]) at(id).disabled = running;
  // Whoever looks at recordings must not leave a conversation that runs.
  at("recordings").target = running ? "_blank" : "";
  show("save", Boolean(progress));
  write("signal", running && stage !== "finishing" ? signalWords(page.signal.verdict) : "");
  show("discard", kept);
  write("phase", phaseWords(progress));
  write("elapsed", progress ? clockWords(stage === "waking" ? elapsed() : page.conversation.recordedSeconds) : "");
  write("lost", progress ? lostShown(progress) : "");
  const late = page.delays.percentiles;
  write("detail", progress ? detailWords(progress, { elapsed: elapsed(), late: late.total, growing: page.growing }) : idleHint());
  at("detail").classList.toggle("warning", stage === "live" && (page.growing || progress.slow));
  at("partial").classList.toggle("unconfirmed", Boolean(progress?.unconfirmed));
  write("error", page.error);
  show("error", page.error !== "");
  renderDelays(late);
  renderSteps(progress, stage);
}

function phaseWords(progress) {
  if (progress) return stageWords(progress);
  return page.token ? idleWords(page.idlePhase) : "An access token is needed";
}

/** Seconds since the click. */
function elapsed() {
  return seconds() - page.startedAt;
}

function idleHint() {
  if (!page.token) return "Open the link you were given, or paste the token above.";
  return page.idlePhase === "ready" ? "Start and speak." : "Start wakes it; you can speak right away.";
}

function renderDelays(late) {
  show("delays", late.total !== null);
  for (const row of document.querySelectorAll("#delays [data-part]")) {
    const known = late[row.dataset.part];
    for (const [index, share] of ["p50", "p95"].entries()) {
      const text = known ? `${known[share].toFixed(1)} s` : "unknown";
      if (row.cells[index + 1].textContent !== text) row.cells[index + 1].textContent = text;
    }
  }
}

function renderSteps(progress, stage) {
  show("steps", stage === "waking" || (stage === "finishing" && !progress.taken));
  const now = STEPS.indexOf(progress?.phase ?? "");
  for (const [index, item] of [...at("steps").children].entries()) {
    item.className = index < now ? "done" : index === now ? "now" : "";
  }
}

/** What was said until now, as files hold it. */
function saved() {
  const { transcript, progress } = page.conversation;
  const open = transcript.partial?.text ?? "";
  return { ...page.about, lostSeconds: progress.lostSeconds, unconfirmed: open, segments: transcript.finals };
}

/** What diagnostics hold. */
function record() {
  const { conversation, journal, choices, delays, about } = page;
  const { progress, transcript, recordedSeconds: recorded } = conversation;
  const parts = { journal, progress, settings: choices, recorded, delays: delays.percentiles };
  return { ...parts, segments: transcript.finals, agent: navigator.userAgent, startedAt: about.startedAt };
}

const saving = savingDialogue({ conversation: saved, sound: async () => (await page.keeper?.sound()) ?? null, record });
const dialogue = settingsDialogue();

/** Keys for those who do not want the mouse; never while something is typed or a button has the focus. */
const KEYS = {
  r: () => (isRunning() ? page.conversation.stop() : start()),
  c: captions,
  s: () => page.conversation && saving.open(),
  ",": () => !isRunning() && dialogue.open(page.models, page.model),
};

/** Large type and nothing else, for a screen that a room reads. */
function captions() {
  const on = document.body.classList.toggle("captions");
  at("captions").setAttribute("aria-pressed", String(on));
  toEnd(); // the newest words, whatever their size
}

function pressed(event) {
  const typing = event.target.closest("input, select, textarea, button, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.key === "Escape" && document.body.classList.contains("captions")) captions();
  KEYS[event.key.toLowerCase()]?.();
}

function dropped(event) {
  event.preventDefault();
  const [file] = event.dataTransfer?.files ?? [];
  if (file) start(file);
}

at("start").addEventListener("click", () => start());
at("choose").addEventListener("click", () => dialogue.open(page.models, page.model));
at("captions").addEventListener("click", captions);
at("save").addEventListener("click", () => saving.open());
at("open-file").addEventListener("click", () => at("file").click());
at("file").addEventListener("change", () => {
  const [file] = at("file").files;
  at("file").value = "";
  if (file) start(file);
});
addEventListener("keydown", pressed);
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", dropped);
at("stop").addEventListener("click", () => page.conversation?.stop());
at("discard").addEventListener("click", () => page.conversation?.discard());
at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = at("token").value.trim();
  if (!given) return;
  sessionStorage.setItem(TOKEN, given);
  at("token").value = "";
  page.error = "";
  if (!isRunning() && !page.paper?.last) page.conversation = null; // words stay to be read and copied
  takeToken();
  render();
  look();
});
addEventListener("hashchange", () => {
  takeToken();
  render();
  look();
});
addEventListener("beforeunload", (event) => isRunning() && event.preventDefault());
addEventListener("pagehide", () => isRunning() && page.conversation.abandon());
document.addEventListener("visibilitychange", look);
setInterval(look, LOOK_EVERY);

takeToken();
render();
look();
