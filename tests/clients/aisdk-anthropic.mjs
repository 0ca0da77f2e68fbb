// The Vercel AI SDK's provider of Anthropic's API: a tool loop and an object, streamed and not; a cut call.
import assert from "node:assert/strict";
import {createAnthropic} from "@ai-sdk/anthropic";
import {Output, generateText, stepCountIs, streamText, tool} from "ai";
import {z} from "zod";

const model = createAnthropic({baseURL: process.argv[2] + "/v1", apiKey: "0000"})("claude-sonnet-4-5-20250929");
let called = 0;
const options = {model, stopWhen: stepCountIs(4), maxRetries: 0,
  prompt: "What is the weather in Paris? Use get_weather.",
  tools: {get_weather: tool({description: "Weather of a city",
    inputSchema: z.object({city: z.string()}),
    execute: async ({city}) => { called += 1; return `18 degrees in ${city}`; }})}};

const whole = await generateText(options);
assert(whole.text.includes("18"));
const streamed = streamText(options);
let text = "";
for await (const piece of streamed.textStream) text += piece;
assert(text.includes("18"));
assert.equal(called, 2);
const usage = await streamed.usage;
assert(usage.inputTokens > 0 && usage.outputTokens > 0);

const schema = z.object({name: z.string(), age: z.number()});
const ada = {model, maxRetries: 0, prompt: "Ada is 36"};
assert.equal((await generateText({...ada, output: Output.object({schema})})).output.age, 36);
let last;
for await (const part of streamText({...ada, output: Output.object({schema})}).partialOutputStream) last = part;
assert.equal(last.age, 36);

const thinking = {anthropic: {thinking: {type: "enabled", budgetTokens: 2000}}};
assert((await generateText({...options, providerOptions: thinking})).text.includes("18"));

const cut = {...options, maxOutputTokens: 2, stopWhen: stepCountIs(1)};
assert.equal((await generateText(cut)).finishReason, "length");
console.log("ok");
