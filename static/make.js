// Makes elements. Everything goes in as text: the page's policy forbids HTML made of strings.

import {t} from "./words.js";

/** An element; options are attributes (false and undefined leave one out) and onevent functions. */
export function el(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options))
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  made.append(...children.flat(Infinity));
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Makes a button copy what read() gives, and say so. */
export function copies(button, read) {
  const name = () => button.replaceChildren(t("Copy"));
  button.addEventListener("click", async () => {
    await copy(read(), button);
    button.replaceChildren(t("Copied"));
    byId("spoken").textContent = t("Copied");
    setTimeout(() => { name(); byId("spoken").textContent = ""; }, 1500);
  });
  name();
  return button;
}

async function copy(text, beside) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = el("textarea", {class: "aside"});  // plain http on another machine has no clipboard API
  area.value = text;
  beside.after(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  beside.focus();
}

/** Text as it stands, which the keyboard can scroll. */
export function pre(label, kind, ...parts) {
  return el("pre", {tabindex: "0", role: "group", "aria-label": label, class: kind}, ...parts);
}

/** An error as it came: JSON or a text. */
export function failure(error) {
  return pre(t("Error"), "error", typeof error === "string" ? error : JSON.stringify(error, null, 2));
}

/** A block of code with a copy button; parts are texts and elements. */
export function block(label, ...parts) {
  const code = pre(label, undefined, el("code", {}, ...parts));
  return el("div", {class: "block"}, code,
    copies(el("button", {type: "button", class: "quiet"}), () => code.textContent));
}

/** The rows of a <dl> from [name, value] pairs; a value is a text or a list of nodes. */
export function pairs(list) {
  return list.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
}
