/**
 * A conversation as files: text, subtitles (SRT; WebVTT, https://www.w3.org/TR/webvtt1/), JSON and WAV.
 *
 * @typedef {{start: number, end: number, text: string, words?: {word: string, start: number, end: number}[]}} Segment
 *   seconds since recording began
 * @typedef {{title: string, startedAt: number, zone: string, language?: string | null, model?: string | null,
 *   lostSeconds: number, unconfirmed?: string, segments: Segment[]}} Conversation
 *   startedAt: milliseconds since 1970; zone: IANA name; unconfirmed: words that never became final
 */

import { beginsParagraph } from "./session/transcript.js";

/** What a reader takes in: two lines of this many letters, for this many seconds. */
const LINE = 42;
const CUE_LETTERS = 2 * LINE;
const CUE_SECONDS = 7;
/** Shorter than this nobody reads. */
const CUE_LEAST = 0.5;

/** Paragraphs under a head that says what it is. @param {Conversation} conversation */
export function toText(conversation) {
  const paragraphs = [];
  let before = null;
  for (const segment of conversation.segments) {
    if (beginsParagraph(before, segment)) paragraphs.push([]);
    paragraphs.at(-1).push(oneLine(segment.text));
    before = segment;
  }
  const open = conversation.unconfirmed ? [`[not confirmed: ${oneLine(conversation.unconfirmed)}]`] : [];
  return `${[head(conversation).join("\n"), ...paragraphs.map((lines) => lines.join(" ")), ...open].join("\n\n")}\n`;
}

/** @param {Conversation} conversation */
export function toSrt(conversation) {
  return cues(conversation.segments)
    .map(({ start, end, lines }, index) => {
      const text = withoutMarks(lines.join("\n"));
      return `${index + 1}\n${stamp(start, ",")} --> ${stamp(end, ",")}\n${text}\n`;
    })
    .join("\n");
}

/** @param {Conversation} conversation */
export function toVtt(conversation) {
  const note = `NOTE\n${head(conversation).map(escapeVtt).join("\n")}\n`;
  const blocks = cues(conversation.segments).map(
    ({ start, end, lines }) => `${stamp(start, ".")} --> ${stamp(end, ".")}\n${escapeVtt(lines.join("\n"))}\n`,
  );
  return ["WEBVTT\n", note, ...blocks].join("\n");
}

/** Everything known, for programs. @param {Conversation} conversation */
export function toJson(conversation) {
  return `${JSON.stringify({ format: "whisperlive-edge/1", ...conversation }, null, 2)}\n`;
}

/**
 * 16-bit PCM mono with its header (RIFF WAVE, format 1).
 * @param {Float32Array[]} blocks samples from -1 to 1; beyond that they are clipped
 * @param {number} rate Hz @returns {Uint8Array[]} parts of one file, as a Blob takes them
 */
export function toWav(blocks, rate) {
  const count = blocks.reduce((sum, block) => sum + block.length, 0);
  const bytes = 2 * count;
  if (bytes > 0xffffffff - 44) throw new RangeError("a WAV file holds at most 4 GB");
  const view = new DataView(new ArrayBuffer(44));
  const mark = (at, letters) => [...letters].forEach((letter, n) => view.setUint8(at + n, letter.charCodeAt(0)));
  mark(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  mark(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  mark(36, "data");
  view.setUint32(40, bytes, true);
  return [new Uint8Array(view.buffer), ...blocks.map(pcm16)];
}

/** A name for a file: the title and the moment it began, in the conversation's own zone. */
export function fileName(conversation, extension) {
  const when = localTime(conversation.startedAt, conversation.zone).replaceAll(":", "-").replace(" ", "_");
  const title = conversation.title.normalize("NFKC").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return `${[title.slice(0, 60) || "transcript", when].join("_")}.${extension}`;
}

/** A moment as 2026-11-22 19:03:20 in an IANA zone. */
export function localTime(milliseconds, zone) {
  const format = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium", timeZone: zone });
  return format.format(new Date(milliseconds));
}

/**
 * Segments as subtitles: what is too long to read at once is cut between words, at the words' own times where they
 * are known, else by their share of the letters.
 * @param {Segment[]} segments @returns {{start: number, end: number, lines: string[]}[]}
 */
export function cues(segments) {
  const found = [];
  for (const segment of segments) {
    const words = timedWords(segment);
    let part = [];
    for (const word of words) {
      const letters = part.reduce((sum, one) => sum + one.word.length + 1, word.word.length);
      if (part.length && (letters > CUE_LETTERS || word.end - part[0].start > CUE_SECONDS)) {
        found.push(cue(part));
        part = [];
      }
      part.push(word);
    }
    if (part.length) found.push(cue(part));
  }
  for (const [index, one] of found.entries()) {
    const next = found[index + 1]?.start ?? Infinity;
    one.end = Math.max(one.end, Math.min(one.start + CUE_LEAST, next));
  }
  return found;
}

/** A segment's words with their times: its own where they are known, else by their share of the letters. */
export function timedWords({ start, end, text, words }) {
  const known = (words ?? []).map((one) => ({ ...one, word: oneLine(one.word) })).filter((one) => one.word);
  if (known.length) return known;
  const plain = oneLine(text).split(" ").filter(Boolean);
  const total = plain.reduce((sum, word) => sum + word.length + 1, 0);
  let passed = 0;
  return plain.map((word) => {
    const from = start + ((end - start) * passed) / total;
    passed += word.length + 1;
    return { word, start: from, end: start + ((end - start) * passed) / total };
  });
}

function cue(words) {
  const lines = [""];
  for (const { word } of words) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (longer.length > LINE && lines.at(-1)) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return { start: words[0].start, end: words.at(-1).end, lines };
}

function head({ title, startedAt, zone, language, model, lostSeconds }) {
  const facts = [language && `language ${language}`, model && `model ${model}`, `${lostSeconds.toFixed(1)} s lost`];
  return [oneLine(title), `${localTime(startedAt, zone)} ${zone}`, facts.filter(Boolean).join(", ")];
}

function stamp(seconds, comma) {
  const total = Math.round(Math.max(0, seconds) * 1000);
  const pad = (number, width = 2) => String(number).padStart(width, "0");
  const whole = Math.floor(total / 1000);
  const clock = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60].map((part) => pad(part));
  return `${clock.join(":")}${comma}${pad(total % 1000, 3)}`;
}

/** SRT has no escapes, and players read arrows and tags as their own: look-alikes stand for them. */
function withoutMarks(text) {
  return text.replaceAll("-->", "→").replaceAll("<", "‹").replaceAll(">", "›");
}

function escapeVtt(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Line breaks and other control characters would break a cue or a line in two. */
function oneLine(text) {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
}

function pcm16(block) {
  const bytes = new Uint8Array(2 * block.length);
  const view = new DataView(bytes.buffer);
  for (const [index, sample] of block.entries()) {
    const clipped = Math.max(-1, Math.min(1, sample));
    view.setInt16(2 * index, Math.round(clipped * (clipped < 0 ? 0x8000 : 0x7fff)), true);
  }
  return bytes;
}
