// Call each operation with OpenAI's SDK for JavaScript. Print what it returned as JSON: a summary of the result, or the error's code.
// The environment names the client (`KIND`), its URL and the key. The form's fields go out in the order that is given here.
import OpenAI, { AzureOpenAI, toFile } from "openai";

const { KIND, URL: url, DEPLOYMENT: deployment, API_VERSION: apiVersion, KEY: apiKey } = process.env;
const client =
  KIND === "azure"
    ? new AzureOpenAI({ endpoint: url, apiKey, apiVersion, deployment, maxRetries: 0 })
    : new OpenAI({ baseURL: url, apiKey, maxRetries: 0 });
const model = "gpt-4o";
const messages = [{ role: "user", content: "Hello" }];
const prompt = "A cat";
const speech = { model, voice: "alloy", input: "one two three four five" };

const audio = () => toFile(Buffer.alloc(2_000_000, "audio"), "speech.mp3", { type: "audio/mpeg" });
const png = (number) => toFile(Buffer.alloc(2_000, number), "image.png", { type: "image/png" });

async function all(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
}

async function storedId(fields) {
  try {
    return (await client.responses.create({ model, input: "Hello", ...fields })).id;
  } catch {
    return "resp_1";
  }
}

const calls = {
  chat: async () => (await client.chat.completions.create({ model, messages })).choices.length,
  "chat, streamed": async () => (await all(client.chat.completions.create({ model, messages, stream: true }))).length > 2,
  completion: async () => (await client.completions.create({ model, prompt })).choices.length,
  "completion, streamed": async () => (await all(client.completions.create({ model, prompt, stream: true }))).length > 2,
  embeddings: async () => (await client.embeddings.create({ model, input: "Hello", dimensions: 8 })).data[0].embedding.length,
  response: async () => (await client.responses.create({ model, input: "Hello" })).status,
  "response, streamed": async () => (await all(client.responses.create({ model, input: "Hello", stream: true }))).at(-1).type,
  "stored response": async () => (await client.responses.retrieve(await storedId())).status,
  deletion: async () => (await client.responses.delete(await storedId())).deleted,
  cancellation: async () => (await client.responses.cancel(await storedId({ background: true }))).status,
  "input items": async () => (await client.responses.inputItems.list(await storedId(), { order: "asc", limit: 5 })).data.length,
  compaction: async () => (await client.responses.compact({ model, input: "Hello" })).output.length,
  "input tokens": async () => (await client.responses.inputTokens.count({ model, input: "Hello" })).object,
  image: async () => (await client.images.generate({ model, prompt, n: 2 })).data.length,
  "image, streamed": async () => (await all(client.images.generate({ model, prompt, stream: true, partial_images: 2 }))).length,
  "edited image": async () =>
    (await client.images.edit({ image: await png(1), mask: await png(2), prompt, model })).data.length,
  "edited images": async () =>
    (await client.images.edit({ image: [await png(1), await png(2)], prompt, model })).data.length,
  "edited image, streamed": async () =>
    (await all(client.images.edit({ image: await png(1), prompt, model, stream: true, partial_images: 1 }))).length,
  speech: async () => (await (await client.audio.speech.create(speech)).arrayBuffer()).byteLength,
  "speech in events": async () =>
    (await (await client.audio.speech.create({ ...speech, stream_format: "sse" })).text()).split('"speech.audio.delta"').length,
  transcription: async () => (await client.audio.transcriptions.create({ file: await audio(), model })).text.slice(0, 22),
  "transcription, text": async () =>
    (await client.audio.transcriptions.create({ file: await audio(), model, response_format: "text" })).slice(0, 22),
  "transcription, verbose": async () =>
    (await client.audio.transcriptions.create({ file: await audio(), model, response_format: "verbose_json" })).segments.length,
  "transcription, streamed": async () =>
    (await all(client.audio.transcriptions.create({ file: await audio(), model, stream: true }))).at(-1).text.slice(0, 22),
  translation: async () => (await client.audio.translations.create({ file: await audio(), model })).text.slice(0, 22),
  models: async () => (await all(client.models.list())).length,
  model: async () => (await client.models.retrieve(model)).id,
  "wrong model": async () => await client.audio.transcriptions.create({ file: await audio(), model: "hidden" }),
};

const results = {};
for (const [name, call] of Object.entries(calls)) {
  try {
    results[name] = await call();
  } catch (error) {
    results[name] = { error: error.constructor.name, code: error.code ?? String(error) };
  }
}
console.log(JSON.stringify(results));
