// The page: what it knows of the service, when it asks, and what it then shows anew.

import {showExamples} from "./examples.js";
import {byId, copies, el, pairs, pre} from "./make.js";
import {showModels} from "./models.js";
import {showTables} from "./tables.js";
import {showTry, startTry} from "./try.js";
import {number, preferred, rich, speak, t} from "./words.js";

const LOOK_MS = 15_000;
const DEFAULT_KEY = "0000";
const WRITTEN_MODEL = "claude-sonnet-4-5-20250929";
const onLoopback = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(location.hostname);

const state = {reference: null, running: null, clock: 0, ready: null, key: "", models: [], error: null};

/** What the other parts show of the state. */
function here() {
  const ids = state.models.map(({id}) => id);
  return {
    ...state,
    base: new URL("v1", location.origin + location.pathname).href,
    shownKey: defaultShown() ? DEFAULT_KEY : "YOUR_KEY",
    model: !ids.length || ids.includes(WRITTEN_MODEL) ? WRITTEN_MODEL : ids[0]};
}

const defaultShown = () => onLoopback && Boolean(state.reference?.default_key);

/** {status, body} of a GET; without an answer the status is 0, and what is not JSON is a text. */
async function ask(path) {
  const headers = state.key ? {Authorization: `Bearer ${state.key}`} : {};
  const response = await fetch(path, {cache: "no-cache", headers}).catch(() => null);
  const text = await response?.text().catch(() => "") ?? "";
  try {
    return {status: response?.status ?? 0, body: JSON.parse(text)};
  } catch {
    return {status: response?.status ?? 0, body: text};
  }
}

// What changes by itself: whether the service answers, and for how long it has run.

async function look() {
  const before = state.running;
  const [{status, body}, ready] = await Promise.all([ask("health"), state.key && ask("ready")]);
  state.running = status === 200;
  state.ready = ready || null;
  if (state.running) state.clock = body.timestamp;
  if (state.running && !before) await learn();
  showState();
}

async function learn() {
  const {status, body} = await ask("reference.json");
  state.running = status === 200;
  if (!state.running) return;
  state.reference = body;
  if (!state.key && defaultShown()) state.key = DEFAULT_KEY;
  showAll();
  await useKey();
}

async function useKey() {
  const {key} = state;
  const [models, ready] = await Promise.all([key && ask("v1/models"), key && ask("ready")]);
  if (key !== state.key) return;
  state.models = models?.status === 200 ? models.body.data : [];
  state.error = models && ![0, 200].includes(models.status) ? models : null;
  state.ready = ready || null;
  showAll();
}

function uptime() {
  const ran = Math.max(0, state.clock - state.reference.started);
  const [unit, length] = [["day", 86400], ["hour", 3600], ["minute", 60]]
    .find(([, length]) => ran >= length) ?? ["second", 1];
  return number(Math.floor(ran / length), {style: "unit", unit, unitDisplay: "long"});
}

function showState() {
  const {reference, running, ready} = state;
  const [word, headline] = running === null ? ["asking", "Cursor2API"]
    : running ? ["running", t("Cursor2API is running")] : ["gone", t("Cursor2API does not answer")];
  document.body.dataset.state = word;
  document.title = word === "gone" ? headline : "Cursor2API";
  if (byId("headline-text").textContent !== headline) byId("headline-text").textContent = headline;
  if (!reference) return;
  const upstream = reference.upstream;
  document.body.dataset.upstream = upstream ?? "none";
  byId("banner").hidden = upstream !== "simulator" && upstream !== null;
  const [what, why] = upstream === "simulator"
    ? [t("Simulator"), rich(
      "Replies are made-up text; no model is asked. Set `CURSOR_API_KEY` and start again to use Cursor.")]
    : [t("No upstream"), rich("Chats cannot be answered. Set `CURSOR_API_KEY` and start again.")];
  byId("banner").replaceChildren(el("strong", {}, what), " ", ...why);
  byId("facts").replaceChildren(...pairs([
    [t("Upstream"), el("span", {class: "upstream"}, {
      cloud: "Cursor (cloud)", sdk: "Cursor (SDK)", uistream: t("UI message stream"), simulator: t("Simulator"),
    }[upstream] ?? t("none"))],
    [t("Version"), reference.version],
    [t("Up for"), running ? uptime() : "–"],
    ...running && ready ? [[t("Ready"), ready.status === 200 ? t("yes")
      : el("span", {class: "wrong"}, `${t("no")}: ${ready.body.reason ?? ready.status}`)]] : []]));
}

// What changes with the key and the language.

function showConnect() {
  const {base} = here();
  byId("base").textContent = base;
  for (const input of document.querySelectorAll("[data-key]")) {
    if (document.activeElement !== input) input.value = state.key;
    input.type = defaultShown() && input.value === DEFAULT_KEY ? "text" : "password";
    input.setAttribute("aria-invalid", state.error?.status === 401);
  }
  document.querySelector("[data-copy=key]").hidden = !state.key;
  byId("key-hint").replaceChildren(...defaultShown()
    ? rich("`0000` is the default key; it serves this machine only. Set `API_KEY` before others connect.")
    : state.reference?.default_key
      ? rich("The default key serves only the machine that runs the service. Set `API_KEY` to a key of your own.")
      : rich("A value of `API_KEY`. It stays in this tab and is sent to this service only."));
  const refused = [401, 403].includes(state.error?.status);
  byId("key-wrong").hidden = !refused;
  byId("key-wrong").textContent = refused ? state.error.body.error?.message ?? state.error.status : "";
}

function showModelsOrWhyNot() {
  if (state.models.length) showModels(here(), (id) => {
    byId("model").value = id;
    byId("model").dispatchEvent(new Event("input", {bubbles: true}));
    byId("message").focus();
    byId("try").scrollIntoView();
  });
  else byId("models-body").replaceChildren(state.error
    ? pre(t("Error"), "error", JSON.stringify(state.error.body, null, 2))
    : el("p", {class: "empty"}, t("Enter a key above to see the models."), " ",
      el("button", {type: "button", class: "quiet", onclick: () => byId("key").focus()}, t("Enter a key"))));
}

function showAll() {
  showState();
  showConnect();
  if (!state.reference) return;
  showExamples(byId("start-examples"), here());
  showModelsOrWhyNot();
  showTry(here());
  showTables(state.reference);
}

async function changeLanguage(wanted) {
  await speak(wanted);
  for (const button of document.querySelectorAll("[data-copy]")) button.replaceChildren(t("Copy"));
  showAll();
}

for (const button of document.querySelectorAll("[data-copy]"))
  copies(button, () => byId(button.dataset.copy).value);
for (const button of document.querySelectorAll("[data-language]"))
  button.addEventListener("click", () => {
    localStorage.setItem("language", button.dataset.language);
    changeLanguage(button.dataset.language);
  });
for (const input of document.querySelectorAll("[data-key]"))
  input.addEventListener("change", () => {
    state.key = input.value.trim();
    sessionStorage.setItem("key", state.key);
    useKey();
  });
byId("key-form").addEventListener("submit", (event) => event.preventDefault());

state.key = sessionStorage.getItem("key") ?? "";
startTry(here, (reply) => { if (reply.error && reply.status === null) look(); });
setInterval(() => { if (!document.hidden) look(); }, LOOK_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
await changeLanguage(preferred());
look();
