/**
 * The microphone as Float32 mono blocks of 0.1 s at 16 kHz.
 *
 * Where the browser gives a context at 16 kHz it converts by itself; where it does not (Firefox refuses a microphone of
 * another rate, some phones the rate) the context has the device's rate and the worklet converts.
 */

import { RATE } from "./session/connection.js";

/** A reason why nothing can be recorded; `message` is a sentence to show. */
export class CaptureError extends Error {}

const REASONS = new Map([
  ["NotAllowedError", "The microphone is blocked for this page; allow it in the address bar, then start again."],
  ["SecurityError", "The microphone is blocked for this page; allow it in the address bar, then start again."],
  ["NotFoundError", "No microphone was found; connect one, then start again."],
  ["OverconstrainedError", "The chosen microphone is gone; choose another one, then start again."],
  ["NotReadableError", "The microphone is in use by another program; close that, then start again."],
]);

/** Seconds by which recording may fall behind the clock before it counts as a gap: blocks come every 0.1 s. */
const BEHIND = 1;
/** For so many seconds it must stay behind: what comes late, from a page that was busy, comes all at once. */
const SURELY = 2;

/**
 * Whisper was trained on speech as it is, so the browser's filters, made for calls, are off unless somebody wants them.
 * @typedef {{device?: string, echoCancellation?: boolean, noiseSuppression?: boolean, autoGainControl?: boolean}} Wish
 *   device: an id from `microphones`
 */

/**
 * Ask for the microphone and begin recording.
 * @param {(samples: Float32Array) => void} onSamples
 * @param {() => void} onEnded the microphone went away by itself, and there is no other
 * @param {Wish} [wish]
 * @param {(notice: {sentence: string, gap: number}) => void} [onNotice] something a person should know, "" when it is
 *   over; `gap`: seconds that were not recorded since the last notice
 * @returns {Promise<{stop: () => Promise<void>, label: string, native: number}>}
 *   `stop` resolves when the last block was handed over; `native`: the context's rate in Hz
 * @throws {CaptureError}
 */
export async function openCapture(onSamples, onEnded, wish = {}, onNotice = () => {}) {
  if (!navigator.mediaDevices?.getUserMedia || typeof AudioWorkletNode === "undefined") {
    throw new CaptureError("Recording needs https and a current browser.");
  }
  let media;
  let opened;
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: constraints(wish) });
    opened = await openContext(media);
    return record(media, opened, { onSamples, onEnded, onNotice, wish });
  } catch (error) {
    release(media, opened?.context);
    throw new CaptureError(REASONS.get(error.name) ?? `Recording failed: ${error.message}.`, { cause: error });
  }
}

/** The microphones there are; their labels are empty until one was allowed. @returns {Promise<MediaDeviceInfo[]>} */
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return devices.filter(({ kind, deviceId }) => kind === "audioinput" && deviceId !== "communications");
}

function constraints({ device, echoCancellation = false, noiseSuppression = false, autoGainControl = false }) {
  const chosen = device ? { deviceId: { exact: device } } : {};
  return { channelCount: 1, echoCancellation, noiseSuppression, autoGainControl, ...chosen };
}

/** A running context with the microphone as its source: at 16 kHz, or else at the device's own rate. */
async function openContext(media) {
  let refused;
  for (const options of [{ sampleRate: RATE }, {}]) {
    let context;
    try {
      context = new AudioContext(options);
      const source = context.createMediaStreamSource(media);
      await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
      await context.resume();
      return { context, source };
    } catch (error) {
      context?.close();
      refused = error;
    }
  }
  throw refused;
}

