import assert from "node:assert/strict";
import test from "node:test";

import { Api, ApiError, heartbeats, problemSentence } from "../../../site/js/api.js";

function fakeFetch(status, body) {
  const calls = [];
  const answer = async (url, options) => {
    calls.push({ url, ...options });
    if (status === 0) throw new TypeError("Failed to fetch");
    return {
      status,
      ok: status < 400,
      json: async () => {
        if (body === undefined) throw new SyntaxError("no JSON");
        return body;
      },
    };
  };
  return { calls, fetch: answer };
}

test("a session is asked for with the token, a key and JSON", async () => {
  const { calls, fetch } = fakeFetch(201, { id: "s-1" });
  assert.deepEqual(await new Api("secret", { fetch }).openSession({ task: "transcribe" }, "k"), { id: "s-1" });
  const [call] = calls;
  assert.equal(call.url, "/api/v1/sessions");
  assert.equal(call.method, "POST");
  assert.equal(call.headers.Authorization, "Bearer secret");
  assert.equal(call.headers["Idempotency-Key"], "k");
  assert.deepEqual(JSON.parse(call.body), { task: "transcribe" });
});

test("an id is escaped, 204 is null, and closing may outlive the page", async () => {
  const { calls, fetch } = fakeFetch(204);
  assert.equal(await new Api("t", { fetch }).closeSession("a/b", { keepalive: true }), null);
  assert.equal(calls[0].url, "/api/v1/sessions/a%2Fb");
  assert.equal(calls[0].keepalive, true);
});

test("problem+json becomes its sentence and its status", async () => {
  const { fetch } = fakeFetch(409, { title: "Closed", detail: "closed until 06:00" });
  await assert.rejects(new Api("t", { fetch }).status(), (error) => {
    assert.ok(error instanceof ApiError);
    assert.equal(error.status, 409);
    assert.equal(error.message, "Closed until 06:00.");
    return true;
  });
});

test("no answer and answers without JSON are sentences too", async () => {
  await assert.rejects(new Api("t", fakeFetch(0)).status(), { status: 0, message: /cannot be reached/ });
  await assert.rejects(new Api("t", fakeFetch(502)).status(), { status: 502, message: /does not answer/ });
  await assert.rejects(new Api("t", fakeFetch(200)).status(), { status: 200, message: /not JSON/ });
  assert.match(problemSentence(401, null), /token is not accepted/);
  assert.match(problemSentence(403, {}), /does not allow/);
  assert.match(problemSentence(418, null), /418/);
});

test("heartbeats go on after one that failed, and end", async (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  const errors = [];
  let beats = 0;
  const end = heartbeats(
    async () => {
      beats += 1;
      if (beats === 1) throw new ApiError("away", 0);
    },
    (error) => errors.push(error.message),
  );
  context.mock.timers.tick(30_000);
  context.mock.timers.tick(30_000);
  await Promise.resolve();
  assert.equal(beats, 2);
  assert.deepEqual(errors, ["away"]);
  end();
  context.mock.timers.tick(90_000);
  assert.equal(beats, 2);
});

test("each 401 is told apart, and thrown as well", async () => {
  const seen = [];
  const onUnauthorized = (error) => seen.push(error.message);
  await assert.rejects(new Api("t", { ...fakeFetch(401, { detail: "it was revoked" }), onUnauthorized }).status());
  await assert.rejects(new Api("t", { ...fakeFetch(403, {}), onUnauthorized }).status());
  assert.deepEqual(seen, ["It was revoked."]);
});
