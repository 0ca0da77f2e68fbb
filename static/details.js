// One model in a dialog: what is known of it, and the examples with its id.

import {showExamples} from "./examples.js";
import {block, button, byId, el, pairs} from "./make.js";
import {vendor} from "./models.js";
import {own} from "./parts.js";
import {moment, number, t} from "./words.js";

/** The examples once more, for another place. */
function copyOfExamples() {
  return [...byId("start-examples").querySelectorAll(".example")].map((each) => {
    const copy = each.cloneNode(true);
    copy.removeAttribute("id");
    copy.querySelector(".block").replaceWith(
      block(copy.firstChild.textContent, ...copy.querySelector("code").childNodes));
    return copy;
  });
}

/** Opens the dialog at one of a model and its thinking twin; `use` is called with the id that the reader wants to try. */
export function open(model, twin, first, here, use) {
  const dialog = byId("details");
  let shown = model;
  const title = el("h2", {id: "details-title"});
  const list = el("dl", {class: "facts small"});
  const examples = el("div", {}, copyOfExamples());
  showExamples(examples);
  const choices = [[model, t("base")], ...twin ? [[twin, t("thinking")]] : []].map(([one, name]) =>
    el("label", {}, el("input", {
      type: "radio", name: "variant", checked: one === first, onchange: () => show(one)}), el("span", {}, name)));

  function show(one) {
    shown = one;
    title.textContent = one.id;
    list.replaceChildren(...pairs([
      [t("Vendor"), vendor(one.id)], [t("Context window"), number(one.context_window)],
      [t("Longest reply"), number(one.max_tokens)], [t("Pictures"), here.pictures ? t("yes") : t("no")],
      [t("Listed since"), moment(one.created)]]));
    own(examples, {...here.own, model: one.id});
  }

  show(first);
  dialog.replaceChildren(
    el("div", {class: "top"}, title, button(t("Close"), () => dialog.close())),
    el("fieldset", {class: "tasks"}, el("legend", {class: "aside"}, t("Variant")), choices), list, examples,
    el("div", {class: "actions"}, button(t("Try this model"), () => {
      dialog.close();
      use(shown.id);
    }, "strong")));
  dialog.showModal();
}
