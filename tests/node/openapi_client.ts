// Call the app with a client that is made from its OpenAPI description (api.ts). Print the results as JSON.
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

declare const process: { argv: string[] };

const [baseUrl, key] = process.argv.slice(2);
const client = createClient<paths, "application/json">({ baseUrl, headers: { "api-key": key } });

const chat = await client.POST("/v1/chat/completions", {
  body: { model: "chat", messages: [{ role: "user", content: "Hello" }], temperature: 0.5 },
});
const embeddings = await client.POST("/openai/deployments/{deployment}/embeddings", {
  params: { path: { deployment: "chat" } },
  body: { input: ["Hello"], dimensions: 3 },
});
const response = await client.POST("/v1/responses", { body: { input: "Hello" } });
const items = await client.GET("/v1/responses/{id}/input_items", {
  params: { path: { id: response.data?.id ?? "" }, query: { limit: 1, order: "asc" } },
});
const transcription = await client.POST("/v1/audio/transcriptions", {
  body: { model: "chat", file: "a recording" },
  bodySerializer({ model, file }) {
    const form = new FormData();
    form.set("model", model);
    form.set("file", new Blob([file]), "hello.mp3");
    return form;
  },
});
const unknown = await client.GET("/v1/models/{model}", { params: { path: { model: "unknown" } } });

console.log(
  JSON.stringify({
    reply: chat.data?.choices[0].message.content,
    tokens: chat.data?.usage.total_tokens,
    dimensions: embeddings.data?.data[0].embedding.length,
    items: items.data?.data.length,
    text: transcription.data?.text,
    error: unknown.error?.error.code,
  }),
);
