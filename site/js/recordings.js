/** The page that lists what this browser kept: play, read along, search, save, delete. Text goes in as textContent only. */

import { saveAs } from "./files.js";
import { localTime, timedWords, toWav } from "./formats.js";
import { Keeping } from "./keeping.js";
import { RATE } from "./session/connection.js";
import { beginsParagraph } from "./session/transcript.js";
import { clockWords } from "./words.js";
import { fillZones, localZone } from "./zones.js";

const at = (id) => document.getElementById(id);

const page = {
  /** @type {Keeping} */
  keeping: null,
  /** @type {import("./keeping.js").Recording | null} */
  recording: null,
  /** @type {Float32Array[]} */
  audio: [],
  /** Every word's element with its time, in order. @type {{start: number, end: number, element: HTMLElement}[]} */
  words: [],
  marked: null,
};

async function list() {
  page.recording = null;
  page.audio = [];
  release(at("player"));
  const kept = await page.keeping.list();
  at("list").replaceChildren(...kept.map(row));
  at("list").hidden = !kept.length;
  at("empty").hidden = Boolean(kept.length);
  at("open").hidden = true;
}

function row(recording) {
  const item = make("li");
  const open = make("button", { className: "row", type: "button" });
  open.append(
    make("strong", { textContent: recording.title }),
    make("span", { textContent: factsOf(recording, localZone()) }),
    make("span", { className: "begin", textContent: recording.segments.map(({ text }) => text).join(" ").slice(0, 120) }),
  );
  open.addEventListener("click", () => (location.hash = recording.id));
  const remove = make("button", { className: "quiet", type: "button", textContent: "Delete" });
  remove.setAttribute("aria-label", `Delete ${recording.title}`);
  remove.addEventListener("click", () => removeTwice(remove, recording));
  item.append(open, remove);
  return item;
}

/** A second click within three seconds deletes; a dialogue would be one more thing to read. */
async function removeTwice(button, recording) {
  if (button.dataset.sure) {
    await attempt(() => page.keeping.remove(recording.id));
    await attempt(list);
    return;
  }
  button.dataset.sure = "yes";
  button.textContent = "Really delete?";
  setTimeout(() => {
    delete button.dataset.sure;
    button.textContent = "Delete";
  }, 3000);
}

async function open(id) {
  const recording = await page.keeping.read(id);
  if (!recording) {
    history.replaceState(null, "", location.pathname);
    await list();
    return;
  }
  Object.assign(page, { recording, audio: await page.keeping.audio(id) });
  at("list").hidden = at("empty").hidden = true;
  at("open").hidden = false;
  at("title").textContent = recording.title;
  fillZones(at("zone"), recording.zone);
  at("search").value = "";
  const player = at("player");
  release(player);
  player.hidden = !page.audio.length;
  if (page.audio.length) player.src = URL.createObjectURL(new Blob(toWav(page.audio, RATE), { type: "audio/wav" }));
  render();
  at("title").focus();
}

/** The words, in the zone chosen. */
function render() {
  const { recording } = page;
  const zone = at("zone").value;
  at("facts").textContent = factsOf(recording, zone);
  at("words").classList.toggle("stamped", at("stamps").checked);
  page.words = [];
  page.marked = null;
  const paragraphs = [];
  let before = null;
  for (const segment of recording.segments) {
    if (beginsParagraph(before, segment)) paragraphs.push(paragraph(segment, zone));
    for (const word of timedWords(segment)) {
      const element = make("span", { className: "word", textContent: word.word });
      page.words.push({ start: word.start, end: word.end, element });
      paragraphs.at(-1).append(element, " ");
    }
    before = segment;
  }
  if (recording.unconfirmed) {
    const open = make("p");
    open.append(make("span", { className: "unconfirmed", textContent: recording.unconfirmed }), " (not confirmed)");
    paragraphs.push(open);
  }
  at("words").replaceChildren(...paragraphs);
  search();
}

function paragraph(segment, zone) {
  const made = make("p");
  const moment = page.recording.startedAt + segment.start * 1000;
  made.append(make("time", { textContent: localTime(moment, zone).slice(11), dateTime: new Date(moment).toISOString() }));
  return made;
}

function factsOf(recording, zone) {
  const lost = recording.lostSeconds > 0 ? `, ${recording.lostSeconds.toFixed(1)} s lost` : "";
  const cut = recording.finished ? "" : ", not finished";
  return `${localTime(recording.startedAt, zone).slice(0, 16)}, ${clockWords(recording.seconds)}${lost}${cut}`;
}

function search() {
  const wanted = at("search").value.trim().toLowerCase();
  let found = 0;
  for (const { element } of page.words) {
    const hit = wanted !== "" && element.textContent.toLowerCase().includes(wanted);
    element.classList.toggle("found", hit);
    if (hit && !found) element.scrollIntoView({ block: "nearest" });
    found += hit;
  }
  at("found").textContent = wanted ? `${found} found` : "";
}

/** The word that sounds now. */
function follow() {
  const now = at("player").currentTime;
  const current = page.words.findLast(({ start }) => start <= now + 0.05);
  const element = current && now <= current.end + 0.5 ? current.element : null;
  if (element === page.marked) return;
  page.marked?.classList.remove("now");
  element?.classList.add("now");
  page.marked = element;
}

function play({ target }) {
  const word = page.words.find(({ element }) => element === target);
  if (!word) return;
  at("player").currentTime = word.start;
  at("player").play();
}

function save(kind) {
  const { id, finished, seconds, ...conversation } = page.recording;
  saveAs(kind, { ...conversation, zone: at("zone").value }, page.audio);
}

function release(player) {
  player.pause();
  if (player.src) URL.revokeObjectURL(player.src);
  player.removeAttribute("src");
}

function make(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    at("error").textContent = error.message;
    at("error").hidden = false;
  }
}

const route = () => attempt(() => (location.hash.length > 1 ? open(location.hash.slice(1)) : list()));
addEventListener("hashchange", route);
at("back").addEventListener("click", () => (location.hash = ""));
at("player").addEventListener("timeupdate", follow);
at("words").addEventListener("click", play);
at("zone").addEventListener("change", render);
at("stamps").addEventListener("change", render);
at("search").addEventListener("input", search);
for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", () => save(button.dataset.save));
}
await attempt(async () => (page.keeping = await Keeping.open()));
if (page.keeping) await route();
