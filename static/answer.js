// One turn of a chat as elements: what the reader wrote, or a reply that may still grow.

import {drawing} from "./draw.js";
import {button, copies, el, pairs, pre} from "./make.js";
import {RESULT} from "./tool.js";
import {number, t} from "./words.js";

const SILENT_MS = 3000;  // after which a machine that boots is told of
const REST = 3;          // times as long as it took to show a reply, before it is shown again

const seconds = (ms) => number(ms / 1000, {style: "unit", unit: "second", unitDisplay: "narrow", maximumFractionDigits: 2});

export const question = ({text, pictures}) => el("article", {class: "turn user", "aria-label": t("You")},
  el("p", {class: "text", dir: "auto"}, text), pictures.length ? el("p", {class: "shown"}, pictures.map(picture)) : []);

/** A picture as a canvas: the page's policy lets no picture come from a data: URL. */
export function picture(url) {
  const canvas = el("canvas", {role: "img", "aria-label": t("Picture")});
  draw(canvas, url);
  return canvas;
}

async function draw(canvas, url) {
  const [, type, data] = /^data:([^;]+);base64,(.*)$/.exec(url);
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  try {
    const image = await createImageBitmap(new Blob([bytes], {type}));
    const scale = Math.min(1, 160 / Math.max(image.width, image.height));
    Object.assign(canvas, {width: image.width * scale || 1, height: image.height * scale || 1});
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  } catch {
    canvas.setAttribute("aria-label", t("Picture that cannot be shown"));
  }
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;  // arguments that are still on their way
  }
}

/** What went wrong, in a sentence. */
export const sentence = (error) => typeof error === "string" ? error : error.error?.message ?? JSON.stringify(error);

const failure = (error) => el("div", {class: "failed"}, el("p", {class: "wrong", role: "alert"}, sentence(error)),
  typeof error === "string" ? [] : el("details", {}, el("summary", {}, t("The error as JSON")),
    pre(t("Error"), "error", JSON.stringify(error, null, 2))));

/** Where a reply is; `boots` says whether its first token may take a machine's start. */
function stage(reply, boots, waited) {
  if (reply.cut) return t("Cut off when the page was left");
  if (reply.total !== null) return reply.stopped ? t("Stopped") : reply.error ? t("Failed") : t("Done");
  if (reply.first !== null) return t("Answering");
  return boots && waited >= SILENT_MS ? t("A machine boots at Cursor, which takes about a minute.")
    : t("Waiting for the first token");
}

/** A call of a tool, once it is whole with a field for its result. */
function shownCall(call, whole, open) {
  const name = el("p", {}, el("span", {class: "tag"}, t("Tool call")), " ", el("code", {}, call.name));
  const asked = pre(t("Arguments"), undefined, pretty(call.arguments));
  if (!whole) return el("div", {class: "call"}, name, asked);
  call.result ??= RESULT;
  const field = el("textarea", {rows: "2", readonly: !open, oninput: () => { call.result = field.value; }});
  field.value = call.result;
  return el("div", {class: "call field"}, name, asked, el("label", {}, t("Its result"), field));
}

/**
 * The element of a reply, with show() to bring it up to date now and soon() to do so before long. `around(change)` is
 * called for each change, `again` makes the reply once more, `goOn` sends the results of its calls, `tell` hears in words
 * where the reply is. While it is the `last` of its chat the results can be written.
 */
export function answer(reply, {names, boots, last, around, again, goOn, tell}) {
  const thinking = el("p", {}), text = el("div", {class: "text", dir: "auto"}), calls = el("div"), wrong = el("div");
  const said = new Text();
  thinking.append(said);
  const folded = el("details", {class: "thinking", hidden: true}, el("summary", {}, t("Thinking")), thinking);
  const state = el("span"), clock = el("span", {"aria-hidden": "true"});
  const measures = el("dl", {class: "facts small"});
  const headers = el("details", {class: "headers", hidden: true},
    el("summary", {}, t("Headers that this service added")), el("dl"));
  const actions = el("div", {class: "actions", hidden: true},
    copies(button("", undefined), () => reply.text, t("Copy the answer")), button(t("Try again"), again, "quiet again"));
  const sending = button(t("Send the result"), goOn, "strong again");
  const element = el("article", {class: "turn assistant", "aria-label": t("Answer")},
    folded, text, calls, wrong, el("p", {class: "progress"}, state, clock), measures, actions, headers);
  const draw = drawing(text), began = performance.now();
  let drawn = "", called = "", due = 0, waiting = null, ticking = null;

  function show() {
    clearTimeout(waiting);
    waiting = null;
    const start = performance.now();
    around(update);
    due = performance.now() + REST * (performance.now() - start);
  }

  function soon() {
    waiting ??= setTimeout(() => document.hidden ? show() : requestAnimationFrame(() => waiting === null || show()),
      Math.max(0, due - performance.now()));
  }

  function tick() {
    const waited = performance.now() - began;
    const told = stage(reply, boots, waited);
    if (state.textContent !== told) {
      state.textContent = told;
      tell(told);
    }
    clock.textContent = reply.total === null ? seconds(Math.round(waited / 100) * 100) : "";
  }

  function update() {
    if (reply.total === null) ticking ??= setInterval(tick, 100);
    else clearInterval(ticking);
    element.setAttribute("aria-busy", reply.total === null);
    if (reply.thinking.length > said.data.length) said.appendData(reply.thinking.slice(said.data.length));
    folded.hidden = !reply.thinking;
    if (reply.text !== drawn) draw(reply.text);
    drawn = reply.text;
    const whole = reply.total !== null && !reply.error && !reply.stopped;
    const written = JSON.stringify([whole, reply.calls]);
    if (written !== called)
      calls.replaceChildren(...reply.calls.map((call) => shownCall(call, whole, last)), whole && reply.calls.length ? sending : "");
    called = written;
    if (reply.error && !wrong.firstChild) wrong.append(failure(reply.error));
    tick();
    const header = Object.fromEntries(reply.headers);
    measures.replaceChildren(...pairs([
      reply.status && [t("Status"), String(reply.status)],
      header["x-cursor2api-agent"] && [t("Agent"), header["x-cursor2api-agent"]],
      reply.first !== null && [t("First token"), seconds(reply.first)],
      reply.total !== null && !reply.cut && [t("Total"), seconds(reply.total)],
      reply.usage && [t("Tokens in"), number(reply.usage.in ?? 0)],
      reply.usage && [t("Cached"), number(reply.usage.cached ?? 0)],
      reply.usage && [t("Tokens out"), number(reply.usage.out ?? 0)],
      reply.finish && [t("Finish reason"), reply.finish]].filter(Boolean)));
    const ours = reply.headers.filter(([name]) => names.test(name));
    headers.hidden = !ours.length;
    if (headers.lastElementChild.childElementCount !== ours.length)
      headers.lastElementChild.replaceChildren(...pairs(ours));
    actions.hidden = reply.total === null;
  }

  return {element, show, soon};
}
