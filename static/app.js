// The page: what it knows of the service, when it asks, and what it then shows anew.

import {ask} from "./ask.js";
import {startChat} from "./chat.js";
import {showExamples} from "./examples.js";
import {keep, kept} from "./keep.js";
import {button, byId, copies, el, pairs} from "./make.js";
import {showModels} from "./models.js";
import {arrive, dress, own} from "./parts.js";
import {learn, number, rich, t} from "./words.js";

const LOOK_MS = 4_000;      // between two looks at the service
const ASKED_MS = 12_000;    // within which the service has asked its upstream anew
const DEVELOPMENT_KEY = "0000";
const WRITTEN_MODEL = "claude-sonnet-4-5-20250929";
const CLEAN_KEY = /^[\w.~+/=:@-]+$/;  // one that means the same in a shell and in each language
const onLoopback = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(location.hostname);

/** `asked` is the key that the models were last asked for with, `error` what came in their place, `trouble` what the
 * upstream made of the last reply, as {why, until} in the page's milliseconds. */
const state = {
  about: null, running: null, clock: 0, ready: null, key: kept("sessionStorage", "key") ?? "", asked: "",
  models: [], error: null, trouble: null, looking: false, model: kept("sessionStorage", "model") ?? ""};

const keyIsKnown = () => onLoopback && state.about?.keys === "development";
const refused = (error) => [401, 403].includes(error?.status);

/** What the other parts show of the state. */
function here() {
  const ids = state.models.map(({id}) => id);
  const model = ids.includes(state.model) ? state.model
    : !ids.length || ids.includes(WRITTEN_MODEL) ? WRITTEN_MODEL : ids[0];
  const base = new URL("v1", location.origin + location.pathname).href;
  const shownKey = CLEAN_KEY.test(state.key) ? state.key : "YOUR_KEY";
  const upstream = state.about?.upstream;
  return {key: state.key, models: state.models, base, shownKey, model, upstream, pictures: upstream !== "uistream",
    own: {address: base.replace(/\/v1$/, ""), key: shownKey, model}};
}

// What changes by itself, or with a restart.

/** What the service tells of itself, without what differs from worker to worker. */
const told = ({started, ...more}) => JSON.stringify(more);

async function look() {
  state.looking = true;
  const [health, about, ready] = await Promise.all([ask("health"), ask("static/state.json"), ask("ready"), words]);
  state.looking = false;
  const {running: ran, about: known} = state;
  state.running = health.status === 200;
  state.ready = ready;
  if (state.running) state.clock = health.body.timestamp;
  if (about.status === 200) state.about = about.body;
  const changed = told(state.about ?? {}) !== told(known ?? {});
  if (changed && !state.key && keyIsKnown()) state.key = DEVELOPMENT_KEY;
  showState();
  if (changed) showKey();
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
  const count = document.querySelectorAll(".models li").length;
  byId("spoken").textContent = count ? t("Models: {count}", {count}) : "";
}

function uptime() {
  const ran = Math.max(0, state.clock - state.about.started);
  const [unit, length] = [["day", 86400], ["hour", 3600], ["minute", 60]]
    .find(([, length]) => ran >= length) ?? ["second", 1];
  return number(Math.floor(ran / length), {style: "unit", unit, unitDisplay: "long"});
}

/** Whether a chat would be answered, as the service says and as the last one showed. */
function readiness() {
  const {ready, trouble} = state;
  const why = ready.status !== 200 ? ready.body.reason ?? (ready.status || t("The service did not answer."))
    : trouble && performance.now() < trouble.until && t("the last reply failed: {why}", trouble);
  return why ? el("span", {class: "wrong"}, t("no"), ": ", why) : t("yes");
}

function showState() {
  const {about, running} = state;
  const [word, headline] = running === null ? ["asking", "Cursor2API"]
    : running ? ["running", t("Cursor2API is running")] : ["gone", t("Cursor2API does not answer")];
  document.body.dataset.state = word;
  document.title = word === "gone" ? headline : "Cursor2API";
  if (byId("headline-text").textContent !== headline) byId("headline-text").textContent = headline;
  if (!about) return;
  const {upstream} = about;
  document.body.dataset.upstream = upstream ?? "none";
  byId("banner").hidden = upstream !== "simulator" && upstream !== null;
  const [what, why] = upstream === "simulator"
    ? [t("Simulator"), rich(
      "Replies are made-up text; no model is asked. Set `CURSOR_API_KEY` and start again to use Cursor.")]
    : [t("No upstream"), rich("Chats cannot be answered. Set `CURSOR_API_KEY` and start again.")];
  byId("banner").replaceChildren(el("strong", {}, what), " ", ...why);
  showFacts(pairs([
    [t("State"), running ? t("running") : t("does not answer")],
    [t("Upstream"), el("span", {class: "upstream"}, {
      cloud: "Cursor (cloud)", sdk: "Cursor (SDK)", uistream: t("UI message stream"), simulator: t("Simulator"),
    }[upstream] ?? t("none"))],
    ...running ? [[t("Ready"), readiness()]] : [],
    [t("Up for"), running ? uptime() : "–"],
    [t("Version"), about.version]]));
}

