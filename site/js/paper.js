/** The paper: final words in full ink, open ones as sure as they are. Text goes in as textContent only. */

import { localTime } from "./formats.js";
import { beginsParagraph } from "./session/transcript.js";

const at = (id) => document.getElementById(id);

export class Paper {
  /** @type {object | null} the last segment that stands there */
  last = null;
  #startedAt;
  #zone;

  /** An empty one. @param {number} startedAt milliseconds since 1970 @param {string | null} zone shows paragraphs' times */
  constructor(startedAt, zone) {
    this.#startedAt = startedAt;
    this.#zone = zone;
    at("transcript").replaceChildren();
    at("partial").replaceChildren();
  }

  /** @param {object[]} finals segments that became final just now */
  add(finals) {
    for (const segment of finals) {
      if (beginsParagraph(this.last, segment)) at("transcript").append(this.#paragraph(segment));
      const span = document.createElement("span");
      span.textContent = `${segment.text} `;
      at("transcript").lastElementChild.append(span);
      this.last = segment;
    }
  }

  /** Words that two decodes agree on in normal ink, the rest grey; nothing is touched that stays the same. */
  open({ partial, stable }) {
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

  #paragraph(segment) {
    const paragraph = document.createElement("p");
    if (this.#zone === null) return paragraph;
    const moment = this.#startedAt + segment.start * 1000;
    const time = document.createElement("time");
    time.textContent = localTime(moment, this.#zone).slice(11);
    time.dateTime = new Date(moment).toISOString();
    paragraph.append(time);
    return paragraph;
  }
}

/** What stands there as plain text, a line for each paragraph. */
export function paperText() {
  const paragraphs = [...at("transcript").children];
  return paragraphs.map((one) => [...one.querySelectorAll("span")].map((span) => span.textContent).join("").trim()).join("\n\n");
}
