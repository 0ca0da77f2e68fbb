// The official JavaScript client: lists, chats, streams, calls tools, parses, meets an error.
import assert from "node:assert/strict";
import OpenAI from "openai";
import {zodFunction, zodResponseFormat} from "openai/helpers/zod";
import {z} from "zod";

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
const ask = {model, messages: [
  {role: "user", content: "What is the weather in Paris? Use get_weather."}], tools: [{
  type: "function", function: {...tools[0].function, parse: JSON.parse,
    function: ({city}) => { called += 1; return `18 degrees in ${city}`; }}}]};
for (const stream of [false, true]) {
  const runner = api.chat.completions.runTools({...ask, stream});
  assert((await runner.finalContent()).includes("18 degrees in Paris"));
}
assert.equal(called, 2);

const Person = z.object({name: z.string(), age: z.number()});
const ada = {model, messages: [{role: "user", content: "Ada is 36"}],
  response_format: zodResponseFormat(Person, "person")};
const parsed = await api.chat.completions.parse(ada);
assert.equal(parsed.choices[0].message.parsed.age, 36);
const final = await api.chat.completions.stream(ada).finalChatCompletion();
assert.equal(final.choices[0].message.parsed.age, 36);

const chosen = await api.chat.completions.parse({model, messages: ada.messages,
  tools: [zodFunction({name: "person", parameters: Person})],
  tool_choice: {type: "function", function: {name: "person"}}});
assert.equal(chosen.choices[0].message.tool_calls[0].function.parsed_arguments.age, 36);

await assert.rejects(api.chat.completions.create({model: "nope", messages}),
  (error) => error instanceof OpenAI.BadRequestError && error.code === "model_not_found");
console.log("ok");
