// The Vercel AI SDK's openai-compatible provider: a tool loop and an object, streamed and not; a cut call.
import assert from "node:assert/strict";
import {createOpenAICompatible} from "@ai-sdk/openai-compatible";
import {Output, generateText, stepCountIs, streamText, tool} from "ai";
import {z} from "zod";

const model = createOpenAICompatible({name: "cursor2api", baseURL: process.argv[2] + "/v1",
  apiKey: "0000", includeUsage: true, supportsStructuredOutputs: true})("claude-sonnet-4-5-20250929");
let called = 0;
const options = {model, stopWhen: stepCountIs(4), maxRetries: 0,
  prompt: "What is the weather in Paris? Use get_weather.",
  tools: {get_weather: tool({description: "Weather of a city",
    inputSchema: z.object({city: z.string()}),
    execute: async ({city}) => { called += 1; return `18 degrees in ${city}`; }})}};

const whole = await generateText(options);
assert(whole.text.includes("18"));
assert.equal(called, 1);

const streamed = streamText(options);
let text = "";
for await (const piece of streamed.textStream) text += piece;
assert(text.includes("18"));
assert.equal(called, 2);
assert((await streamed.usage).totalTokens > 0);

const schema = z.object({name: z.string(), age: z.number()});
const ada = {model, maxRetries: 0, prompt: "Ada is 36"};
assert.equal((await generateText({...ada, output: Output.object({schema})})).output.age, 36);
let last;
for await (const part of streamText({...ada, output: Output.object({schema})}).partialOutputStream) last = part;
assert.equal(last.age, 36);

const forced = await generateText({...options, stopWhen: stepCountIs(1), prompt: "Hello from Oslo",
  toolChoice: {type: "tool", toolName: "get_weather"}});
assert.equal(forced.finishReason, "tool-calls");
assert.equal(called, 3);

const cut = {...options, maxOutputTokens: 2, stopWhen: stepCountIs(1)};
assert.equal((await generateText(cut)).finishReason, "length");
const pieces = streamText(cut);
await pieces.consumeStream();
assert.equal(await pieces.finishReason, "length");
assert.equal(called, 3);
console.log("ok");
