// Anthropic's Messages: the body of a request, and what its reply says. See send.js for a reply's members.

import {RESULT, TOOL} from "./tool.js";

export const path = "messages";

const LONGEST = 8192;  // the API insists on a limit
const EMPTY = {type: "object", additionalProperties: true};

function said({role, text, pictures, calls}) {
  if (role === "user") return [...pictures.map((url) => {
    const [, type, data] = /^data:([^;]+);base64,(.*)$/.exec(url);
    return {type: "image", source: {type: "base64", media_type: type, data}};
  }), {type: "text", text}];
  return [...text ? [{type: "text", text}] : [], ...calls.map(({id, name, arguments: written}) =>
    ({type: "tool_use", id, name, input: read(written)}))];
}

/** The results of a turn's calls lead the user's message behind it, or are one. */
function messages(turns) {
  const made = [];
  let results = [];
  for (const turn of turns) {
    if (results.length && turn.role !== "user") made.push({role: "user", content: results});
    made.push({role: turn.role, content: [...turn.role === "user" ? results : [], ...said(turn)]});
    results = (turn.calls ?? []).map(({id, result = RESULT}) => ({type: "tool_result", tool_use_id: id, content: result}));
  }
  return results.length ? [...made, {role: "user", content: results}] : made;
}

function read(json) {
  try {
    return JSON.parse(json);
  } catch {
    return {};  // arguments that were cut
  }
}

export const body = ({model, turns, system, max, effort, temperature, json, tool, stream}) => ({
  model,
  max_tokens: max || LONGEST,
  ...system ? {system} : {},
  messages: messages(turns),
  ...effort || json ? {output_config: {
    ...effort ? {effort} : {}, ...json ? {format: {type: "json_schema", schema: EMPTY}} : {}}} : {},
  ...model.endsWith("-thinking") ? {thinking: {type: "adaptive"}} : {},  // without it the API sends no thinking
  ...temperature === null ? {} : {temperature},
  ...tool ? {tools: [{name: TOOL.name, description: TOOL.description, input_schema: TOOL.parameters}]} : {},
  ...stream ? {stream} : {}});

/** Adds an event, or a whole message, to a reply. */
export function take(reply, event) {
  const {type, delta} = event;
  if (event.error) reply.error = {error: event.error};
  else if (type === "message") {
    for (const block of event.content) takeBlock(reply, block, JSON.stringify(block.input));
    takeEnd(reply, event);
  } else if (type === "content_block_start") takeBlock(reply, event.content_block, "");
  else if (type === "content_block_delta") {
    reply.text += delta.text ?? "";
    reply.thinking += delta.thinking ?? "";
    if (delta.partial_json) reply.calls.at(-1).arguments += delta.partial_json;
  } else if (type === "message_delta") takeEnd(reply, {...delta, usage: event.usage});
}

function takeBlock(reply, {type, id, name, text = "", thinking = ""}, written) {
  if (type === "tool_use") reply.calls.push({id, name, arguments: written});
  reply.text += text;
  reply.thinking += thinking;
}

function takeEnd(reply, {stop_reason: reason, usage}) {
  reply.finish = reason ?? reply.finish;
  if (!usage) return;
  const cached = usage.cache_read_input_tokens ?? 0;
  reply.usage = {in: usage.input_tokens + cached + (usage.cache_creation_input_tokens ?? 0), cached,
    out: usage.output_tokens};
}

export const ends = (data) => data.includes('"type":"message_stop"') || data.includes('"type": "message_stop"');
