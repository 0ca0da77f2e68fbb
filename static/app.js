// The page: what it knows of the service, when it asks, and what it then shows anew.

import {ask} from "./ask.js";
import {showExamples} from "./examples.js";
import {keep, kept} from "./keep.js";
import {byId, copies, el, failure, pairs} from "./make.js";
import {showModels} from "./models.js";
import {showTables} from "./tables.js";
import {showTry, startTry} from "./try.js";
import {number, preferred, rich, speak, t} from "./words.js";

const LOOK_MS = 15_000;
const DEVELOPMENT_KEY = "0000";
const WRITTEN_MODEL = "claude-sonnet-4-5-20250929";
const onLoopback = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(location.hostname);

/** `asked` is the key that the models were last asked for with, `error` what came in their place. */
const state = {
  reference: null, running: null, clock: 0, ready: null, key: kept("sessionStorage", "key") ?? "", asked: "",
  models: [], error: null};

/** What the other parts show of the state. */
function here() {
  const ids = state.models.map(({id}) => id);
  return {
    ...state,
    base: new URL("v1", location.origin + location.pathname).href,
    shownKey: keyIsKnown() ? DEVELOPMENT_KEY : "YOUR_KEY",
    model: !ids.length || ids.includes(WRITTEN_MODEL) ? WRITTEN_MODEL : ids[0]};
}

const keyIsKnown = () => onLoopback && state.reference?.keys === "development";

// What changes by itself, or with a restart.

/** What a reference tells, without what differs from worker to worker. */
const told = ({started, ...more}) => JSON.stringify(more);

const refused = (error) => [401, 403].includes(error?.status);

async function look() {
  const [health, about, ready] = await Promise.all([ask("health"), ask("reference.json"), ask("ready"), words]);
  const {running: ran, reference: known} = state;
  state.running = health.status === 200;
  state.ready = ready;
  if (state.running) state.clock = health.body.timestamp;
  if (about.status === 200) state.reference = about.body;
  const changed = told(state.reference ?? {}) !== told(known ?? {});
  if (changed && !state.key && keyIsKnown()) state.key = DEVELOPMENT_KEY;
  if (changed) showAll();
  else showState();
  const mended = ready.status === 200 && state.error && !refused(state.error);
  if (state.running && (ran === false || changed && known || mended || state.key !== state.asked)) await useKey();
}

async function useKey() {
  const {key} = state;
  state.asked = key;
  const models = key ? await ask("v1/models", key) : null;
  await words;
  if (key !== state.key) return;
  state.models = models?.status === 200 ? models.body.data : [];
  state.error = models && models.status !== 200 ? models : null;
  showKey();
  const count = document.querySelectorAll(".cards li").length;
  byId("spoken").textContent = count ? t("Models: {count}", {count}) : "";
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
    ...running ? [[t("Ready"), ready.status === 200 ? t("yes") : el("span", {class: "wrong"},
      t("no"), ": ", ready.body.reason ?? (ready.status || t("The service did not answer.")))]] : []]));
}

// What changes with the key and the language.

function keyHint() {
  if (state.reference?.keys === "none")
    return rich("`API_KEY` is not set, so no key is good. Set it to a key of your own and start again.");
  if (state.reference?.keys !== "development")
    return rich("A value of `API_KEY`. It stays in this tab and is sent to this service only.");
  return onLoopback
    ? rich("`0000` is the key of `make run`: good for this page, and for programs of its user on this machine.")
    : rich("The key of `make run` is for its user's programs on its machine. Set `API_KEY` to a key of your own.");
}

function showConnect() {
  const {base} = here();
  byId("base").textContent = base;
  for (const input of document.querySelectorAll("[data-key]")) {
    if (document.activeElement !== input) input.value = state.key;
    input.type = keyIsKnown() && input.value === DEVELOPMENT_KEY ? "text" : "password";
    input.setAttribute("aria-invalid", state.error?.status === 401);
  }
  document.querySelector("[data-copy=key]").hidden = !state.key;
  byId("key-hint").replaceChildren(...keyHint());
  byId("key-wrong").hidden = !refused(state.error);
  byId("key-wrong").textContent =
    refused(state.error) ? state.error.body.error?.message ?? state.error.status : "";
}

function showModelsOrWhyNot() {
  if (state.models.length) showModels(here(), (id) => {
    byId("model").value = id;
    byId("model").dispatchEvent(new Event("input", {bubbles: true}));
    byId("message").focus();
    byId("try").scrollIntoView();
  });
  else byId("models-body").replaceChildren(state.error
    ? failure(state.error.body || t("The service did not answer."))
    : el("p", {class: "empty"}, t("Enter a key above to see the models."), " ",
      el("button", {type: "button", class: "quiet", onclick: () => byId("key").focus()}, t("Enter a key"))));
}

function showKey() {
  showConnect();
  if (!state.reference) return;
  showExamples(byId("start-examples"), here());
  showModelsOrWhyNot();
  showTry(here());
}

function showAll() {
  showState();
  showKey();
  if (state.reference) showTables(state.reference);
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
    keep("localStorage", "language", button.dataset.language);
    changeLanguage(button.dataset.language);
  });
for (const input of document.querySelectorAll("[data-key]"))
  input.addEventListener("change", () => {
    state.key = input.value.trim();
    keep("sessionStorage", "key", state.key);
    useKey();
  });
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey();
});

startTry(here, (reply) => { if (reply.error && reply.status === null) look(); });
setInterval(() => { if (!document.hidden) look(); }, LOOK_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
const words = changeLanguage(preferred());  // nothing is shown before its words are there
look();
if (state.key) useKey();
