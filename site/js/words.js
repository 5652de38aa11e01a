/** The words for phases and times, in one place. */

const PHASES = new Map([
  ["asleep", "Asking for the GPU"],
  ["waking.capacity", "Finding a machine"],
  ["waking.boot", "Starting the machine"],
  ["waking.service", "Loading the speech model"],
  ["ready", "Connecting"],
  ["waiting", "Waiting for a free place"],
  ["draining", "Waiting for the GPU to finish"],
  ["stopping", "Waiting for the GPU to finish"],
  ["failed", "The GPU cannot start"],
]);

const STAGES = new Map([
  ["live", "Listening"],
  ["reconnecting", "Connecting again"],
  ["finishing", "Finishing the last words"],
  ["finished", "Finished"],
  ["discarded", "Discarded"],
  ["failed", "Ended early"],
]);

/** Finishing while the server does not take audio yet, by phase. */
const STILL = new Map([
  ["ready", "Finishing: connecting"],
  ["waiting", "Finishing: waiting for a free place"],
  ["failed", "Finishing: the GPU cannot start"],
]);

/** What to show while a conversation runs. */
export function stageWords({ stage, phase, taken }) {
  if (stage === "reconnecting" && phase === "waiting") return PHASES.get(phase);
  if (stage === "finishing" && !taken) return STILL.get(phase) ?? "Finishing: the GPU is still waking";
  return STAGES.get(stage) ?? PHASES.get(phase) ?? "Waking the GPU";
}

/** What to show before one: the GPU's phase from GET /v1/status. */
export function idleWords(phase) {
  if (phase === "asleep" || phase === "stopping") return "The GPU is asleep";
  if (phase === "ready") return "The GPU is awake";
  if (phase === "failed") return "The GPU could not start last time";
  if (phase === "draining") return "The GPU is finishing";
  return phase ? "The GPU is waking" : "Ready when you are";
}

/** Seconds as 0:07 or 1:02:03. */
export function clockWords(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const [hours, minutes, rest] = parts;
  const tail = `${hours ? String(minutes).padStart(2, "0") : minutes}:${String(rest).padStart(2, "0")}`;
  return hours ? `${hours}:${tail}` : tail;
}

/** Seconds as a person says them: "8 s", "about 70 s", "about 3 min". */
export function estimateWords(seconds) {
  if (seconds < 20) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 120) return `about ${Math.round(seconds / 5) * 5} s`;
  return `about ${Math.round(seconds / 60)} min`;
}
