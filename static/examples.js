// The examples in tabs, one for each language and each client.

import {el} from "./make.js";
import {t} from "./words.js";

const LANGUAGES = [["sh", "curl"], ["py", "Python"], ["mjs", "JavaScript"]];
let count = 0;

/** Makes tabs of a container's .example elements and of `clients`, [name, title] each. `load(name)` gives what a client
 *  needs, null if that does not come; `filled` is called when it is shown. */
export function showExamples(container, clients = [], load, filled) {
  const id = `examples-${++count}`, examples = [...container.querySelectorAll(".example")];
  const chosen = container.chosen ??= {tab: "sh", task: "chat"};
  const panel = el("div", {role: "tabpanel", id: `${id}-panel`, tabindex: "-1"});
  const names = [...LANGUAGES, ...clients.map(([name, title]) => [`client-${name}`, title])];
  const tabs = names.map(([tab, name]) => el("button", {
    type: "button", role: "tab", id: `${id}-${tab}`, "aria-controls": panel.id, onclick: () => choose({tab})}, name));
  const tasks = examples.filter(({dataset}) => dataset.language === "sh").map(({dataset: {task}, firstChild}) =>
    el("label", {}, el("input", {type: "radio", name: `${id}-task`, value: task, onchange: () => choose({task})}),
      el("span", {}, firstChild.textContent.replace(/ · .*/, ""))));
  const field = el("fieldset", {class: "tasks"}, el("legend", {class: "aside"}, t("What to do")), tasks);
  const of = clients.map(() => el("div", {class: "client"}));

  async function show(client) {
    if (of[client].hasChildNodes()) return;
    const [one, {panel: made}] = await Promise.all([load(clients[client][0]), import("./client.js").catch(() => ({}))]);
    if (!one || !made || of[client].hasChildNodes()) return;
    of[client].append(...made(one));
    filled();
  }

  function choose(change) {
    Object.assign(chosen, change);
    if (!names.some(([tab]) => tab === chosen.tab)) chosen.tab = "sh";
    tabs.forEach((tab, n) => {
      const on = names[n][0] === chosen.tab;
      tab.setAttribute("aria-selected", on);
      tab.tabIndex = on ? 0 : -1;
      if (on) panel.setAttribute("aria-labelledby", tab.id);
    });
    const client = clients.findIndex(([name]) => chosen.tab === `client-${name}`);
    field.hidden = client >= 0;
    for (const input of field.querySelectorAll("input")) input.checked = input.value === chosen.task;
    for (const each of examples)
      each.toggleAttribute("data-chosen",
        client < 0 && each.dataset.task === chosen.task && each.dataset.language === chosen.tab);
    of.forEach((each, n) => { each.hidden = n !== client; });
    if (client >= 0) show(client);
  }

  const list = el("div", {role: "tablist", "aria-label": t("Clients and languages"), onkeydown: (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step) return;
    event.preventDefault();
    const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  }}, tabs);
  panel.append(...examples, ...of);
  panel.choose = choose;
  container.classList.add("examples");
  container.replaceChildren(list, field, panel);
  choose({});
}
