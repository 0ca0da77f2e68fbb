// The chat: its turns, which last as long as the tab, and the form that adds one.

import {keep, kept} from "./keep.js";
import {block, byId, el} from "./make.js";
import {t} from "./words.js";

const OPTIONS = ["system", "max", "effort", "temperature"], SWITCHES = ["stream", "json", "tool"];
const CHOICES = [...OPTIONS, ...SWITCHES, "dialect", "message"];
const OURS = /^(x-cursor2api-.*|x-request-id|request-id|server-timing|retry-after|x-should-retry)$/;

let turns = [];       // {role: "user", text, pictures}, or a reply as send.js makes it with its `dialect` and `model`
let running = null;   // what stops the reply that is on its way
let left = false;     // the page: what its end makes of a reply is not kept
let part = null;      // talk.js, once it is asked for

const talk = () => part ??= import("./talk.js").catch((error) => {
  part = null;
  throw error;
});

/** The turns that the last reply answers. */
const asking = () => turns.at(-1)?.role === "assistant" ? turns.slice(0, -1) : turns;

const chosen = (id) => SWITCHES.includes(id) ? byId(id).checked : byId(id).value;

/** What the form and the turns ask for. */
function asked(upTo) {
  const {max, temperature, ...rest} = Object.fromEntries([...OPTIONS, ...SWITCHES].map((id) => [id, chosen(id)]));
  return {...rest, system: rest.system.trim(), model: byId("model").value, turns: upTo, max: Number(max) || 0,
    temperature: temperature === "" ? null : Number(temperature)};
}

function save() {
  if (left) return;
  const lasting = turns.map((turn) => turn.role === "user" || turn.total !== null ? turn
    : {...turn, stopped: true, cut: true, total: 0});  // it ends with the page
  const whole = keep("sessionStorage", "turns", JSON.stringify(lasting));
  if (!whole) keep("sessionStorage", "turns", JSON.stringify(lasting.map((turn) => ({...turn, pictures: []}))));
  keep("sessionStorage", "form", JSON.stringify(Object.fromEntries(CHOICES.map((id) => [id, chosen(id)]))));
}

function restore() {
  try {
    turns = JSON.parse(kept("sessionStorage", "turns")) ?? [];
    for (const [id, value] of Object.entries(JSON.parse(kept("sessionStorage", "form")) ?? {}))
      if (SWITCHES.includes(id)) byId(id).checked = value;
      else byId(id).value = value;
  } catch {
    turns = [];
  }
}

/** Makes a change to the turns, and stays at their end if the reader is there. */
function following(change) {
  const box = byId("turns"), atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  change();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

/** Makes the chat work; `here` gives base, key, shownKey and upstream, `after` hears of each reply that is over. */
export function startChat(here, after) {
  const box = byId("turns"), form = byId("chat");

  async function view(turn) {
    const {answer, question} = await talk();
    if (turn.role === "user") {
      const element = question(turn);
      box.append(element);
      return {element};
    }
    const made = answer(turn, {
      names: OURS, boots: here().upstream === "cloud", last: turn === turns.at(-1), around: following, again, goOn,
      tell: (text) => { byId("progress").textContent = text; }});
    box.append(made.element);
    made.show();
    return made;
  }

  async function showAll() {
    box.replaceChildren(...turns.length ? [] : [el("p", {class: "hint"}, t("The answer appears here as it arrives."))]);
    for (const turn of turns) await view(turn);
    box.scrollTop = box.scrollHeight;
    byId("progress").textContent = "";
  }

  async function showCurl() {
    if (!byId("as-curl").open) return;
    const {asCurl, request} = await talk();
    const draft = {role: "user", text: byId("message").value || t("Hello"), pictures: []};
    const {base, shownKey} = here();
    const upTo = !turns.length || byId("message").value ? [...turns, draft] : asking();
    byId("as-curl").lastElementChild.replaceChildren(
      block(t("This request as curl"), asCurl(await request(base, chosen("dialect"), asked(upTo)), shownKey)));
  }

  /** Asks for a reply to the turns there are. */
  async function reply() {
    const {nothing, request, send} = await talk();
    const dialect = chosen("dialect"), {base, key} = here(), made = await request(base, dialect, asked(turns));
    const turn = nothing();
    for (const field of box.querySelectorAll(".call textarea")) field.readOnly = true;
    turns.push(turn);
    const {show, soon} = await view(turn);
    box.scrollTop = box.scrollHeight;
    save();
    await send(made, dialect, key, turn, running.signal, soon);
    show();
    save();
    showCurl();
    after(turn);
  }

  const again = () => alone(async () => {
    turns = asking();
    await showAll();
    byId("message").focus();
    await reply();
  });

  /** Asks for the reply to the results of a tool. */
  const goOn = () => alone(async () => {
    byId("message").focus();
    await reply();
  });

  /** Does what asks for a reply, unless one is on its way. */
  async function alone(work) {
    if (running) return;
    running = new AbortController();
    busy(true);
    try {
      await work();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      unreachable();
    } finally {
      running = null;
      busy(false);
    }
  }

  function unreachable() {
    byId("progress").textContent = t("The service did not answer.");
    box.append(el("p", {class: "wrong", role: "alert"}, t("The service did not answer.")));
  }

  const say = () => alone(async () => {
    const {havePictures, takePictures} = await talk();
    const text = byId("message").value.trim();
    if (!text && !havePictures()) return byId("message").focus();
    if (!turns.length) box.replaceChildren();
    const turn = {role: "user", text, pictures: takePictures()};
    turns.push(turn);
    byId("message").value = "";
    await view(turn);
    await reply();
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    say();
  });
  form.addEventListener("input", showCurl);
  byId("as-curl").addEventListener("toggle", showCurl);
  byId("message").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  byId("stop").addEventListener("click", () => running?.abort());
  byId("new-chat").addEventListener("click", () => {
    running?.abort();
    turns = [];
    showAll();
    save();
    showCurl();
    byId("message").focus();
  });
  const add = async (files) => {
    if (files.length) (await talk()).addPictures([...files]);
  };
  byId("file").addEventListener("change", ({target}) => {
    add(target.files).then(() => { target.value = ""; });
  });
  byId("message").addEventListener("paste", (event) => {
    const {files} = event.clipboardData;
    if (files.length) event.preventDefault();
    add(files);
  });
  form.addEventListener("dragover", (event) => event.preventDefault());
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    add(event.dataTransfer.files);
  });
  form.addEventListener("focusin", () => talk().catch(() => {}), {once: true});
  addEventListener("pagehide", () => {
    save();
    left = true;
  });
  addEventListener("pageshow", () => { left = false; });
  restore();
  return showAll();
}

function busy(on) {
  const [from, to] = on ? [byId("send"), byId("stop")] : [byId("stop"), byId("send")];
  const focused = document.activeElement === from;
  to.hidden = false;
  if (focused) to.focus();  // one that is hidden would lose it
  from.hidden = true;
}
