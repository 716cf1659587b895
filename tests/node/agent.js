// Run the loop of an agent with the tool runner of OpenAI's SDK, at once and streamed. Print the arguments of the calls, and
// whether the last reply has the tool's result, as JSON.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const calls = [];
const weather = ({ city }) => {
  calls.push(city);
  return `sunny in ${city}`;
};
const parameters = { type: "object", properties: { city: { type: "string" } } };
const tool = { type: "function", function: { function: weather, parse: JSON.parse, description: "", name: "weather", parameters } };

const replies = [];
for (const stream of [false, true]) {
  const messages = [{ role: "user", content: "How is the weather?" }];
  const runner = client.chat.completions.runTools({ model: "chat", stream, messages, tools: [tool] }, { maxChatCompletions: 6 });
  replies.push((await runner.finalContent()).includes("sunny in text"));
}
console.log(JSON.stringify({ calls, replies }));
