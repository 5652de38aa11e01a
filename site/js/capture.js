/** The microphone as Float32 mono blocks of 0.1 s at 16 kHz. */

import { RATE } from "./stream.js";

/** A reason why nothing can be recorded; `message` is a sentence to show. */
export class CaptureError extends Error {}

const REASONS = new Map([
  ["NotAllowedError", "The microphone is blocked for this page; allow it in the address bar, then start again."],
  ["SecurityError", "The microphone is blocked for this page; allow it in the address bar, then start again."],
  ["NotFoundError", "No microphone was found; connect one, then start again."],
  ["NotReadableError", "The microphone is in use by another program; close that, then start again."],
  ["NotSupportedError", "This browser cannot record at 16 kHz; use a current Chrome, Edge or Safari."],
]);

/**
 * Ask for the microphone and begin recording.
 * @param {(samples: Float32Array) => void} onSamples
 * @param {() => void} onEnded the microphone went away by itself
 * @returns {Promise<{stop: () => Promise<void>}>} `stop` resolves when the last block was handed over
 * @throws {CaptureError}
 */
export async function openCapture(onSamples, onEnded) {
  if (!navigator.mediaDevices?.getUserMedia || typeof AudioWorkletNode === "undefined") {
    throw new CaptureError("Recording needs https and a current browser.");
  }
  let media;
  let context;
  try {
    media = await navigator.mediaDevices.getUserMedia({
      // Whisper was trained on speech as it is; the browser's filters were made for calls.
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    context = new AudioContext({ sampleRate: RATE });
    await context.audioWorklet.addModule(new URL("./worklet.js", import.meta.url));
    await context.resume();
    return record(media, context, onSamples, onEnded);
  } catch (error) {
    release(media, context);
    throw new CaptureError(REASONS.get(error.name) ?? `Recording failed: ${error.message}.`, { cause: error });
  }
}

function record(media, context, onSamples, onEnded) {
  const source = context.createMediaStreamSource(media);
  const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 1, channelCount: 1 });
  const finished = new Promise((resolve) => {
    recorder.port.onmessage = ({ data }) => (data === null ? resolve() : onSamples(data));
  });
  source.connect(recorder);
  recorder.connect(context.destination); // silent; some browsers run only what leads to an output
  const [track] = media.getAudioTracks();
  track.addEventListener("ended", onEnded, { once: true });
  return {
    async stop() {
      track.removeEventListener("ended", onEnded);
      recorder.port.postMessage("stop");
      // A context that the system suspended hands nothing over any more.
      await Promise.race([finished, new Promise((resolve) => setTimeout(resolve, 1000))]);
      source.disconnect();
      release(media, context);
    },
  };
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
