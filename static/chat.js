// One chat: sends it, and folds what comes back, streamed or not, into one reply.

import {bearer} from "./ask.js";
import {t} from "./words.js";

/** The data of each server-sent event, wherever the bytes were cut. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let {done, value} = await reader.read(); !done; {done, value} = await reader.read()) {
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}

/** Adds a message or a delta to a reply. */
function add(reply, said) {
  reply.text += said.content ?? "";
  reply.thinking += said.reasoning_content ?? "";
  for (const [n, call] of (said.tool_calls ?? []).entries()) {
    const kept = reply.calls[call.index ?? n] ??= {name: "", arguments: ""};
    kept.name += call.function.name ?? "";
    kept.arguments += call.function.arguments ?? "";
  }
}

/**
 * Sends a chat and calls progress(reply) at each change. The reply has status, headers, text, thinking,
 * calls, finish, usage, error (JSON or a text), first and total (milliseconds).
 */
export async function send(url, key, chat, signal, progress) {
  const began = performance.now();
  const reply = {status: null, headers: [], text: "", thinking: "", calls: [], finish: null, usage: null,
    error: null, first: null, total: null};

  function take({error, choices = [], usage}) {
    if (error) reply.error = {error};
    const [choice] = choices;
    if (choice) add(reply, choice.message ?? choice.delta);
    reply.finish = choice?.finish_reason ?? reply.finish;
    reply.usage = usage ?? reply.usage;
    const begun = reply.text || reply.thinking || reply.calls.length;
    if (chat.stream && begun) reply.first ??= performance.now() - began;
    progress(reply);
  }

  try {
    const response = await fetch(url, {method: "POST", signal, body: JSON.stringify(chat), headers: {
      "Content-Type": "application/json", ...bearer(key)}});
    reply.status = response.status;
    reply.headers = [...response.headers];
    progress(reply);
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
      let whole = false;
      for await (const data of events(response.body)) {
        if (data === "[DONE]") whole = true;
        else take(JSON.parse(data));
      }
      if (!whole && !reply.error) reply.error = t("The stream ended before its end mark.");
    } else {
      const text = await response.text();
      try {
        take(JSON.parse(text));
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        reply.error = text;
      }
    }
  } catch (error) {
    if (error.name === "AbortError") reply.stopped = true;
    else reply.error = t("The service did not answer.");
  }
  reply.total = performance.now() - began;
  return reply;
}

/** The same request as a line for a shell. */
export function asCurl(url, key, chat) {
  const members = Object.entries(chat).map(([name, value]) => `    "${name}": ${JSON.stringify(value)}`);
  const body = `{\n${members.join(",\n")}\n  }`.replaceAll("'", "'\\''");
  return `curl ${chat.stream ? "-N " : ""}${url} \\\n  -H "Authorization: Bearer ${key}" \\\n` +
    `  -H "Content-Type: application/json" \\\n  -d '${body}'`;
}
