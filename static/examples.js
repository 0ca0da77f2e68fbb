// The examples with this page's own address, key and model in them.

import {block, el} from "./make.js";
import {rich, t} from "./words.js";

const LANGUAGES = [["sh", "curl"], ["py", "Python"], ["mjs", "JavaScript"]];
const tasks = () => [["models", t("List models")], ["chat", t("Chat")], ["stream", t("Streamed chat")],
  ["tool", t("Tool call")], ["responses", t("Responses")], ["kilo", t("Kilo Code")],
  ["messages", t("Anthropic's Messages")]];
const AS_WRITTEN = ["http://127.0.0.1:8002/v1", "0000", "claude-sonnet-4-5-20250929"];
let count = 0;

/** An example's text as nodes; what is this service's own is marked. */
function own(text, here) {
  return text.trimEnd().split(new RegExp(`(${AS_WRITTEN.join("|").replaceAll(".", "\\.")})`)).map((part) => {
    const n = AS_WRITTEN.indexOf(part);
    return n < 0 ? part : el("b", {}, [here.base, here.shownKey, here.model][n]);
  });
}

/** Fills a container with tabs over all examples; `here` gives base, shownKey, model, reference. */
export function showExamples(container, here) {
  const chosen = container.chosen ??= {language: "sh", task: "chat"};
  const id = container.dataset.id ??= `examples-${++count}`;
  const panel = el("div", {role: "tabpanel", id: `${id}-panel`});
  const tabs = LANGUAGES.map(([ending, name]) => el("button", {
    type: "button", role: "tab", id: `${id}-${ending}`, "aria-controls": panel.id,
    onclick: () => choose({language: ending})}, name));
  const choices = tasks().map(([task, name]) => el("label", {}, el("input", {
    type: "radio", name: `${id}-task`, value: task, checked: task === chosen.task,
    onchange: () => choose({task})}), el("span", {}, name)));

  function choose(change) {
    Object.assign(chosen, change);
    tabs.forEach((tab, n) => {
      const on = LANGUAGES[n][0] === chosen.language;
      tab.setAttribute("aria-selected", on);
      tab.tabIndex = on ? 0 : -1;
      if (on) panel.setAttribute("aria-labelledby", tab.id);
    });
    const name = `${chosen.task}.${chosen.language}`;
    panel.replaceChildren(block(name, ...own(here.reference.examples[name], here)));
    if (chosen.task === "kilo") panel.append(el("p", {class: "hint"}, rich(
      "In Kilo Code choose the provider OpenAI Compatible, and the base URL, key and model above. This service runs with `{strict}`.",
      {strict: `KILO_TOOL_STRICT=${here.reference.kilo_tool_strict}`})));
    if (chosen.task === "messages") panel.append(el("p", {class: "hint"}, rich(
      "For Claude Code and Anthropic's SDKs: `ANTHROPIC_BASE_URL={root}`, without /v1, and the key as `ANTHROPIC_AUTH_TOKEN`.",
      {root: here.base.replace(/\/v1$/, "")})));
  }

  const list = el("div", {role: "tablist", "aria-label": t("Language of the examples"), onkeydown: (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step) return;
    event.preventDefault();
    const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  }}, tabs);
  container.classList.add("examples");
  container.replaceChildren(list, el("fieldset", {class: "tasks"},
    el("legend", {class: "aside"}, t("What to do")), choices), panel);
  choose({});
}
