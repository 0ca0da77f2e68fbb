// Makes elements. Everything goes in as text: the page's policy forbids HTML made of strings.

import {t} from "./words.js";

/** An element; options are attributes (false and undefined leave one out) and onevent functions. */
export function el(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options))
    if (value === undefined || value === false) continue;
    else if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  made.append(...children.flat(Infinity));
  return made;
}

export const byId = (id) => document.getElementById(id);

export const button = (name, onclick, kind = "quiet", more = {}) =>
  el("button", {type: "button", class: kind, onclick, ...more}, name);

/** Makes a button copy what read() gives, and say so. */
export function copies(one, read, name = t("Copy")) {
  one.addEventListener("click", async () => {
    await copy(read(), one);
    one.replaceChildren(t("Copied"));
    byId("spoken").textContent = t("Copied");
    setTimeout(() => {
      one.replaceChildren(name);
      byId("spoken").textContent = "";
    }, 1500);
  });
  one.replaceChildren(name);
  return one;
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

/** A block of code with a copy button; parts are texts and elements. */
export function block(label, ...parts) {
  return dressed(el("div", {class: "block"}, el("pre", {}, el("code", {}, ...parts))), label);
}

/** Gives a block of code what it needs beside its text: a name, a way for the keyboard to scroll it, a copy button. */
export function dressed(box, label) {
  const code = box.firstElementChild;
  code.tabIndex = 0;
  code.setAttribute("role", "group");
  code.setAttribute("aria-label", label);
  box.append(copies(button("", undefined), () => code.textContent));
  return box;
}

/** The rows of a <dl> from [name, value] pairs; a value is a text or a list of nodes. */
export function pairs(list) {
  return list.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
}
