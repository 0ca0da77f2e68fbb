// The Agents SDK of OpenAI in JavaScript: a tool loop, a handoff, a chain of stored responses, streamed and not.
import assert from "node:assert/strict";
import {Agent, OpenAIResponsesModel, Runner, tool} from "@openai/agents";
import OpenAI from "openai";
import {z} from "zod";

const client = new OpenAI({baseURL: process.argv[2] + "/v1", apiKey: "0000", maxRetries: 0});
const model = new OpenAIResponsesModel(client, "claude-sonnet-4-5-20250929");
const runner = new Runner({tracingDisabled: true}); // it would tell OpenAI of each run
const ask = "What is the weather in Paris? Use get_weather.";

let called = 0;
const weather = tool({name: "get_weather", description: "Weather of a city", parameters: z.object({city: z.string()}),
  execute: async ({city}) => { called += 1; return `18 degrees in ${city}`; }});
const french = new Agent({name: "french", model});
const first = new Agent({name: "first", model, handoffs: [french]});

for (const stream of [false, true]) {
  const run = async (agent, asked, options = {}) => {
    const result = await runner.run(agent, asked, {...options, stream});
    if (stream) await result.completed;
    return result;
  };
  const looped = await run(new Agent({name: "weather", model, tools: [weather]}), ask);
  assert(looped.finalOutput.includes("18 degrees in Paris"));
  assert.equal((await run(first, "Use transfer_to_french")).lastAgent.name, "french");
  const told = await run(french, "My name is Ann.");
  const known = await run(french, "What is my name?", {previousResponseId: told.lastResponseId});
  assert.equal(known.finalOutput, "Your name is Ann.");
  const again = await run(french, [...told.history, {role: "user", content: "What is my name?"}]);
  assert.equal(again.finalOutput, "Your name is Ann.");
}
assert.equal(called, 2);
console.log("ok");
