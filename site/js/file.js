/** A sound file in place of the microphone: the same samples, as fast as they are taken. */

import { CaptureError } from "./capture.js";
import { RATE } from "./session/connection.js";

const BLOCK = RATE / 2;

/**
 * A capture like the microphone's that plays a file once. @param {File} file
 * @param {() => void} onOver every sample was handed over
 * @returns {(onSamples: (samples: Float32Array) => void) => Promise<{stop: () => Promise<void>}>}
 */
export function openFile(file, onOver) {
  return async (onSamples) => {
    const samples = await decode(file);
    let stopped = false;
    const handing = (async () => {
      for (let at = 0; at < samples.length && !stopped; at += BLOCK) {
        onSamples(samples.slice(at, at + BLOCK));
        // The page stays alive; the ring takes what the network does not yet.
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
      if (!stopped) setTimeout(onOver, 0);
    })();
    return {
      async stop() {
        stopped = true;
        await handing;
      },
    };
  };
}

/** Any sound that the browser can read, as mono at 16 kHz. @throws {CaptureError} */
async function decode(file) {
  const context = new OfflineAudioContext(1, 1, RATE);
  try {
    const sound = await context.decodeAudioData(await file.arrayBuffer());
    const mixed = new Float32Array(sound.length);
    for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
      const part = sound.getChannelData(channel);
      for (let at = 0; at < mixed.length; at += 1) mixed[at] += part[at] / sound.numberOfChannels;
    }
    return mixed;
  } catch (error) {
    throw new CaptureError(`${file.name} holds no sound that this browser can read.`, { cause: error });
  }
}
