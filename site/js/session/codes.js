/** What a close code means for a session. The sentences are for a person; the server's own reason goes with them. */

/** @type {Map<number, ["retry" | "wait" | "refused" | "final", string]>}
 *  wait: every place is taken; refused: the ticket is of no use any more, never tried again with it */
const MEANINGS = new Map([
  [1012, ["retry", "the server restarts"]],
  [1013, ["wait", "every place on the GPU is taken"]],
  [4400, ["final", "the server does not accept what was sent"]],
  [4401, ["refused", "the ticket is not accepted"]],
  [4408, ["retry", "the server waited too long for the handshake"]],
  [4409, ["retry", "the connection reached its time limit"]],
  [4410, ["refused", "the session is over"]],
  [4412, ["final", "another window or command took over this session"]],
]);
const LOST = [1001, 1005, 1006, 1011, null];

/** What follows from the code, and one sentence without its full stop. */
export function meaning(code, reason) {
  let [then, sentence] = MEANINGS.get(code) ?? ["retry", ""];
  if (code === 1000) sentence = "the server ended without confirming the last words";
  else if (!sentence) sentence = LOST.includes(code) ? "the connection was lost" : `the server closed with code ${code}`;
  const why = reason.trim().replace(/\.+$/, "");
  return { then, sentence: why ? `${sentence}: ${why}` : sentence };
}
