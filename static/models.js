// The models as cards, and one of them in a dialog.

import {showExamples} from "./examples.js";
import {byId, el, pairs} from "./make.js";
import {number, t} from "./words.js";

const THINKING = "-thinking";

/** The base models, each with its thinking twin, of what /v1/models lists. */
function grouped(models) {
  const known = new Map(models.map((model) => [model.id, model]));
  return models.filter(({id}) => !(id.endsWith(THINKING) && known.has(id.slice(0, -THINKING.length))))
    .map((model) => ({model, twin: known.get(model.id + THINKING)}));
}

/** Shows the cards; `use` is called with the id that the reader wants to try. */
export function showModels(here, use) {
  byId("models-body").replaceChildren(el("ul", {class: "cards"}, grouped(here.models).map(({model, twin}) =>
    el("li", {}, el("button", {type: "button", onclick: () => open(model, twin, here, use)},
      el("span", {class: "id"}, model.id),
      el("span", {class: "meta"}, t("{owner} · {size} tokens of context", {
        owner: model.owned_by, size: size(model.context_window)})),
      twin ? el("span", {class: "tag"}, "+ " + THINKING) : [])))));
}

const size = (tokens) => number(tokens, {notation: "compact"});

function open(model, twin, here, use) {
  const dialog = byId("details");
  let shown = model;
  const title = el("h2", {id: "details-title"});
  const list = el("dl", {class: "facts small"});
  const examples = el("div");
  const choices = [[model, t("base")], ...twin ? [[twin, t("thinking")]] : []].map(([one, name]) =>
    el("label", {}, el("input", {
      type: "radio", name: "variant", checked: one === model, onchange: () => show(one)}), el("span", {}, name)));

  function show(one) {
    shown = one;
    title.textContent = one.id;
    list.replaceChildren(...pairs([
      [t("Owner"), one.owned_by], [t("Context window"), number(one.context_window)],
      [t("Longest reply"), number(one.max_tokens)],
      [t("Listed since"), new Date(one.created * 1000).toLocaleString(document.documentElement.lang)]]));
    showExamples(examples, {...here, model: one.id});
  }

  show(model);
  dialog.replaceChildren(
    el("div", {class: "top"}, title,
      el("button", {type: "button", class: "quiet", onclick: () => dialog.close()}, t("Close"))),
    el("fieldset", {class: "tasks"}, el("legend", {class: "aside"}, t("Variant")), choices), list, examples,
    el("div", {class: "actions"}, el("button", {type: "button", class: "strong", onclick: () => {
      dialog.close();
      use(shown.id);
    }}, t("Try this model"))));
  dialog.showModal();
}
