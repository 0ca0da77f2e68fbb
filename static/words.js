// The words that scripts show. English stands where it is used; zh.json has the Chinese for each text, zh-chat.json for
// what only a chat shows.

import {ask} from "./ask.js";
import {el} from "./make.js";

const {lang} = document.documentElement;
let words = {};

/** A text in the page's language, with {name} replaced by values.name. */
export function t(text, values = {}) {
  return (words[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The nodes of a text, in the page's language; what stands between backquotes is code. */
export function rich(text, values) {
  return t(text, values).split("`").map((part, n) => n % 2 ? el("code", {}, part) : part);
}

export function number(value, options) {
  return new Intl.NumberFormat(lang, options).format(value);
}

export const moment = (seconds) => new Date(seconds * 1000).toLocaleString(lang);

/** Fetches the words of a part of the page; without them the scripts speak English. */
export async function learn(name) {
  if (!lang.startsWith("zh")) return;
  const {status, body} = await ask(`static/${name}.json`);
  if (status === 200) words = {...words, ...body};
}
