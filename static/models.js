// The models, grouped by who made them.

import {button, byId, copies, el} from "./make.js";
import {number, t} from "./words.js";

const THINKING = "-thinking";
const FEW = 12;  // models that are all shown at once; of more, those of one vendor
const VENDORS = [["Anthropic", /claude|opus|sonnet|haiku/], ["OpenAI", /gpt|codex|^o\d/], ["Google", /gemini|gemma/],
  ["xAI", /grok/], ["Cursor", /cursor|composer|^auto$|^default$/]];
export const vendor = (id) => VENDORS.find(([, made]) => made.test(id))?.[0] ?? t("Others");

/** A name for people from an id: claude-sonnet-4-5-20250929 is Claude Sonnet 4.5. */
export function display(id) {
  return id.replace(/-\d{8}$/, "").replace(/(\d)-(?=\d)/g, "$1.").split("-").map((word) =>
    /^(gpt|glm)$/.test(word) ? word.toUpperCase() : word.charAt(0).toUpperCase() + word.slice(1)).join(" ");
}

/** The base models, each with its thinking twin, of what /v1/models lists. */
function paired(models) {
  const known = new Map(models.map((model) => [model.id, model]));
  return models.filter(({id}) => !(id.endsWith(THINKING) && known.has(id.slice(0, -THINKING.length))))
    .map((model) => ({model, twin: known.get(model.id + THINKING)}));
}

/** Shows the models that hold the words of a search; `use` is called with the id that the reader wants to try. */
export function showModels(here, search, use) {
  const words = search.toLowerCase().split(/\s+/);
  const groups = grouped(matching(here.models, words));
  const order = [...VENDORS.map(([name]) => name), t("Others")];
  const found = [...groups].sort(([one], [other]) => order.indexOf(one) - order.indexOf(other));
  const open = search !== "" || found.flatMap(([, list]) => list).length <= FEW;
  byId("models-body").replaceChildren(...found.length ? found.map(([name, list], n) => el("details",
    {class: "vendor", open: open || n === 0},
    el("summary", {}, el("h3", {}, name, " ", el("span", {class: "count"}, String(list.length)))),
    el("ul", {class: "models"}, list.map((each) => row(each, here, use)))))
    : [el("p", {class: "empty"}, t("No model has this in its name."))]);
}

const matching = (models, words) => paired(models).filter(({model: {id}}) =>
  words.every((word) => `${id} ${display(id)} ${vendor(id)}`.toLowerCase().includes(word)));

function grouped(list) {
  const groups = new Map();
  for (const each of list) groups.set(vendor(each.model.id), [...groups.get(vendor(each.model.id)) ?? [], each]);
  return groups;
}

function row({model, twin}, here, use) {
  const pill = (one, name) => button(name, async () => {
    const {open} = await import("./details.js");
    open(model, twin, one, here, use);
  }, "pill",
    {"aria-label": `${name}: ${model.id}`});
  return el("li", {},
    el("span", {class: "model"}, el("span", {class: "display"}, display(model.id)), el("code", {class: "id"}, model.id)),
    el("span", {class: "meta"}, t("{size} context", {size: number(model.context_window, {notation: "compact"})}),
      " · ", t("pictures: {answer}", {answer: here.pictures ? t("yes") : t("no")})),
    el("span", {class: "pills"}, pill(model, t("base")), twin ? pill(twin, t("thinking")) : [],
      copies(button("", undefined, "quiet", {"aria-label": t("Copy {id}", {id: model.id})}), () => model.id)));
}
