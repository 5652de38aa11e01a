/** The page's state, and the only module that touches the document. Text goes in as textContent only. */

import { Api } from "./api.js";
import { loudness, openCapture } from "./capture.js";
import { asked, readChoices } from "./choices.js";
import { BEHIND, Conversation } from "./conversation.js";
import { Delays } from "./delay.js";
import { openFile } from "./file.js";
import { Keeper, Keeping } from "./keeping.js";
import { beginsParagraph } from "./session/transcript.js";
import { settingsDialogue } from "./settings.js";
import { SignalCheck, signalWords } from "./signal.js";
import { keepAwake } from "./wakelock.js";
import { clockWords, estimateWords, idleWords, stageWords } from "./words.js";

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
  /** Seconds, by performance.now, of the click and of the first word's moment. */
  startedAt: 0,
  liveAt: 0,
  endedAt: 0,
  lastFinal: null,
  /** What the speech server has, by its last word. @type {string[]} */
  models: [],
  signal: new SignalCheck(),
  delays: new Delays(),
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
  clearPaper();
  Object.assign(page, { error: "", startedAt: seconds(), liveAt: 0, endedAt: 0, lastFinal: null, keeper: null });
  Object.assign(page, { signal: new SignalCheck(), delays: new Delays() });
  const choices = readChoices();
  const ask = asked(choices);
  const conversation = new Conversation({
    api: api(),
    openCapture: file ? openFile(file, () => conversation.stop()) : openCapture,
    wish: choices,
    ask,
    listener: { changed, words, heard },
  });
  page.conversation = conversation;
  render();
  const awake = keepAwake();
  const ticking = setInterval(render, 250);
  const keeping = choices.keep ? await keep(file?.name, ask) : null;
  await conversation.run();
  clearInterval(ticking);
  awake.release();
  page.endedAt = seconds();
  level(0);
  render();
  await page.keeper?.finish({
    lostSeconds: conversation.progress.lostSeconds,
    unconfirmed: conversation.transcript.partial?.text ?? "",
  });
  keeping?.close();
}

/** Begin to keep the conversation in this browser; speaking goes on whatever becomes of it. */
async function keep(name, { language = null, model = null }) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const startedAt = Date.now();
  const title = name ?? "Conversation";
  const about = { id: crypto.randomUUID(), title, startedAt, zone, language, model, lostSeconds: 0, unconfirmed: "" };
  try {
    const keeping = await Keeping.open();
    page.keeper = new Keeper(keeping, about, tell);
    return keeping;
  } catch (error) {
    tell(error.message);
    return null;
  }
}

function tell(sentence) {
  page.error = sentence;
  render();
}

function changed() {
  const { stage, error } = page.conversation.progress;
  if (stage === "live" && !page.liveAt) page.liveAt = seconds();
  if (error) page.error = error;
  render();
}

/** @param {object[]} finals segments that became final just now */
function words(finals) {
  const follow = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
  for (const segment of finals) {
    if (beginsParagraph(page.lastFinal, segment)) at("transcript").append(document.createElement("p"));
    const span = document.createElement("span");
    span.textContent = `${segment.text} `;
    at("transcript").lastElementChild.append(span);
    page.lastFinal = segment;
  }
  page.keeper?.segments(finals);
  page.delays.shown(finals, page.conversation.recordedSeconds);
  writePartial(page.conversation.transcript);
  if (follow) scrollTo({ top: document.documentElement.scrollHeight });
  render();
}

/** Words that two decodes agree on in normal ink, the rest grey; nothing is touched that stays the same. */
function writePartial({ partial, stable }) {
  const said = partial?.text.split(/\s+/) ?? [];
  const paper = at("partial");
  if (!said.length) return paper.replaceChildren();
  if (!paper.firstChild) {
    paper.append(document.createElement("span"), document.createElement("span"));
    paper.firstChild.className = "stable";
  }
  const texts = [said.slice(0, stable).join(" "), said.slice(stable).join(" ")];
  if (texts[0] && texts[1]) texts[0] += " ";
  for (const [index, span] of [...paper.children].entries()) {
    if (span.textContent !== texts[index]) span.textContent = texts[index];
  }
}

function heard(samples) {
  page.keeper?.samples(samples);
  page.signal.push(samples);
  level(loudness(samples));
}

function level(loud) {
  document.documentElement.style.setProperty("--level", loud.toFixed(2));
}

