// Run the loop of an agent with the AI SDK, with responses and with chats, at once and streamed. Print the numbers of its steps, the
// reason of its end, and whether the last reply has the tool's result, as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const provider = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
const inputSchema = jsonSchema({ type: "object", properties: { city: { type: "string" } }, additionalProperties: false });
const weather = tool({ description: "", inputSchema, execute: async ({ city }) => `sunny in ${city}` });

const results = [];
for (const model of [provider.responses("chat"), provider.chat("chat")]) {
  for (const run of [generateText, streamText]) {
    const result = await run({ model, prompt: "How is the weather?", tools: { weather }, stopWhen: stepCountIs(6), maxRetries: 0 });
    const text = await result.text;
    results.push([(await result.steps).length, await result.finishReason, text.includes("sunny in text")]);
  }
}
console.log(JSON.stringify(results));
