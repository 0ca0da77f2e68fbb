// OpenAI's Responses: the body of a request, and what its reply says. See send.js for a reply's members.

import {RESULT, TOOL} from "./tool.js";

export const path = "responses";

function items({role, text, pictures, calls}) {
  if (role === "user") return [{role, content: [{type: "input_text", text},
    ...pictures.map((url) => ({type: "input_image", detail: "auto", image_url: url}))]}];
  return [...text ? [{role, content: [{type: "output_text", text}]}] : [],
    ...calls.flatMap(({id, name, arguments: written, result = RESULT}) => [
      {type: "function_call", call_id: id, name, arguments: written},
      {type: "function_call_output", call_id: id, output: result}])];
}

export const body = ({model, turns, system, max, effort, temperature, json, tool, stream}) => ({
  model,
  ...system ? {instructions: system} : {},
  input: turns.flatMap(items),
  ...max ? {max_output_tokens: max} : {},
  ...effort ? {reasoning: {effort}} : {},
  ...temperature === null ? {} : {temperature},
  ...json ? {text: {format: {type: "json_object"}}} : {},
  ...tool ? {tools: [{type: "function", ...TOOL}]} : {},
  store: false,
  ...stream ? {stream} : {}});

/** Adds an event, or a whole response, to a reply. */
export function take(reply, event) {
  const {type, delta} = event;
  if (event.object === "response") {
    for (const item of event.output) takeItem(reply, item);
    takeEnd(reply, event);
  } else if (type === "response.output_text.delta") reply.text += delta;
  else if (/^response\.reasoning(_summary)?_text\.delta$/.test(type)) reply.thinking += delta;
  else if (type === "response.output_item.added" && event.item.type === "function_call") takeItem(reply, event.item);
  else if (type === "response.function_call_arguments.delta") reply.calls.at(-1).arguments += delta;
  else if (/^response\.(completed|incomplete|failed)$/.test(type)) takeEnd(reply, event.response);
  else if (event.error || type === "error") reply.error = {error: event.error ?? event};
}

function takeItem(reply, {type, call_id: id, name, arguments: written, content = [], summary = []}) {
  if (type === "function_call") reply.calls.push({id, name, arguments: written});
  if (type === "message") reply.text += content.map(({text = ""}) => text).join("");
  if (type === "reasoning") reply.thinking += [...summary, ...content ?? []].map(({text = ""}) => text).join("");
}

function takeEnd(reply, {status, error, usage, incomplete_details: incomplete}) {
  if (error) reply.error = {error};
  reply.finish = incomplete?.reason ?? status;
  if (usage) reply.usage = {in: usage.input_tokens, cached: usage.input_tokens_details?.cached_tokens,
    out: usage.output_tokens};
}

export const ends = (data) => /^\{"type": ?"response\.(completed|incomplete)"/.test(data);
