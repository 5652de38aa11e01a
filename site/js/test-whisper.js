/**
 * The protocol from one end to the other in one file, to read and to try things with.
 * Session → ticket → WebSocket → handshake → SERVER_READY → samples → END_OF_AUDIO → END.
 * What makes a stream survive is in session/ and conversation.js, not here.
 */

const at = (id) => document.getElementById(id);
const say = (line) => at("log").append(`${line}\n`);
const phase = (words) => (at("phase").textContent = words);

const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  at("token").value = given;
  history.replaceState(null, "", location.pathname);
}

async function call(method, path, body) {
  const answer = await fetch(`/api/v1${path}`, {
    method,
    headers: { Authorization: `Bearer ${at("token").value.trim()}`, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const content = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(content.detail ?? content.title);
  return content;
}

async function reserved() {
  let session = await call("POST", "/sessions", {});
  while (!session.ticket) {
    phase(session.phase);
    await new Promise((resolve) => setTimeout(resolve, session.poll_after_seconds * 1000));
    session = await call("GET", `/sessions/${session.id}`);
  }
  return session;
}

async function microphone(onSamples) {
  const media = await navigator.mediaDevices.getUserMedia({ audio: true });
  const context = new AudioContext({ sampleRate: 16000 });
  await context.audioWorklet.addModule("js/worklet.js");
  const recorder = new AudioWorkletNode(context, "recorder");
  recorder.port.onmessage = ({ data }) => data && onSamples(data);
  context.createMediaStreamSource(media).connect(recorder).connect(context.destination);
  return () => {
    for (const track of media.getTracks()) track.stop();
    context.close();
  };
}

async function run() {
  at("start").disabled = true;
  let session;
  try {
    session = await reserved();
    phase("connecting");
    await stream(session);
  } catch (error) {
    say(`! ${error.message}`);
  }
  if (session) await call("DELETE", `/sessions/${session.id}`).catch((error) => say(`! ${error.message}`));
  phase("idle");
  at("start").disabled = false;
}

function stream({ id, ws_url: url, ticket }) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, ["bearer", ticket]);
    let release = () => {};
    at("stop").onclick = () => {
      release();
      release = () => {};
      at("stop").disabled = true;
      socket.send(new TextEncoder().encode("END_OF_AUDIO"));
    };
    socket.onopen = () => socket.send(JSON.stringify({ uid: id, task: "transcribe", language: null, use_vad: true }));
    socket.onmessage = async ({ data }) => {
      say(data);
      const { message, status } = JSON.parse(data);
      if (status === "END") socket.close();
      if (message !== "SERVER_READY") return;
      try {
        release = await microphone((samples) => socket.readyState === 1 && socket.send(samples));
        phase("streaming");
        at("stop").disabled = false;
      } catch (error) {
        socket.close();
        reject(error);
      }
    };
    socket.onclose = ({ code, reason }) => {
      release();
      at("stop").disabled = true;
      say(`closed ${code} ${reason}`);
      resolve();
    };
  });
}

at("start").addEventListener("click", run);
