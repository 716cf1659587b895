"use strict";
// How the page talks to the app: calls, errors and events.

// Beside this page, whatever the app's route prefix is.
const api = new URL(".", location.href.split(/[?#]/)[0].replace(/\/+$/, ""));
const KEY = "caller-key";

function call(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
  return fetch(new URL(path, api), { ...options, headers, cache: "no-store" });
}

// An error as people can read it. `detail` is what the app or Azure says, always shown as text.
class Trouble extends Error {
  constructor(message, { status = 0, code = "", detail = "", wait = 0, param = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, detail, wait, param });
  }
}

const WORDS = {
  content_filter: "The content filter refused this prompt. Put it differently.",
  too_many_calls: "The app carries as many calls as it may just now.",
  not_configured: "The app is not configured yet.",
  upstream_auth: "The app may not use its model: its operator finds the reason in the log.",
  deployment_not_found: "The model's deployment does not exist: its operator finds which one in the log.",
  upstream_unreachable: "The model cannot be reached just now.",
  deadline_exceeded: "The model took too long to answer.",
  request_too_large: "The conversation is too long for this app. Begin a new chat.",
  context_length_exceeded: "The conversation is too long for this model. Begin a new chat.",
  model_not_found: "There is no such model any more. Choose another one.",
};

async function troubleOf(response) {
  let error = {};
  try { error = (await response.json()).error ?? {}; } catch { /* not JSON: the status has to do */ }
  const code = String(error.code ?? ""), status = response.status;
  const wait = Math.ceil(Number(response.headers.get("retry-after")) || 0);
  let message = WORDS[code] ?? `The app answered with an error (${status}).`;
  if (status === 429) message = "The model is throttled: it has more to do than its quota allows.";
  else if (!WORDS[code] && status >= 500) message = "The model could not answer.";
  else if (!WORDS[code] && status === 400) message = "The model did not accept this request.";
  const detail = typeof error.message === "string" ? error.message : "";
  return new Trouble(message, { status, code, detail, wait, param: String(error.param ?? "") });
}

// The data of server-sent events, as they come.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r\n\r\n|\n\n|\r\r/);
    rest = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r\n|\n|\r/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).replace(/^ /, ""));
      if (data.length) yield data.join("\n");
    }
  }
}