function record(media, { context, source }, { onSamples, onEnded, onNotice, wish }) {
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 1, channelCount: 1 });
  const gaps = new Gaps();
  let stopping = false;
  let leave = () => {};
  const finished = new Promise((resolve) => {
    recorder.port.onmessage = ({ data }) => {
      const gap = gaps.heard(data?.length ?? 0, performance.now() / 1000, data === null);
      if (data !== null) onSamples(data);
      if (gap) onNotice({ sentence: `${gap.toFixed(1)} s were not recorded: this device slept or was busy.`, gap });
      if (data === null) resolve();
    };
  });
  recorder.connect(context.destination); // silent; some browsers run only what leads to an output
  const say = (sentence) => !stopping && onNotice({ sentence, gap: 0 });

  function listenTo(found, node) {
    const [track] = found.getAudioTracks();
    const heard = {
      mute: () => say("The microphone gives no sound: another program or a switch on it holds it."),
      unmute: () => say(""),
      ended: () => replace(),
    };
    node.connect(recorder);
    for (const [name, listener] of Object.entries(heard)) track.addEventListener(name, listener);
    leave = () => {
      for (const [name, listener] of Object.entries(heard)) track.removeEventListener(name, listener);
      node.disconnect();
      release(found);
    };
  }

  /** The microphone is gone: the next one of this device carries on, in the same recording. */
  async function replace() {
    leave();
    leave = () => {};
    let other;
    try {
      other = await navigator.mediaDevices.getUserMedia({ audio: constraints({ ...wish, device: "" }) });
      if (stopping) return release(other);
      listenTo(other, context.createMediaStreamSource(other));
    } catch {
      release(other);
      if (!stopping) onEnded();
      return;
    }
    say(`The microphone went away; recording goes on with ${other.getAudioTracks()[0].label || "another one"}.`);
  }

  const stateChanged = () => {
    if (stopping || context.state === "running") {
      say("");
      return;
    }
    // A phone call, another tab or the system took the audio; it comes back when asked.
    say("Recording is interrupted by this device.");
    context.resume().catch(() => say("Recording is interrupted by this device; touch the page to go on."));
  };
  const touched = () => context.state !== "running" && !stopping && context.resume().catch(() => {});
  const [{ label }] = media.getAudioTracks();
  listenTo(media, source);
  context.addEventListener("statechange", stateChanged);
  for (const name of ["pointerdown", "visibilitychange"]) document.addEventListener(name, touched);
  return {
    label,
    native: context.sampleRate,
    async stop() {
      stopping = true;
      for (const name of ["pointerdown", "visibilitychange"]) document.removeEventListener(name, touched);
      recorder.port.postMessage("stop");
      // A context that the system suspended hands nothing over any more.
      await Promise.race([finished, new Promise((resolve) => setTimeout(resolve, 1000))]);
      leave();
      release(null, context);
    },
  };
}

/** Finds what was not recorded: samples fall behind the clock while a device sleeps. */
export class Gaps {
  #began = null;
  #samples = 0;
  #told = 0;
  /** Since when it is behind. */
  #since = null;

  /**
   * Take note of a block. @param {number} samples at 16 kHz @param {number} now seconds @param {boolean} [last]
   * @returns {number} seconds newly found missing, 0 when none
   */
  heard(samples, now, last = false) {
    this.#samples += samples;
    this.#began ??= now - samples / RATE;
    const missing = now - this.#began - this.#samples / RATE - this.#told;
    // Devices' clocks run a little slow or fast: a drift is no gap, and goes along with it.
    if (missing <= BEHIND) {
      this.#began += Math.max(-0.01, Math.min(0.01, missing)) * 0.1;
      this.#since = null;
      return 0;
    }
    this.#since ??= now;
    if (!last && now - this.#since < SURELY) return 0;
    this.#told += missing;
    return missing;
  }
}

function release(media, context) {
  for (const track of media?.getTracks() ?? []) track.stop();
  if (context && context.state !== "closed") context.close();
}

/** Loudness of a block, 0 to 1, on a scale that speech fills. */
export function loudness(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const decibels = 10 * Math.log10(sum / Math.max(1, samples.length) + 1e-10);
  return Math.min(1, Math.max(0, (decibels + 60) / 48));
}
