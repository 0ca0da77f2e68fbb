// What the page's HTML has already: scripts make its code copyable and its tables readable on a phone, put what is this
// reader's own into its examples, and lead a hash to its place.

import {byId, dressed, el} from "./make.js";

/** Completes the HTML that came from the service. */
export function dress() {
  for (const pre of document.querySelectorAll("main pre")) {
    const box = el("div", {class: "block"});
    pre.replaceWith(box);
    box.append(pre);
    dressed(box, box.closest(".example, tr, #tables > details").querySelector("h3, th").textContent);
  }
  for (const table of document.querySelectorAll("#tables table")) nameCells(table);
}

/** On a narrow screen each row becomes a block: its cells carry their columns' names, and it stays a table to readers. */
function nameCells(table) {
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  table.setAttribute("role", "table");
  for (const group of [table.tHead, ...table.tBodies]) group.setAttribute("role", "rowgroup");
  for (const row of table.rows) {
    row.setAttribute("role", "row");
    for (const [n, cell] of [...row.cells].entries()) {
      cell.setAttribute("role", row.parentNode === table.tHead ? "columnheader" : n ? "cell" : "rowheader");
      if (n) cell.dataset.name = names[n];
    }
  }
}

/** Puts the address, the key and the model into what is marked as the service's own. */
export function own(root, values) {
  for (const one of root.querySelectorAll("[data-own]"))
    if (one.textContent !== values[one.dataset.own]) one.textContent = values[one.dataset.own];
}

/** Opens what the hash of the address names, and shows it. */
export function arrive() {
  let target;
  try {
    target = byId(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return;
  }
  if (!target) return;
  for (let each = target; each; each = each.parentElement?.closest("details"))
    if (each instanceof HTMLDetailsElement) each.open = true;
  target.parentElement.choose?.({task: target.dataset.task, tab: target.dataset.language});
  target.scrollIntoView({behavior: "instant"});
}
