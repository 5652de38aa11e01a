/** What the page says of a conversation, in sentences. Pure: everything comes in by arguments. */

import { BEHIND } from "./delay.js";
import { estimateWords } from "./words.js";

/**
 * The line under the phase. @param {import("./conversation.js").Progress} progress
 * @param {{elapsed: number, late: {p50: number, p95: number} | null, growing: boolean}} live
 *   elapsed: seconds since the click; late: how late words become final; growing: they fall further behind
 */
export function detailWords(progress, { elapsed, late, growing }) {
  const { stage } = progress;
  if (stage === "reconnecting") return "What you say is kept, and sent once the connection is back.";
  if (progress.notice && ["waking", "live", "finishing"].includes(stage)) return progress.notice;
  switch (stage) {
    case "waking":
      return ["You are being recorded already.", wakingWords(progress.usual, elapsed)].filter(Boolean).join(" ");
    case "live":
      return liveWords(progress, late, growing);
    case "finishing":
      return progress.taken ? "Recording has ended." : keptWords(progress, elapsed);
    case "finished":
      return `Every word is final, ${progress.lostSeconds.toFixed(1)} s lost.`;
    default:
      return lostWords(progress);
  }
}

/** What stands beside the clock as long as somebody is recorded: nothing is lost, or the truth. */
export function lostShown({ stage, lostSeconds }) {
  return ["waking", "live", "reconnecting", "finishing"].includes(stage) ? `${lostSeconds.toFixed(1)} s lost` : "";
}

/** How long waking usually takes, and how long it has taken this time; "" while nobody knows. */
function wakingWords(usual, elapsed) {
  if (usual === null) return "";
  return `Usually ${estimateWords(usual)}, this time ${Math.floor(elapsed)} s so far.`;
}

function liveWords({ behind, slow, reconnects }, late, growing) {
  const seconds = `${Math.round(behind)} s behind`;
  if (slow) return `Slow network: what you say is kept, the words are ${seconds}.`;
  if (growing) return `The words fall back, ${seconds} by now: the GPU is busy, what you say is kept.`;
  // While a whole sentence is open its words are decoded, not final: that is no backlog.
  if (reconnects > 0 && behind > BEHIND) return `Catching up, ${seconds}.`;
  return late ? `Words final after ${late.p50.toFixed(1)} s, most within ${late.p95.toFixed(1)} s.` : "";
}

function keptWords({ usual, phase, reconnects }, elapsed) {
  const kept = "Your words are kept; leave this page open.";
  if (phase === "ready" || reconnects > 0) return kept;
  return [kept, wakingWords(usual, elapsed)].filter(Boolean).join(" ");
}

function lostWords({ unconfirmed, lostSeconds }) {
  if (unconfirmed) return `${lostSeconds.toFixed(1)} s were not confirmed; underlined words may be wrong.`;
  return lostSeconds > 0 ? `${lostSeconds.toFixed(1)} s were not transcribed.` : "";
}
