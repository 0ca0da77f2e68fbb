// The form that sends a chat, and the answer as it arrives.

import {asCurl, send} from "./chat.js";
import {block, byId, el, failure, pairs, pre} from "./make.js";
import {number, t} from "./words.js";

const TOOL = {type: "function", function: {name: "get_weather", description: "The weather of a city", parameters: {
  type: "object", properties: {city: {type: "string"}}, required: ["city"]}}};
const PLAIN = "Hello";
const FOR_TOOL = "What is the weather in Paris? Use get_weather.";

let headerNames = new Set();
let running = null;
let soon = null;
let last = null;

function chat() {
  const on = (id) => byId(id).checked;
  const system = byId("system").value.trim();
  return {
    model: byId("model").value,
    messages: [...system ? [{role: "system", content: system}] : [],
      {role: "user", content: byId("message").value}],
    ...on("tool") ? {tools: [TOOL]} : {},
    ...on("stream") ? {stream: true, stream_options: {include_usage: true}} : {}};
}

function showCurl(here) {
  byId("as-curl").lastElementChild.replaceChildren(
    block(t("This request as curl"), asCurl(`${here.base}/chat/completions`, here.shownKey, chat())));
}

const seconds = (ms) => number(ms / 1000,
  {style: "unit", unit: "second", unitDisplay: "narrow", maximumFractionDigits: 2});

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;  // arguments that are still on their way
  }
}

/** Shows a reply as far as it has come. */
function show(reply) {
  last = reply;
  const {text, thinking, calls, error, status, usage} = reply;
  const open = byId("said").querySelector(".thinking")?.open ?? true;
  byId("said").replaceChildren(
    ...thinking ? [el("details", {class: "thinking", open},
      el("summary", {}, t("Thinking")), el("p", {}, thinking))] : [],
    ...text ? [el("p", {class: "text"}, text)] : [],
    ...calls.map((call) => el("div", {class: "call"},
      el("p", {}, el("span", {class: "tag"}, t("Tool call")), " ", el("code", {}, call.name)),
      pre(t("Arguments"), undefined, pretty(call.arguments)))),
    ...error ? [failure(error)] : []);
  byId("measures").replaceChildren(...pairs([
    status && [t("Status"), status],
    reply.first && [t("First token"), seconds(reply.first)],
    reply.total && [t("Total"), seconds(reply.total)],
    usage && [t("Tokens in"), number(usage.prompt_tokens)],
    usage && [t("Tokens out"), number(usage.completion_tokens)],
    reply.finish && [t("Finish reason"), reply.finish]].filter(Boolean)));
  const ours = reply.headers.filter(([name]) => headerNames.has(name));
  byId("headers").hidden = !ours.length;
  byId("headers").lastElementChild.replaceChildren(...pairs(ours));
  byId("progress").textContent =
    reply.total === null ? reply.first === null ? t("Waiting for the first token") : t("Answering")
      : reply.stopped ? t("Stopped") : reply.error ? t("Failed") : t("Done");
}

/** Shows a reply that still grows at the next frame, however many deltas come before it. */
function showSoon(reply) {
  last = reply;
  soon ??= requestAnimationFrame(() => {
    soon = null;
    show(last);
  });
}

/** Shows the form again, after a change of the language, the key or the models. */
export function showTry(here) {
  headerNames = new Set(here.reference.headers.map(({name}) => name));
  const select = byId("model");
  const ids = here.models.length ? here.models.map(({id}) => id) : [here.model];
  const chosen = ids.includes(select.value) ? select.value : here.model;
  select.replaceChildren(...ids.map((id) => el("option", {}, id)));
  select.value = chosen;
  showCurl(here);
  if (last) show(last);
  else byId("said").replaceChildren(el("p", {class: "hint"}, t("The answer appears here as it arrives.")));
}

/** Makes the form work; here() gives base, shownKey, key; after(reply) is called when a chat is over. */
export function startTry(here, after) {
  const form = byId("chat");
  byId("message").value = PLAIN;
  form.addEventListener("input", () => showCurl(here()));
  byId("tool").addEventListener("change", ({target}) => {
    const [before, now] = target.checked ? [PLAIN, FOR_TOOL] : [FOR_TOOL, PLAIN];
    if (byId("message").value === before) byId("message").value = now;
    showCurl(here());
  });
  byId("message").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  byId("stop").addEventListener("click", () => running?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    const began = performance.now();
    const clock = setInterval(() => {
      byId("clock").textContent = seconds(Math.round((performance.now() - began) / 100) * 100);
    }, 100);
    busy(true);
    const {base, key} = here();
    const reply = await send(`${base}/chat/completions`, key, chat(), running.signal, showSoon);
    running = null;
    clearInterval(clock);
    byId("clock").textContent = "";
    busy(false);
    show(reply);
    after(reply);
  });
}

function busy(on) {
  const [from, to] = on ? [byId("send"), byId("stop")] : [byId("stop"), byId("send")];
  const focused = document.activeElement === from;
  byId("answer").setAttribute("aria-busy", on);
  to.disabled = false;
  if (focused) to.focus();  // a disabled button would lose it
  from.disabled = true;
}
