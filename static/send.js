// Sends a chat in one of the dialects, and folds what comes back, streamed or not, into one reply.

import {bearer} from "./ask.js";
import {t} from "./words.js";

/** The module of a dialect, which has its name. Each has path, body(asked), take(reply, event), and ends(data) for the
 * data of an event that ends a whole stream. */
const spoken = (dialect) => import(`./${dialect}.js`);

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

/** A reply of which nothing has come: `usage` will be {in, cached, out}, `first` and `total` are milliseconds, `error` is
 * JSON or a text, and `calls` are {id, name, arguments, result} with texts, the result by the reader. */
export const nothing = () => ({role: "assistant", status: null, headers: [], text: "", thinking: "", calls: [], pictures: [],
  finish: null, usage: null, error: null, first: null, total: null, stopped: false});

/** The request that `asked` makes of the page: {url, body}. */
export async function request(base, dialect, asked) {
  const {path, body} = await spoken(dialect);
  return {url: `${base}/${path}`, body: body(asked)};
}

/** Sends a request and calls progress() at each change of the reply, which it fills. */
export async function send({url, body}, dialect, key, reply, signal, progress) {
  const {take, ends} = await spoken(dialect), began = performance.now();

  function add(event) {
    take(reply, event);
    if (body.stream && (reply.text || reply.thinking || reply.calls.length)) reply.first ??= performance.now() - began;
    progress();
  }

  try {
    const response = await fetch(url, {method: "POST", signal, body: JSON.stringify(body), headers: {
      "Content-Type": "application/json", ...bearer(key)}});
    reply.status = response.status;
    reply.headers = [...response.headers];
    progress();
    if (response.headers.get("content-type")?.startsWith("text/event-stream")) {
      let whole = false;
      for await (const data of events(response.body)) {
        whole ||= ends(data);
        if (data !== "[DONE]") add(JSON.parse(data));
      }
      if (!whole && !reply.error) reply.error = t("The stream ended before its end mark.");
    } else {
      const text = await response.text();
      try {
        add(JSON.parse(text));
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        reply.error = text;
      }
    }
  } catch (error) {
    if (error.name === "AbortError") reply.stopped = true;
    else if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
    else reply.error = reply.text ? t("The connection to the service broke.") : t("The service did not answer.");
  }
  reply.total = performance.now() - began;
}

/** The same request as a line for a shell. */
export function asCurl({url, body}, key) {
  const members = Object.entries(body).map(([name, value]) => `    "${name}": ${JSON.stringify(value)}`);
  const data = `{\n${members.join(",\n")}\n  }`.replaceAll("'", "'\\''");
  return `curl ${body.stream ? "-N " : ""}${url} \\\n  -H "Authorization: Bearer ${key}" \\\n` +
    `  -H "Content-Type: application/json" \\\n  -d '${data}'`;
}
