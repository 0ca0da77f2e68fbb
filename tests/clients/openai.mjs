// The official JavaScript client: lists, chats, streams, calls a tool, meets an error.
import assert from "node:assert/strict";
import OpenAI from "openai";

const model = "claude-sonnet-4-5-20250929";
const api = new OpenAI({baseURL: process.argv[2] + "/v1", apiKey: "0000", maxRetries: 0});
const messages = [{role: "user", content: "Hello"}];
const tools = [{type: "function", function: {name: "get_weather", parameters: {
  type: "object", properties: {city: {type: "string"}}, required: ["city"]}}}];

const ids = (await api.models.list()).data.map((each) => each.id);
assert(ids.includes(model));

const reply = await api.chat.completions.create({model, messages});
assert.equal(reply.choices[0].finish_reason, "stop");

let text = "", usage;
for await (const chunk of await api.chat.completions.create(
    {model, messages, stream: true, stream_options: {include_usage: true}})) {
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, reply.choices[0].message.content);
assert(usage.total_tokens > 0);

const stream = api.chat.completions.stream({model, tools, messages: [
  {role: "user", content: "What is the weather in Paris? Use get_weather."}]});
const [call] = (await stream.finalMessage()).tool_calls;
assert.deepEqual(JSON.parse(call.function.arguments), {city: "Paris"});

let called = 0;
const runner = api.chat.completions.runTools({model, messages: [
  {role: "user", content: "What is the weather in Paris? Use get_weather."}], tools: [{
  type: "function", function: {...tools[0].function, parse: JSON.parse,
    function: ({city}) => { called += 1; return `18 degrees in ${city}`; }}}]});
assert((await runner.finalContent()).includes("18"));
assert.equal(called, 1);

await assert.rejects(api.chat.completions.create({model: "nope", messages}),
  (error) => error instanceof OpenAI.BadRequestError && error.code === "model_not_found");
console.log("ok");
