// OpenAI's Chat Completions: the body of a request, and what its reply says. See send.js for a reply's members.

import {RESULT, TOOL} from "./tool.js";

export const path = "chat/completions";

const content = ({text, pictures}) => pictures.length
  ? [{type: "text", text}, ...pictures.map((url) => ({type: "image_url", image_url: {url}}))] : text;

function messages({role, ...turn}) {
  if (role === "user") return [{role, content: content(turn)}];
  const calls = turn.calls.map(({id, name, arguments: written}) =>
    ({id, type: "function", function: {name, arguments: written}}));
  return [{role, content: turn.text || null, ...calls.length ? {tool_calls: calls} : {}},
    ...turn.calls.map(({id, result = RESULT}) => ({role: "tool", tool_call_id: id, content: result}))];
}

export const body = ({model, turns, system, max, effort, temperature, json, tool, stream}) => ({
  model,
  messages: [...system ? [{role: "system", content: system}] : [], ...turns.flatMap(messages)],
  ...max ? {max_tokens: max} : {},
  ...effort ? {reasoning_effort: effort} : {},
  ...temperature === null ? {} : {temperature},
  ...json ? {response_format: {type: "json_object"}} : {},
  ...tool ? {tools: [{type: "function", function: TOOL}]} : {},
  ...stream ? {stream, stream_options: {include_usage: true}} : {}});

/** Adds a chunk, or a whole completion, to a reply. */
export function take(reply, {error, choices = [], usage}) {
  if (error) reply.error = {error};
  const [choice] = choices, said = choice?.message ?? choice?.delta ?? {};
  reply.text += said.content ?? "";
  reply.thinking += said.reasoning_content ?? "";
  for (const [n, call] of (said.tool_calls ?? []).entries()) {
    const kept = reply.calls[call.index ?? n] ??= {id: "", name: "", arguments: ""};
    kept.id ||= call.id ?? "";
    kept.name += call.function.name ?? "";
    kept.arguments += call.function.arguments ?? "";
  }
  reply.finish = choice?.finish_reason ?? reply.finish;
  if (usage) reply.usage = {in: usage.prompt_tokens, cached: usage.prompt_tokens_details?.cached_tokens,
    out: usage.completion_tokens};
}

export const ends = (data) => data === "[DONE]";
