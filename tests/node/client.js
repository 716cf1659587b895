// A chat, a stream, an embedding and a refusal with OpenAI's SDK for JavaScript; prints what came.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "Hello" }];

const models = [];
for await (const model of client.models.list()) models.push(model.id);

const completion = await client.chat.completions.create({ model: "gpt-4o", messages });

const pieces = [];
const stream = await client.chat.completions.create({ model: "gpt-4o", messages, stream: true });
for await (const chunk of stream) {
  const piece = chunk.choices[0]?.delta.content;
  if (piece !== undefined) pieces.push(piece);
}

const embedding = await client.embeddings.create({ model: "embed-3", input: "Hello" });

let refused;
try {
  await client.chat.completions.create({ model: "gpt-5", messages });
} catch (error) {
  refused = error.constructor.name;
}

console.log(
  JSON.stringify({
    models,
    reply: completion.choices[0].message.content,
    pieces,
    dimensions: embedding.data[0].embedding.length,
    refused,
  }),
);
