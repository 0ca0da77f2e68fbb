// The page's words. English stands where it is used; zh.json has the Chinese for each text.

import {ask} from "./ask.js";
import {kept} from "./keep.js";
import {el} from "./make.js";

const wordsOf = {en: {}};
let language = "en";

/** A text in the reader's language, with {name} replaced by values.name. */
export function t(text, values = {}) {
  return (wordsOf[language][text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The nodes of a text, in the reader's language; what stands between backquotes is code. */
export function rich(text, values) {
  return t(text, values).split("`").map((part, n) => n % 2 ? el("code", {}, part) : part);
}

export function number(value, options) {
  return new Intl.NumberFormat(document.documentElement.lang, options).format(value);
}

/** The language that was chosen earlier, else the browser's. */
export function preferred() {
  const wanted = kept("localStorage", "language") ?? navigator.language;
  return wanted.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Puts the markup into a language; without its words all stays as it was. */
export async function speak(wanted) {
  if (!wordsOf[wanted]) {
    const {status, body} = await ask(`static/${wanted}.json`);
    if (status !== 200) return;
    wordsOf[wanted] = body;
  }
  language = wanted;
  document.documentElement.lang = wanted === "zh" ? "zh-CN" : "en";
  for (const one of document.querySelectorAll("[data-t]")) {
    one.english ??= one.textContent;
    one.replaceChildren(...rich(one.english));
  }
  for (const name of ["aria-label", "placeholder"])
    for (const one of document.querySelectorAll(`[data-t-${name}]`)) {
      one.english ??= one.getAttribute(name);
      one.setAttribute(name, t(one.english));
    }
  for (const one of document.querySelectorAll("[data-language]"))
    one.setAttribute("aria-pressed", one.dataset.language === wanted);
}
