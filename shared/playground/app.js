// The conversation, as it is shown.

const $ = (id) => document.getElementById(id);
const [log, model, prompt, send, stop, system] = ["log", "model", "prompt", "send", "stop", "system"].map($);
const main = document.querySelector("main");

let turns = []; // what the model gets to see of the conversation
let chat = {}; // another object for each conversation: answers to an earlier one are dropped
let running = null; // the AbortController of the answer that is coming
let asksForUsage = true;
let countdown = 0;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// What the model says is text, and code between fences. It never becomes markup.
function show(target, text) {
  const made = [];
  let code = null, lines = [];
  const flush = () => {
    if (code !== null) {
      const pre = element("pre");
      pre.tabIndex = 0;
      pre.append(element("code", "", lines.join("\n")));
      made.push(pre);
    } else if (lines.join("").trim()) {
      made.push(element("div", "text", lines.join("\n").replace(/^\n+|\n+$/g, "")));
    }
    lines = [];
  };
  for (const line of text.split("\n")) {
    const fence = /^\s{0,3}(`{3,}|~{3,})/.exec(line);
    if (fence && (code === null || (fence[1].startsWith(code) && !line.trim().slice(fence[1].length).trim()))) {
      flush();
      code = code === null ? fence[1] : null;
    } else lines.push(line);
  }
  flush();
  target.replaceChildren(...made);
}

function addMessage(who, text) {
  $("hello").hidden = true;
  const article = element("article", who === "You" ? "mine" : "");
  const body = element("div", "body");
  article.append(element("h2", "", who), body);
  if (text) show(body, text);
  log.append(article);
  main.scrollTop = main.scrollHeight;
  return { article, body };
}

function follow(change) {
  // Only for those who have not scrolled up to read.
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

function meta(article, facts, text) {
  const line = element("div", "meta");
  for (const fact of facts) line.append(element("span", "", fact));
  if (text) line.append(copyButton(text));
  article.append(line);
}

function clearTrouble() {
  clearInterval(countdown);
  for (const old of document.querySelectorAll(".trouble")) old.remove();
}

function showTrouble(trouble, where, again) {
  clearTrouble();
  const box = element("div", "trouble");
  box.setAttribute("role", "alert");
  box.append(element("p", "", trouble.message));
  if (trouble.detail) box.append(element("p", "", trouble.detail));
  if (again) {
    const button = element("button", "", "Try again");
    button.type = "button";
    button.addEventListener("click", again);
    box.append(button);
    let left = trouble.wait;
    const tick = () => {
      button.disabled = left > 0;
      button.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
      if (left-- <= 0) clearInterval(countdown);
    };
    tick();
    if (trouble.wait) countdown = setInterval(tick, 1000);
  }
  where.append(box);
  main.scrollTop = main.scrollHeight;
}

function askForKey(refused) {
  // A newer one may have been given meanwhile.
  if (refused && sessionStorage.getItem(KEY) !== refused) return;
  if (refused) {
    sessionStorage.removeItem(KEY);
    $("key-why").textContent = "That key was not accepted. Ask the app's operator for one of its CALLER_KEYS.";
  }
  $("key-form").hidden = false;
  $("key").focus();
}

function busy(controller) {
  running = controller;
  send.hidden = Boolean(running);
  stop.hidden = !running;
  log.setAttribute("aria-busy", String(Boolean(running)));
}

function request(signal) {
  const messages = [...(system.value.trim() ? [{ role: "system", content: system.value.trim() }] : []), ...turns];
  const options = asksForUsage ? { stream_options: { include_usage: true } } : {};
  const body = JSON.stringify({ model: model.value, messages, stream: true, ...options });
  return call("v1/chat/completions", { method: "POST", body, signal });
}

async function answer() {
  const controller = new AbortController(), mine = chat, used = sessionStorage.getItem(KEY);
  busy(controller);
  clearTrouble();
  const started = performance.now();
  const { article, body } = addMessage(model.value);
  body.append(element("span", "waiting", "…"));
  let text = "", first = 0, usage = null, reason = "", failure = null, drawing = 0;
  const draw = () => follow(() => show(body, text));
  try {
    let response = await request(controller.signal);
    if (response.status === 400 && asksForUsage) {
      const trouble = await troubleOf(response);
      // API versions before 2024-09-01 do not know how to tell it.
      if (!`${trouble.param} ${trouble.detail}`.includes("stream_options")) throw trouble;
      asksForUsage = false;
      response = await request(controller.signal);
    }
    if (!response.ok) throw await troubleOf(response);
    let ended = false;
    for await (const data of events(response)) {
      if (data === "[DONE]") { ended = true; continue; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Trouble("The answer broke off.", { detail: String(chunk.error.message ?? "") });
      usage = chunk.usage ?? usage;
      for (const choice of chunk.choices ?? []) {
        reason = choice.finish_reason ?? reason;
        const piece = choice.delta?.content || choice.delta?.refusal;
        if (!piece) continue;
        first ||= performance.now();
        text += piece;
        drawing ||= requestAnimationFrame(() => { drawing = 0; draw(); });
      }
    }
    if (!ended && !reason) throw new Trouble("The answer broke off.");
  } catch (error) {
    if (error.name === "AbortError") reason = "stopped";
    else if (error instanceof Trouble) failure = error;
    else failure = new Trouble(text ? "The answer broke off." : "The app cannot be reached.");
  }
  cancelAnimationFrame(drawing);
  if (mine !== chat) return;
  busy(null);
  if (text) {
    draw();
    const facts = [`first token after ${Math.round(first - started)} ms`];
    if (usage) facts.push(`${usage.prompt_tokens} + ${usage.completion_tokens} tokens`);
    if (reason === "stopped") facts.push("stopped");
    if (reason === "length") facts.push("cut off at its token limit");
    if (reason === "content_filter") facts.push("cut off by the content filter");
    follow(() => meta(article, facts, text));
    // A broken answer is asked for again; a stopped one is part of the conversation.
    if (!failure) turns.push({ role: "assistant", content: text });
  } else if (failure || reason === "stopped") {
    article.remove();
    if (!failure) turns.pop();
  } else {
    body.replaceChildren(element("span", "waiting", reason === "content_filter" ? "Withheld by the content filter." : "An empty answer."));
    turns.pop();
  }
  if (failure?.status === 401) {
    const said = turns.pop();
    log.lastElementChild?.remove();
    prompt.value = said.content;
    return askForKey(used);
  }
  if (failure) {
    const again = () => { if (text) article.remove(); answer(); };
    const isFinal = [400, 404, 413, 422].includes(failure.status);
    showTrouble(failure, log, isFinal ? null : again);
    // What Azure does not accept it will not accept as a part of the conversation either.
    if (isFinal) turns.pop();
    health();
  }
  prompt.focus();
}

async function health() {
  let status = "unknown";
  try {
    status = (await (await call("health/ready")).json()).status;
  } catch { /* told as unknown */ }
  const words = { healthy: "healthy", degraded: "degraded", unhealthy: "not working", not_configured: "not configured" };
  $("health").textContent = words[status] ?? "unreachable";
  $("health").className = status === "not_configured" ? "unhealthy" : status in words ? status : "unknown";
}

async function models() {
  $("notice").replaceChildren();
  const used = sessionStorage.getItem(KEY);
  let response;
  try {
    response = await call("v1/models");
    if (response.status === 401) return askForKey(used);
    if (!response.ok) throw await troubleOf(response);
    const { data } = await response.json();
    model.replaceChildren(...data.map(({ id }) => new Option(id, id)));
    model.disabled = false;
    $("key-form").hidden = true;
    prompt.focus();
  } catch (error) {
    showTrouble(error instanceof Trouble ? error : new Trouble("The app cannot be reached."), $("notice"), models);
  }
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = prompt.value.trim();
  if (!text || running || model.disabled) return;
  // A question without an answer is put anew, not sent twice.
  if (turns.at(-1)?.role === "user") turns.pop();
  turns.push({ role: "user", content: text });
  prompt.value = "";
  addMessage("You", text);
  answer();
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
  busy(null);
  chat = {};
  turns = [];
  clearTrouble();
  log.replaceChildren();
  $("hello").hidden = false;
  prompt.focus();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  models();
});
models();
health();
setInterval(() => { if (!document.hidden) health(); }, 30000);
