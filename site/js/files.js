/** A conversation handed to the browser's downloads, in each of its formats. */

import { fileName, toJson, toSrt, toText, toVtt, toWav } from "./formats.js";
import { RATE } from "./session/connection.js";

const WRITERS = {
  txt: ["text/plain", (conversation) => [toText(conversation)]],
  srt: ["application/x-subrip", (conversation) => [toSrt(conversation)]],
  vtt: ["text/vtt", (conversation) => [toVtt(conversation)]],
  json: ["application/json", (conversation) => [toJson(conversation)]],
  wav: ["audio/wav", (_conversation, audio) => toWav(audio, RATE)],
};

/**
 * @param {"txt" | "srt" | "vtt" | "json" | "wav"} kind
 * @param {import("./formats.js").Conversation} conversation @param {Float32Array[]} [audio] for wav
 */
export function saveAs(kind, conversation, audio = []) {
  const [type, write] = WRITERS[kind];
  download(fileName(conversation, kind), new Blob(write(conversation, audio), { type }));
}

/** @param {string} name @param {Blob} content */
export function download(name, content) {
  const link = Object.assign(document.createElement("a"), { download: name, href: URL.createObjectURL(content) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