function clearPaper() {
  at("transcript").replaceChildren();
  at("partial").replaceChildren();
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
  show("welcome", !progress);
  show("paper", Boolean(progress));
  show("access", !page.token);
  if (!page.token && progress && !running) show("welcome", true);
  show("start", !running);
  show("stop", running && !kept);
  at("start").disabled = !page.token;
  at("stop").disabled = stage === "finishing";
  for (const id of ["choose", "open-file"]) at(id).disabled = running;
  write("signal", running && stage !== "finishing" ? signalWords(page.signal.verdict) : "");
  show("discard", kept);
  show("copy", Boolean(page.lastFinal) && !running);
  write("phase", phaseWords(progress));
  write("elapsed", progress ? clockWords(elapsed(stage)) : "");
  write("detail", detailWords(progress, stage));
  at("partial").classList.toggle("unconfirmed", Boolean(progress?.unconfirmed));
  write("error", page.error);
  show("error", page.error !== "");
  renderSteps(progress, stage);
}

function phaseWords(progress) {
  if (progress) return stageWords(progress);
  return page.token ? idleWords(page.idlePhase) : "An access token is needed";
}

function elapsed(stage) {
  if (stage === "waking") return seconds() - page.startedAt;
  return page.conversation.recordedSeconds;
}

function detailWords(progress, stage) {
  if (!progress) {
    if (!page.token) return "Open the link you were given, or paste the token above.";
    return page.idlePhase === "ready" ? "Start and speak." : "Start wakes it; you can speak right away.";
  }
  if (stage === "reconnecting") return "What you say is kept, and sent once the connection is back.";
  if (progress.notice && isRunning()) return progress.notice;
  switch (stage) {
    case "waking":
      return progress.usual === null
        ? "You are being recorded already."
        : `You are being recorded already; this usually takes ${estimateWords(progress.usual)}.`;
    case "live":
      return liveWords(progress);
    case "finishing":
      return progress.taken ? "Recording has ended." : keptWords(progress);
    case "finished":
      return `Every word is final, ${progress.lostSeconds.toFixed(1)} s lost.`;
    default:
      return lostWords(progress);
  }
}

function liveWords({ lostSeconds, behind, slow, reconnects }) {
  const lost = `${lostSeconds.toFixed(1)} s lost`;
  if (slow) return `Slow network: what you say is kept, the words are ${Math.round(behind)} s behind. ${lost}`;
  // While a whole sentence is open its words are decoded, not final: that is no backlog.
  if (reconnects > 0 && behind > BEHIND) return `Catching up, ${Math.round(behind)} s behind. ${lost}`;
  const late = page.delays.percentiles;
  return late ? `${lost}, words final after ${late.p50.toFixed(1)} s (most within ${late.p95.toFixed(1)} s)` : lost;
}

function keptWords({ usual, phase, reconnects, stage }) {
  if (phase === "ready" && (reconnects > 0 || stage === "finishing")) return "Your words are kept; leave this page open.";
  const when = usual === null ? "" : ` Waking usually takes ${estimateWords(usual)}.`;
  return `Your words are kept; leave this page open.${when}`;
}

function lostWords({ unconfirmed, lostSeconds }) {
  if (unconfirmed) return `${lostSeconds.toFixed(1)} s were not confirmed; underlined words may be wrong.`;
  return lostSeconds > 0 ? `${lostSeconds.toFixed(1)} s were not transcribed.` : "";
}

function renderSteps(progress, stage) {
  show("steps", stage === "waking" || (stage === "finishing" && !progress.taken));
  const now = STEPS.indexOf(progress?.phase ?? "");
  for (const [index, item] of [...at("steps").children].entries()) {
    item.className = index < now ? "done" : index === now ? "now" : "";
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText(at("transcript").innerText.trim());
    write("copy", "Copied");
  } catch {
    write("copy", "Copying was refused");
  }
  setTimeout(() => write("copy", "Copy"), 1500);
}

const dialogue = settingsDialogue();

/** Keys for those who do not want the mouse; never while something is typed or a button has the focus. */
const KEYS = {
  r: () => (isRunning() ? page.conversation.stop() : start()),
  c: captions,
  ",": () => !isRunning() && dialogue.open(page.models),
};

/** Large type and nothing else, for a screen that a room reads. */
function captions() {
  const on = document.body.classList.toggle("captions");
  at("captions").setAttribute("aria-pressed", String(on));
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
at("choose").addEventListener("click", () => dialogue.open(page.models));
at("captions").addEventListener("click", captions);
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
at("copy").addEventListener("click", copy);
at("access").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = at("token").value.trim();
  if (!given) return;
  sessionStorage.setItem(TOKEN, given);
  at("token").value = "";
  page.error = "";
  if (!isRunning() && !page.lastFinal) page.conversation = null; // words stay to be read and copied
  takeToken();
  render();
  look();
});
addEventListener("hashchange", () => {
  takeToken();
  render();
  look();
});
addEventListener("pagehide", () => isRunning() && page.conversation.abandon());
document.addEventListener("visibilitychange", look);
setInterval(look, LOOK_EVERY);

takeToken();
render();
look();
