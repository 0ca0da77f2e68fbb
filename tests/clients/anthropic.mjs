// The official JavaScript client of Anthropic's API: lists, messages, streams, runs tools, parses, counts, meets errors.
import assert from "node:assert/strict";
import Anthropic from "@anthropic-ai/sdk";
import {betaZodTool} from "@anthropic-ai/sdk/helpers/beta/zod";
import {zodOutputFormat} from "@anthropic-ai/sdk/helpers/zod";
import {z} from "zod";

const model = "claude-sonnet-4-5-20250929";
const api = new Anthropic({baseURL: process.argv[2], apiKey: "0000", maxRetries: 0});
const ask = {model, max_tokens: 1000, messages: [{role: "user", content: "Hello"}]};

const ids = [];
for await (const each of api.models.list({limit: 2})) ids.push(each.id);
assert(ids.length > 2 && ids.includes(model));
assert.equal((await api.models.retrieve(model)).id, model);

const whole = await api.messages.create(ask);
assert.equal(whole.stop_reason, "end_turn");
const stream = api.messages.stream(ask);
const final = await stream.finalMessage();
assert.deepEqual(final.content.map((block) => block.text), whole.content.map((block) => block.text));
assert.equal((await api.messages.countTokens({model, messages: ask.messages})).input_tokens > 0, true);

let called = 0;
const weather = betaZodTool({name: "get_weather", description: "Weather of a city",
  inputSchema: z.object({city: z.string()}), run: ({city}) => { called += 1; return `18 degrees in ${city}`; }});
for (const stream of [false, true]) {
  const runner = api.beta.messages.toolRunner({...ask, stream, tools: [weather],
    messages: [{role: "user", content: "What is the weather in Paris? Use get_weather."}]});
  assert((await runner.runUntilDone()).content[0].text.includes("18 degrees in Paris"));
}
assert.equal(called, 2);

const Person = z.object({name: z.string(), age: z.number()});
const ada = {...ask, messages: [{role: "user", content: "Ada is 36"}], output_config: {format: zodOutputFormat(Person)}};
assert.equal((await api.messages.parse(ada)).parsed_output.age, 36);

const wrong = new Anthropic({baseURL: process.argv[2], apiKey: "wrong", maxRetries: 0});
await assert.rejects(wrong.messages.create(ask), Anthropic.AuthenticationError);
await assert.rejects(api.messages.create({...ask, model: "nope"}), (error) =>
  error instanceof Anthropic.NotFoundError && error.type === "not_found_error" && error.requestID?.startsWith("req_"));
await assert.rejects(api.messages.create({...ask, max_tokens: 0}), Anthropic.BadRequestError);
console.log("ok");
