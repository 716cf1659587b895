// Get models, a chat, a stream, an embedding, an error and two streams that break with OpenAI's SDK for JavaScript. Print the results as JSON.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "Hello" }];

const models = [];
for await (const model of client.models.list()) models.push(model.id);

const completion = await client.chat.completions.create({ model: "gpt-4o", messages });

const chunks = [];
const stream = await client.chat.completions.create({ model: "gpt-4o", messages, stream: true });
for await (const chunk of stream) {
  const content = chunk.choices[0]?.delta.content;
  if (content !== undefined) chunks.push(content);
}

const embedding = await client.embeddings.create({ model: "embed-3", input: "Hello" });

let error;
try {
  await client.chat.completions.create({ model: "gpt-5", messages });
} catch (exception) {
  error = exception.constructor.name;
}

const interrupted = {};
const broken = {
  chat: () => client.chat.completions.create({ model: "gpt-4o", messages, stream: true }),
  responses: () => client.responses.create({ model: "gpt-4o", input: "Hello", stream: true }),
};
for (const [name, create] of Object.entries(broken)) {
  try {
    for await (const event of await create());
  } catch (exception) {
    interrupted[name] = exception.message;
  }
}

console.log(
  JSON.stringify({
    models,
    reply: completion.choices[0].message.content,
    chunks,
    dimensions: embedding.data[0].embedding.length,
    error,
    interrupted,
  }),
);
