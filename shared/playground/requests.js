"use strict";
// Call the app's API, turn error responses into messages for the user, and read event streams.

// The API is next to this page, whatever the app's route prefix is.
const apiUrl = new URL(".", location.href.split(/[?#]/)[0].replace(/\/+$/, ""));
const KEY = "caller-key"; // the item in sessionStorage

function callApi(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
  return fetch(new URL(path, apiUrl), { ...options, headers, cache: "no-store" });
}

// An error with a message for the user. `code` is the app's; `detail` adds what Azure or the app says; `retryAfter` is in seconds.
class ChatError extends Error {
  constructor(message, { status = 0, code = "", detail = "", retryAfter = 0, param = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, detail, retryAfter, param });
  }
}

const UNREACHABLE = "The app cannot be reached. Check your connection and that the app is running.";
const INTERRUPTED = "The reply was interrupted.";
const MESSAGES = {
  content_filter: "The content filter blocked this message. Rephrase it and send it again.",
  context_length_exceeded: "This conversation is too long for the model. Start a new chat.",
  request_too_large: "This conversation is too long for the app. Start a new chat.",
};
// Azure's own error responses have these statuses. The app words all others for its users.
const AZURE_STATUSES = [400, 409, 413, 422, 429];

async function errorFrom(response) {
  let error = {};
  try { error = (await response.json()).error ?? {}; } catch { /* Not JSON: the status must do. */ }
  const { status } = response, detail = typeof error.message === "string" ? error.message : "";
  const retryAfter = Math.ceil(Number(response.headers.get("retry-after")) || 0);
  const properties = { status, code: error.code, retryAfter, param: String(error.param ?? "") };
  if (detail && !AZURE_STATUSES.includes(status)) {
    return new ChatError(error.code === "invalid_token" ? `${detail} Enter a new one.` : detail, properties);
  }
  let message = MESSAGES[error.code];
  if (status === 429) message = "The model has reached its rate limit. Try again in a moment.";
  else if (status === 400) message ??= "The model service rejected this message.";
  return new ChatError(message ?? `The app returned an error (status ${status}).`, { ...properties, detail });
}

// Yield the data of server-sent events as they arrive.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let buffer = ""; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (buffer + value).split(/\r\n\r\n|\n\n|\r\r/);
    buffer = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r\n|\n|\r/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).replace(/^ /, ""));
      if (data.length) yield data.join("\n");
    }
  }
}
