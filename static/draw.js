// Draws Markdown that still grows. What stands already stays, with the reader's selection in it: text is appended, and
// only the last block is read again.

import {block, el} from "./make.js";
import {blocks} from "./markdown.js";
import {t} from "./words.js";

const NEW = Symbol("the tree that an element shows");

/** An element for a node of the tree; a table and code come in a box that scrolls. */
function made(node) {
  const {tag, kids, href, align, start, language} = node;
  if (tag === "pre") {
    const box = block(language || t("Code"), kids[0]);
    box.prepend(el("span", {class: "language"}, language));
    return box;
  }
  const element = el(tag === "table" ? "div" : tag,
    tag === "table" ? {class: "scroll", tabindex: "0", role: "group", "aria-label": t("Table")} : {
      start, href, class: align, ...href ? {target: "_blank", rel: "noopener noreferrer"} : {}});
  if (tag === "table") element.append(el("table"));
  patch(tag === "table" ? element.firstChild : element, kids);
  return element;
}

const same = (one, other) => one && one.tag === other.tag && one.href === other.href && one.start === other.start &&
  one.align === other.align;

/** Makes an element's children, from one on, those that a tree's nodes say; gives the first child of each node. */
function patch(parent, nodes, from = parent.firstChild) {
  let child = from;
  const firsts = [];
  for (const node of nodes) {
    const text = typeof node === "string";
    if (child && (text ? child.nodeType === Node.TEXT_NODE : same(child[NEW], node))) {
      if (text) grow(child, node);
      else if (node.tag === "pre") {
        grow(child.querySelector("code").firstChild ?? child.querySelector("code").appendChild(new Text()), node.kids[0]);
        grow(child.firstChild.firstChild ?? child.firstChild.appendChild(new Text()), node.language);
      } else patch(node.tag === "table" ? child.firstChild : child, node.kids);
    } else {
      const fresh = text ? new Text(node) : made(node);
      if (child) child.replaceWith(fresh);
      else parent.append(fresh);
      child = fresh;
    }
    if (!text) child[NEW] = {...node, kids: null};
    firsts.push(child);
    child = child.nextSibling;
  }
  while (child) {
    const next = child.nextSibling;
    child.remove();
    child = next;
  }
  return firsts;
}

function grow(node, text) {
  if (text.startsWith(node.data)) {
    if (text.length > node.data.length) node.appendData(text.slice(node.data.length));
  } else node.data = text;
}

/** A function that shows a text in an element, which it calls with all of the text each time that there is more. */
export function drawing(element) {
  let start = 0, open = null;  // where the text of the blocks that may still change begins, and the first of them

  return (text) => {
    const lines = text.slice(start).split(/\r\n|\n|\r/);
    const read = blocks(lines);
    const firsts = patch(element, read, open);
    // A block is over when the two first lines of the next one are there: no line that comes can change it.
    const last = read.findLastIndex(({at}, n) => n && at + 2 < lines.length);
    if (last < 1) open = firsts[0] ?? null;
    else {
      open = firsts[last];
      start += lines.slice(0, read[last].at).reduce((length, line) => length + line.length + 1, 0);
    }
  };
}
