// The Responses API by two clients: OpenAI's own, and the Vercel AI SDK's openai(...).
import assert from "node:assert/strict";
import {createOpenAI} from "@ai-sdk/openai";
import {Output, generateText, stepCountIs, streamText, tool} from "ai";
import OpenAI from "openai";
import {zodTextFormat} from "openai/helpers/zod";
import {z} from "zod";

const model = "claude-sonnet-4-5-20250929";
const ask = "What is the weather in Paris? Use get_weather.";

const api = new OpenAI({baseURL: process.argv[2] + "/v1", apiKey: "0000", maxRetries: 0}).responses;
assert.equal((await api.create({model, input: "Say hello"})).output_text, "hello");
const hello = api.stream({model, input: "Say hello"});
let said = "";
for await (const event of hello) if (event.type === "response.output_text.delta") said += event.delta;
assert.equal(said, "hello");
assert.equal((await hello.finalResponse()).output_text, "hello");

const tools = [{type: "function", name: "get_weather", strict: false, parameters: {
  type: "object", properties: {city: {type: "string"}}, required: ["city"]}}];
for (const stream of [false, true]) {
  const input = [{role: "user", content: ask}];
  const response = stream ? await api.stream({model, input, tools}).finalResponse()
    : await api.create({model, input, tools});
  const [call] = response.output;
  assert.deepEqual(JSON.parse(call.arguments), {city: "Paris"});
  input.push(...response.output, {type: "function_call_output", call_id: call.call_id, output: "18 degrees"});
  assert((await api.create({model, input, tools})).output_text.includes("18 degrees"));
}
const told = await api.create({model, input: "My name is Ann."});
for (const stream of [false, true]) {
  const next = {model, input: "What is my name?", previous_response_id: told.id};
  const known = stream ? await api.stream(next).finalResponse() : await api.create(next);
  assert.equal(known.output_text, "Your name is Ann.");
  assert.equal((await api.retrieve(known.id)).previous_response_id, told.id);
}
await assert.rejects(api.create({model, input: "x", previous_response_id: "resp_0"}),
  (error) => error instanceof OpenAI.BadRequestError && error.code === "previous_response_not_found");
const Person = z.object({name: z.string(), age: z.number()});
const ada = await api.parse({model, input: "Ada is 36", text: {format: zodTextFormat(Person, "person")}});
assert.equal(ada.output_parsed.age, 36);

let called = 0;
const options = {model: createOpenAI({baseURL: process.argv[2] + "/v1", apiKey: "0000"})(model), maxRetries: 0,
  stopWhen: stepCountIs(4), prompt: ask, providerOptions: {openai: {store: false}},
  tools: {get_weather: tool({description: "Weather of a city", inputSchema: z.object({city: z.string()}),
    execute: async ({city}) => { called += 1; return `18 degrees in ${city}`; }})}};
assert((await generateText(options)).text.includes("18"));
let text = "";
for await (const piece of streamText(options).textStream) text += piece;
assert(text.includes("18"));
assert.equal(called, 2);

// By default it refers to the answers that are stored, and does not send them.
let sent;
const fetched = (url, request) => { sent = JSON.parse(request.body); return fetch(url, request); };
const storing = {...options, prompt: undefined, providerOptions: undefined,
  model: createOpenAI({baseURL: process.argv[2] + "/v1", apiKey: "0000", fetch: fetched})(model)};
const messages = [];
for (const [content, answer] of [["My name is Ann.", "Ann"], [ask, "18 degrees"],
  ["What is my name?", "Your name is Ann."]]) {
  messages.push({role: "user", content});
  const result = await generateText({...storing, messages});
  assert(result.text.includes(answer), result.text);
  messages.push(...result.response.messages);
}
assert.equal(sent.input.filter((item) => item.type === "item_reference").length, 2);
assert.equal(called, 3);
const object = await generateText({...options, tools: undefined, prompt: "Ada is 36",
  output: Output.object({schema: Person})});
assert.equal(object.output.age, 36);
const cut = await generateText({...options, stopWhen: stepCountIs(1), maxOutputTokens: 2});
assert.equal(cut.finishReason, "length");
assert.equal(called, 3);
console.log("ok");