/** What stays as it was keeps the reader's selection. */
function showFacts(rows) {
  const {children} = byId("facts");
  if (rows.length !== children.length) return byId("facts").replaceChildren(...rows);
  for (const [n, row] of rows.entries()) if (!row.isEqualNode(children[n])) children[n].replaceWith(row);
}

// What changes with the key.

function keyHint() {
  if (state.about.keys === "none")
    return rich("`API_KEY` is not set, so no key is good. Set it to a key of your own and start again.");
  if (state.about.keys !== "development")
    return rich("A value of `API_KEY`. It stays in this tab and is sent to this service only.");
  return onLoopback
    ? rich("`0000` is the key of `make run`: good for this page, and for programs of its user on this machine.")
    : rich("The key of `make run` is for its user's programs on its machine. Set `API_KEY` to a key of your own.");
}

function showConnect() {
  const input = byId("key");
  if (document.activeElement !== input) input.value = state.key;
  input.type = keyIsKnown() && input.value === DEVELOPMENT_KEY ? "text" : "password";
  input.setAttribute("aria-invalid", refused(state.error));
  document.querySelector("[data-copy=key]").hidden = !state.key;
  if (state.about) byId("key-hint").replaceChildren(...keyHint());
  byId("key-wrong").hidden = !refused(state.error);
  byId("key-wrong").textContent =
    refused(state.error) ? state.error.body.error?.message ?? state.error.status : "";
}

function use(id) {
  choose(id);
  byId("message").focus();
  byId("try").scrollIntoView();
}

function showModelsOrWhyNot() {
  byId("models-search").hidden = !state.models.length;
  if (state.models.length) return showModels(here(), byId("search").value, use);
  const why = state.error && !refused(state.error)
    ? [el("span", {class: "wrong"}, state.error.body.error?.message ?? t("The service did not answer."))]
    : [t("Enter a key above to see the models."), " ", button(t("Enter a key"), () => byId("key").focus())];
  byId("models-body").replaceChildren(el("p", {class: "empty"}, why));
}

function choose(id) {
  state.model = id;
  keep("sessionStorage", "model", id);
  showModel();
}

function showModel() {
  const {models, model, own: values} = here();
  for (const select of [byId("model"), byId("start-model")]) {
    const ids = models.length ? models.map(({id}) => id) : [model];
    if ([...select.options].map(({value}) => value).join() !== ids.join())
      select.replaceChildren(...ids.map((id) => el("option", {}, id)));
    select.value = model;
  }
  own(document.querySelector("main"), values);
}

function showKey() {
  showConnect();
  showModelsOrWhyNot();
  showModel();
}

function showClients() {
  const ending = document.documentElement.lang === "en" ? "json" : "zh.json";
  const load = async (name) => {
    const {status, body} = await ask(`static/client-${name}.${ending}`);
    return status === 200 ? body : null;
  };
  showExamples(byId("start-examples"), state.about?.clients, load, showModel);
  showModel();
}

/** What a reply says of the upstream. That of a UI message stream can be asked nothing else: there it holds until the
 * next reply. */
function after({status, error, stopped}) {
  if (stopped) return look();
  const why = error && (status === 200 || status >= 500) && (error.error?.message ?? error);
  const until = state.about?.upstream === "uistream" ? Infinity : performance.now() + ASKED_MS;
  state.trouble = why ? {why, until} : null;
  look();
}

for (const link of document.querySelectorAll("[data-language]"))
  link.addEventListener("click", () => {
    keep("localStorage", "language", link.dataset.language);
    link.search = `?language=${link.dataset.language}`;
    link.hash = location.hash;
  });
byId("key").addEventListener("change", ({target}) => {
  state.key = target.value.trim();
  keep("sessionStorage", "key", state.key);
  useKey();
});
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (byId("key").value.trim() === state.key) useKey();
});
byId("search").addEventListener("input", showModelsOrWhyNot);
for (const id of ["model", "start-model"]) byId(id).addEventListener("change", ({target}) => choose(target.value));
addEventListener("hashchange", arrive);
setInterval(() => { if (!document.hidden && !state.looking) look(); }, LOOK_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });

const words = learn("zh");  // nothing is shown before its words are there

async function start() {
  await words;
  dress();
  byId("base").textContent = here().base;
  for (const one of document.querySelectorAll("[data-copy]")) copies(one, () => byId(one.dataset.copy).value);
  const chat = startChat(here, after);
  await Promise.all([look().then(showClients), state.key && useKey(), chat]);
  if (location.hash) arrive();
  document.documentElement.dataset.arrived = "";  // from now on a link scrolls smoothly
}

const language = kept("localStorage", "language"), shown = document.documentElement.lang.slice(0, 2);
if (["en", "zh"].includes(language) && language !== shown && !location.search) location.replace(`?language=${language}${location.hash}`);
else start();
