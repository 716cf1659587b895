// Show the conversation, and send messages.

const $ = (id) => document.getElementById(id);
const [log, model, prompt, send, stop, system] = ["log", "model", "prompt", "send", "stop", "system"].map($);
const main = document.querySelector("main");

let messages = []; // the conversation as the model gets it
let conversation = {}; // a new object for each conversation, so that a late reply to an earlier one is dropped
let running = null; // the AbortController of the reply in progress
let includeUsage = true; // whether to ask for the token usage
let countdown = 0; // the timer of the "Try again" button

function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Show a message as plain text, and fenced code as code blocks. Never as HTML.
function render(target, text) {
  const blocks = [];
  let fence = null, lines = [];
  const flush = () => {
    if (fence !== null) {
      const pre = element("pre");
      pre.tabIndex = 0;
      pre.append(element("code", "", lines.join("\n")));
      blocks.push(pre);
    } else if (lines.join("").trim()) {
      blocks.push(element("div", "text", lines.join("\n").replace(/^\n+|\n+$/g, "")));
    }
    lines = [];
  };
  for (const line of text.split("\n")) {
    const marker = /^\s{0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    if (marker && (fence === null || (marker.startsWith(fence) && !line.trim().slice(marker.length).trim()))) {
      flush();
      fence = fence === null ? marker : null;
    } else lines.push(line);
  }
  flush();
  target.replaceChildren(...blocks);
}

function addMessage(author, text) {
  $("hello").hidden = true;
  const article = element("article", author === "You" ? "from-user" : "");
  const body = element("div", "body");
  article.append(element("h2", "", author), body);
  if (text) render(body, text);
  log.append(article);
  main.scrollTop = main.scrollHeight;
  return { article, body };
}

// Make a change and scroll to the end, unless the user has scrolled up to read.
function keepAtEnd(change) {
  const atEnd = main.scrollHeight - main.scrollTop - main.clientHeight < 80;
  change();
  if (atEnd) main.scrollTop = main.scrollHeight;
}

function copyButton(text) {
  const button = element("button", "small", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Could not copy";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return button;
}

function addFacts(article, facts, text) {
  const line = element("div", "facts");
  for (const fact of facts) line.append(element("span", "", fact));
  line.append(copyButton(text));
  article.append(line);
}

function clearError() {
  clearInterval(countdown);
  for (const box of document.querySelectorAll(".error")) box.remove();
}

function showError(error, parent, retry) {
  clearError();
  const box = element("div", "error");
  box.setAttribute("role", "alert");
  box.append(element("p", "", error.message));
  if (error.detail) box.append(element("p", "detail", error.detail));
  if (retry) {
    const button = element("button", "", "Try again");
    button.type = "button";
    button.addEventListener("click", retry);
    box.append(button);
    let seconds = error.retryAfter;
    const tick = () => {
      button.disabled = seconds > 0;
      button.textContent = seconds > 0 ? `Try again in ${seconds} s` : "Try again";
      if (seconds-- <= 0) clearInterval(countdown);
    };
    tick();
    if (error.retryAfter) countdown = setInterval(tick, 1000);
  }
  parent.append(box);
  main.scrollTop = main.scrollHeight;
}

const needsKey = (error) => error?.status === 401 || error?.code === "missing_role";

function askForKey(rejectedKey, message) {
  // The user may have entered another key in the meantime.
  if (rejectedKey && sessionStorage.getItem(KEY) !== rejectedKey) return;
  if (rejectedKey) {
    sessionStorage.removeItem(KEY);
    $("key-hint").textContent = message;
  }
  $("key-form").hidden = false;
  $("key").focus();
}

function setRunning(controller) {
  running = controller;
  send.hidden = Boolean(running);
  stop.hidden = !running;
  log.setAttribute("aria-busy", String(Boolean(running)));
}

function requestReply(signal) {
  const instructions = system.value.trim();
  const body = JSON.stringify({
    model: model.value,
    messages: [...(instructions ? [{ role: "system", content: instructions }] : []), ...messages],
    stream: true,
    ...(includeUsage ? { stream_options: { include_usage: true } } : {}),
  });
  return callApi("v1/chat/completions", { method: "POST", body, signal });
}

async function streamReply() {
  const controller = new AbortController(), started = performance.now();
  const usedConversation = conversation, usedKey = sessionStorage.getItem(KEY);
  setRunning(controller);
  clearError();
  const { article, body } = addMessage(model.value);
  body.append(element("span", "waiting", "…"));
  let text = "", firstToken = 0, usage = null, reason = "", failure = null, frame = 0;
  const draw = () => keepAtEnd(() => render(body, text));
  try {
    let response = await requestReply(controller.signal);
    if (response.status === 400 && includeUsage) {
      const error = await errorFrom(response);
      // API versions before 2024-09-01-preview do not have this parameter.
      if (!`${error.param} ${error.detail}`.includes("stream_options")) throw error;
      includeUsage = false;
      response = await requestReply(controller.signal);
    }
    if (!response.ok) throw await errorFrom(response);
    let ended = false;
    for await (const data of events(response)) {
      if (data === "[DONE]") { ended = true; continue; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ChatError(INTERRUPTED, { detail: String(chunk.error.message ?? "") });
      usage = chunk.usage ?? usage;
      for (const choice of chunk.choices ?? []) {
        reason = choice.finish_reason ?? reason;
        const content = choice.delta?.content || choice.delta?.refusal;
        if (!content) continue;
        firstToken ||= performance.now();
        text += content;
        frame ||= requestAnimationFrame(() => { frame = 0; draw(); });
      }
    }
    if (!ended && !reason) throw new ChatError(INTERRUPTED);
  } catch (error) {
    if (error.name === "AbortError") reason = "stopped";
    else if (error instanceof ChatError) failure = error;
    else failure = new ChatError(text ? INTERRUPTED : UNREACHABLE);
  }
  cancelAnimationFrame(frame);
  if (usedConversation !== conversation) return;
  setRunning(null);
  if (text) {
    draw();
    const facts = [`first token after ${Math.round(firstToken - started)} ms`];
    if (usage) facts.push(`${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out`);
    if (reason === "stopped") facts.push("stopped");
    if (reason === "length") facts.push("cut off at the token limit");
    if (reason === "content_filter") facts.push("cut off by the content filter");
    keepAtEnd(() => addFacts(article, facts, text));
    // The conversation keeps a reply that the user has stopped, but not one that was interrupted.
    if (!failure) messages.push({ role: "assistant", content: text });
  } else if (failure || reason === "stopped") {
    article.remove();
    if (!failure) messages.pop();
  } else {
    const note = reason === "content_filter" ? "The content filter blocked the reply." : "The reply is empty.";
    body.replaceChildren(element("span", "note", note));
    messages.pop();
  }
  if (needsKey(failure)) {
    const unsent = messages.pop();
    log.lastElementChild?.remove();
    prompt.value = unsent.content;
    return askForKey(usedKey, failure.message);
  }
  if (failure) {
    const retry = () => { if (text) article.remove(); streamReply(); };
    const isFinal = [400, 404, 413, 422].includes(failure.status);
    showError(failure, log, isFinal ? null : retry);
    // Azure would reject this message in every later request, too.
    if (isFinal) messages.pop();
    showHealth();
  }
  prompt.focus();
}

async function showHealth() {
  let status = "";
  try {
    status = (await (await callApi("health/ready")).json()).status;
  } catch { /* Show it as unreachable. */ }
  const labels = { healthy: "healthy", degraded: "degraded", unhealthy: "not working", not_configured: "not configured" };
  $("health").textContent = labels[status] ?? "unreachable";
  $("health").className = status === "not_configured" ? "unhealthy" : status in labels ? status : "unknown";
}

async function loadModels() {
  $("notice").replaceChildren();
  const usedKey = sessionStorage.getItem(KEY);
  try {
    const response = await callApi("v1/models");
    if (!response.ok) throw await errorFrom(response);
    const { data } = await response.json();
    model.replaceChildren(...data.map(({ id }) => new Option(id, id)));
    model.disabled = false;
    $("key-form").hidden = true;
    prompt.focus();
  } catch (error) {
    if (needsKey(error)) return askForKey(usedKey, error.message);
    showError(error instanceof ChatError ? error : new ChatError(UNREACHABLE), $("notice"), loadModels);
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (!text || running || model.disabled) return;
  // Replace a message that got no reply, instead of sending both.
  if (messages.at(-1)?.role === "user") messages.pop();
  messages.push({ role: "user", content: text });
  prompt.value = "";
  addMessage("You", text);
  streamReply();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("form").requestSubmit();
  }
});
stop.addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("new").addEventListener("click", () => {
  running?.abort();
  setRunning(null);
  conversation = {};
  messages = [];
  clearError();
  log.replaceChildren();
  $("hello").hidden = false;
  prompt.focus();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  loadModels();
});
loadModels();
showHealth();
setInterval(() => { if (!document.hidden) showHealth(); }, 30000);
