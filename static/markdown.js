// Reads Markdown: from a text to a tree of {tag, kids, ...} and strings, never to HTML.
//
// The subset is CommonMark's headings, paragraphs, emphasis, code, links, lists, block quotes and breaks, and GitHub's
// tables. HTML stays text, an image becomes a link, and a link leads nowhere but to http, https and mailto. Each text is
// read in time that grows with its length, as a reply may be made to be slow.

const DEEPEST = 12;  // containers or emphasis within each other; what is deeper is text
const LONGEST_LINK = 2000;

const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const UNDERLINE = /^ {0,3}(=+|-+)[ \t]*$/;
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})[ \t]*(\S*)/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})(?:([-+*])|(\d{1,9})([.)]))( +|$)/;
const CODE = /^ {4}/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*(?:\|[ \t]*)?$/;
const PREFIXES = /^(?: {0,3}(?:>|[-+*](?= |$)|\d{1,9}[.)](?= |$)) ?)+/;
const ENTITIES = {amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", hellip: "…", mdash: "—",
  ndash: "–"};

const blank = (line) => !/\S/.test(line);
const unindented = (line) => line.replace(/^[ \t]+/, "");
const element = (tag, kids, more = {}) => ({tag, kids, ...more});

// Blocks

/** Whether a line begins a block that ends a paragraph. */
function interrupts(line) {
  const item = ITEM.exec(line);
  return RULE.test(line) || HEADING.test(line) || FENCE.test(line) || QUOTE.test(line) ||
    item !== null && item[0].length < line.length && (!item[3] || Number(item[3]) === 1);
}

/** The top-level blocks of lines; each has `at`, the number of its first line. */
export function blocks(lines, depth = 0) {
  const found = [];
  let n = 0;
  while (n < lines.length) {
    if (blank(lines[n])) {
      n++;
      continue;
    }
    const [block, next] = blockAt(lines, n, depth);
    found.push({...block, at: n});
    n = next;
  }
  return found;
}

/** The block that begins at a line, and the number of the line behind it. */
function blockAt(lines, n, depth) {
  const line = lines[n];
  if (CODE.test(line)) return indentedCode(lines, n);
  if (RULE.test(line)) return [element("hr", []), n + 1];
  if (HEADING.test(line)) return [heading(line), n + 1];
  if (FENCE.test(line)) return fencedCode(lines, n);
  if (depth < DEEPEST && QUOTE.test(line)) return quote(lines, n, depth);
  if (depth < DEEPEST && ITEM.test(line)) return list(lines, n, depth);
  if (isTable(lines, n)) return table(lines, n);
  return paragraph(lines, n);
}

function indentedCode(lines, n) {
  const kept = [];
  let end = n;
  for (let at = n; at < lines.length && (CODE.test(lines[at]) || blank(lines[at])); at++) {
    kept.push(lines[at].slice(4));
    if (!blank(lines[at])) end = at + 1;
  }
  return [element("pre", [kept.slice(0, end - n).join("\n")], {language: ""}), end];
}

function heading(line) {
  const level = HEADING.exec(line)[1].length, text = line.trim().slice(level).trim();
  let end = text.length;
  while (text[end - 1] === "#") end--;
  const closed = end === 0 || /[ \t]/.test(text[end - 1]);
  return element(`h${level}`, inline((closed ? text.slice(0, end) : text).trim()));
}

/** Whether a line ends code that was opened by a fence. */
function ends(line, fence) {
  const close = /^ {0,3}(`{3,}|~{3,})[ \t]*$/.exec(line);
  return close !== null && close[1][0] === fence[0] && close[1].length >= fence.length;
}

function fencedCode(lines, n) {
  const [, indent, fence, language] = FENCE.exec(lines[n]);
  let end = n + 1;
  while (end < lines.length && !ends(lines[end], fence)) end++;
  const closed = end < lines.length;
  if (!closed && lines[end - 1] === "" && end > n + 1) end--;  // what follows the last line's end
  const inside = lines.slice(n + 1, end).map((line) => line.slice(Math.min(indent.length, /^ */.exec(line)[0].length)));
  return [element("pre", [inside.join("\n")], {language: decoded(language)}), closed ? end + 1 : lines.length];
}

/** Follows the lines of a container; says whether a line that lacks its mark may go on with its last paragraph. */
function follower() {
  let fence = null, open = false;
  return {
    take(line) {
      const inner = line.replace(PREFIXES, "");
      const mark = FENCE.exec(inner);
      if (fence) fence = ends(inner, fence) ? null : fence;
      else if (mark) fence = mark[2];
      open = !fence && !mark && !blank(inner) && (!CODE.test(inner) || open) && !RULE.test(inner) &&
        !HEADING.test(inner);
    },
    goesOn: (line) => open && !blank(line) && !interrupts(line) && !ITEM.test(line),
  };
}

function quote(lines, n, depth) {
  const inside = [], follow = follower();
  for (; n < lines.length && (QUOTE.test(lines[n]) || follow.goesOn(lines[n])); n++) {
    const line = lines[n].replace(QUOTE, "");
    follow.take(line);
    inside.push(line);
  }
  return [element("blockquote", blocks(inside, depth + 1)), n];
}

/** The lines of the list item at a line, without its mark, and the number of the line behind them. */
function item(lines, n) {
  const [whole, indent, bullet, number, , gap] = ITEM.exec(lines[n]);
  const mark = indent.length + (bullet ?? number + ".").length;
  const width = mark + (gap.length > 4 || whole.length === lines[n].length ? 1 : gap.length);
  const inside = [lines[n].slice(width)], follow = follower();
  follow.take(inside[0]);
  for (n++; n < lines.length; n++) {
    const line = lines[n];
    if (blank(line)) {
      if (inside.length === 1 && blank(inside[0])) break;
      inside.push("");
    } else if (/^ */.exec(line)[0].length >= width) inside.push(line.slice(width));
    else if (!blank(inside.at(-1)) && follow.goesOn(line)) inside.push("    " + unindented(line));  // of a paragraph, and no mark
    else break;
    follow.take(inside.at(-1));
  }
  let empty = 0;
  while (inside.length > 1 && blank(inside.at(-1))) empty += inside.pop() === "";
  return {inside, next: n, blankBehind: empty > 0 || n < lines.length && blank(lines[n])};
}

function list(lines, n, depth) {
  const kind = (line) => {
    const [, , bullet, , end] = ITEM.exec(line) ?? [];
    return bullet ?? end;
  };
  const first = ITEM.exec(lines[n]), wanted = kind(lines[n]), items = [];
  let loose = false, parted = false;
  while (n < lines.length && !RULE.test(lines[n]) && kind(lines[n]) === wanted) {
    const {inside, next, blankBehind} = item(lines, n);
    const kids = blocks(inside, depth + 1);
    loose ||= parted || kids.some(({at}, k) => k && blank(inside[at - 1]));
    items.push(kids);
    parted = blankBehind;
    n = next;
    let ahead = n;
    while (ahead < lines.length && blank(lines[ahead])) ahead++;
    if (ahead < lines.length && kind(lines[ahead]) === wanted && !RULE.test(lines[ahead])) n = ahead;
  }
  const tight = (kids) => kids.flatMap((kid, k) => kid.tag === "p" ? [...k ? ["\n"] : [], ...kid.kids] : [kid]);
  const start = first[3] === undefined || Number(first[3]) === 1 ? undefined : Number(first[3]);
  return [element(first[2] ? "ul" : "ol", items.map((kids) => element("li", loose ? kids : tight(kids))),
    {start}), n];
}

/** The cells of a table's row. */
function cells(line) {
  const found = [""];
  const text = line.trim().replace(/^\|/, "");
  for (let n = 0; n < text.length; n++) {
    if (text[n] === "\\" && text[n + 1] === "|") found[found.length - 1] += text[++n];
    else if (text[n] === "|") found.push("");
    else found[found.length - 1] += text[n];
  }
  if (found.length > 1 && blank(found.at(-1))) found.pop();
  return found.map((cell) => cell.trim());
}

function isTable(lines, n) {
  return n + 1 < lines.length && lines[n].includes("|") && DELIMITERS.test(lines[n + 1]) &&
    cells(lines[n]).length === cells(lines[n + 1]).length;
}

function table(lines, n) {
  const align = cells(lines[n + 1]).map((cell) =>
    cell.endsWith(":") ? cell.startsWith(":") ? "center" : "right" : cell.startsWith(":") ? "left" : undefined);
  const row = (line, tag) => {
    const given = cells(line);
    return element("tr", align.map((side, k) => element(tag, inline(given[k] ?? ""), {align: side})));
  };
  const head = element("thead", [row(lines[n], "th")]), body = [];
  for (n += 2; n < lines.length && !blank(lines[n]) && !interrupts(lines[n]); n++) body.push(row(lines[n], "td"));
  return [element("table", body.length ? [head, element("tbody", body)] : [head]), n];
}

function paragraph(lines, n) {
  const kept = [];
  while (n < lines.length && !blank(lines[n])) {
    const line = lines[n];
    const under = kept.length && UNDERLINE.exec(line);
    if (under) return [element(under[1][0] === "=" ? "h1" : "h2", inline(kept.join("\n").trim())), n + 1];
    if (kept.length && (interrupts(line) || isTable(lines, n))) break;
    kept.push(unindented(line));
    n++;
  }
  return [element("p", inline(kept.join("\n").trimEnd())), n];
}

// Inline

const PUNCTUATION = /[\p{P}\p{S}]/u;
const ESCAPED = /[!-/:-@[-`{-~]/;
const SPECIAL = /[\\`*_[\]!<&\n]|https?:\/\//g;

function decoded(text) {
  return text.replace(/\\([!-/:-@[-`{-~])|&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|(\w{1,8}));/g,
    (whole, escaped, decimal, hexadecimal, name) => {
      if (escaped) return escaped;
      if (name) return ENTITIES[name] ?? whole;
      const code = decimal ? Number(decimal) : parseInt(hexadecimal, 16);
      return code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000) ? String.fromCodePoint(code) : "\ufffd";
    });
}

/** An address that a link may lead to, or null. */
export function safe(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const linked = (address, kids) => {
  const href = safe(address);
  return href ? [element("a", kids, {href, depth: 1 + deepest(kids)})] : kids;
};
const deepest = (kids) => kids.reduce((most, {depth = 0}) => Math.max(most, depth), 0);

/** Where each run of backquotes of a length begins, in order. */
function backquotes(text) {
  const runs = new Map();
  for (const {0: {length}, index} of text.matchAll(/`+/g)) {
    if (!runs.has(length)) runs.set(length, []);
    runs.get(length).push(index);
  }
  for (const places of runs.values()) places.reverse();
  return runs;
}

/** {address, end} of what stands in the parentheses of a link that begin at a place, or null. */
function destination(text, at) {
  const gap = /[ \t]*\n?[ \t]*/y, near = text.slice(at + 1, at + LONGEST_LINK);
  const skip = (place) => {
    gap.lastIndex = place;
    return place + gap.exec(near)[0].length;
  };
  let end = skip(0), address;
  const pointed = /<((?:\\.|[^<>\\\n])*)>/y;
  pointed.lastIndex = end;
  const found = pointed.exec(near);
  if (found) {
    address = found[1];
    end += found[0].length;
  } else {
    if (near[end] === "<") return null;
    const start = end;
    for (let depth = 0; end < near.length; end++) {
      if (near[end] === "\\" && ESCAPED.test(near[end + 1] ?? "")) end++;
      else if (near[end] === "(") {
        if (++depth > DEEPEST) return null;
      }
      else if (near[end] === ")" && depth-- === 0) break;
      else if (near[end] <= " ") break;
    }
    address = near.slice(start, end);
  }
  const title = /[ \t\n]\s*(?:"(?:\\[^]|[^"\\])*"|'(?:\\[^]|[^'\\])*'|\((?:\\[^]|[^()\\])*\))/y;
  title.lastIndex = end;
  end = skip(end + (title.exec(near)?.[0].length ?? 0));
  return near[end] === ")" ? {address: decoded(address), end: at + 2 + end} : null;
}

/** A run of * or _ as a delimiter: whether it can open and close emphasis by what stands beside it. */
function delimiter(text, at) {
  const mark = text[at];
  let end = at;
  while (text[end] === mark) end++;
  const before = at ? String.fromCodePoint(text.codePointAt(at - 1 - (/[\udc00-\udfff]/.test(text[at - 1]) && at > 1)))
    : " ";
  const after = end < text.length ? String.fromCodePoint(text.codePointAt(end)) : " ";
  const [spaceBefore, spaceAfter] = [before, after].map((one) => /\s/u.test(one));
  const [pointBefore, pointAfter] = [before, after].map((one) => PUNCTUATION.test(one));
  const left = !spaceAfter && (!pointAfter || spaceBefore || pointBefore);
  const right = !spaceBefore && (!pointBefore || spaceAfter || pointAfter);
  const count = end - at;
  return {mark, count, length: count,
    opens: left && (mark === "*" || !right || pointBefore), closes: right && (mark === "*" || !left || pointAfter)};
}

/** Pairs the delimiters among nodes: CommonMark's procedure, in one pass. */
function emphasized(nodes) {
  const done = [], openers = [], bottoms = {};
  for (const node of nodes) {
    if (!node.mark) {
      done.push(node);
      continue;
    }
    const {mark, length, opens, closes} = node;
    while (closes && node.count) {
      const kind = `${mark}${opens}${length % 3}`;
      let n = openers.length - 1;
      const bottom = Math.min(bottoms[kind] ?? 0, openers.length);
      while (n >= bottom && !pairs(done[openers[n]], node)) n--;
      if (n < bottom) {
        bottoms[kind] = openers.length;
        break;
      }
      const at = openers[n], opener = done[at], size = opener.count > 1 && node.count > 1 ? 2 : 1;
      openers.length = n + 1;
      const kids = plain(done.splice(at + 1)), depth = 1 + deepest(kids);
      opener.count -= size;
      node.count -= size;
      if (!opener.count) {
        done.pop();
        openers.pop();
      }
      if (depth > DEEPEST) done.push(...kids);
      else done.push(element(size > 1 ? "strong" : "em", kids, {depth}));
      for (const name in bottoms) bottoms[name] = Math.min(bottoms[name], openers.length);
    }
    if (!node.count) continue;
    if (opens) openers.push(done.length);
    done.push(node);
  }
  return plain(done);
}

const pairs = (opener, closer) => opener.mark === closer.mark && opener.opens &&
  !((opener.closes || closer.opens) && (opener.length + closer.length) % 3 === 0 &&
    (opener.length % 3 !== 0 || closer.length % 3 !== 0));

/** Nodes without delimiters and brackets, which are text now; neighbouring texts are one. */
function plain(nodes) {
  const done = [];
  let texts = [];
  const flush = () => {
    if (texts.length) done.push(texts.join(""));
    texts = [];
  };
  for (const node of nodes) {
    if (typeof node === "string") texts.push(node);
    else if (node.mark) texts.push(node.mark.repeat(node.count));
    else {
      flush();
      done.push(node);
    }
  }
  flush();
  return done.filter((node) => node !== "");
}

/** The nodes of a text without blocks. */
export function inline(text) {
  const nodes = [], brackets = [], runs = backquotes(text);
  let at = 0;

  function push(...made) {
    nodes.push(...made);
  }

  function code() {
    const mark = /`+/y;
    mark.lastIndex = at;
    const [{length}] = mark.exec(text), places = runs.get(length);
    while (places.length && places.at(-1) < at + length) places.pop();
    const end = places.at(-1);
    if (end === undefined) {
      push(text.slice(at, at + length));
      return at + length;
    }
    const inside = text.slice(at + length, end).replaceAll("\n", " ");
    const padded = inside.startsWith(" ") && inside.endsWith(" ") && !blank(inside);
    push(element("code", [padded ? inside.slice(1, -1) : inside]));
    return end + length;
  }

  function closeBracket() {
    const open = brackets.pop();
    const link = open?.active && text[at + 1] === "(" && destination(text, at + 1);
    if (!link) {
      push("]");
      return at + 1;
    }
    const kids = emphasized(nodes.splice(open.at).slice(1));
    push(...linked(link.address, open.image && !kids.length ? [link.address] : kids));
    if (!open.image) for (const each of brackets) each.active &&= each.image;
    return link.end;
  }

  function pointed() {
    const found = /<(?:([a-zA-Z][\w.+-]{1,31}:[^\s<>]{0,2000})|([\w.!#$%&'*+/=?^`{|}~-]{1,200}@[\w.-]{1,200}))>/y;
    found.lastIndex = at;
    const match = found.exec(text);
    if (!match) {
      push("<");
      return at + 1;
    }
    push(...linked(match[1] ?? `mailto:${match[2]}`, [match[1] ?? match[2]]));
    return at + match[0].length;
  }

  function bare() {
    const found = /https?:\/\/[^\s<>`*"|\\\u3001\u3002\uff0c\uff09]{1,2000}/y;
    found.lastIndex = at;
    const match = at && /\w/.test(text[at - 1]) || brackets.some(({active, image}) => active && !image) ? null
      : found.exec(text);
    if (!match) {
      push("http");
      return at + 4;
    }
    let address = match[0].replace(/[.,:;!?'_)\]]{1,20}$/, (tail) => tail.startsWith(")") && match[0].includes("(") ? ")" : "");
    push(...linked(address, [address]));
    return at + address.length;
  }

  function newline() {
    const last = nodes.at(-1);
    let spaces = 0;
    if (typeof last === "string") {
      while (last[last.length - 1 - spaces] === " ") spaces++;
      nodes[nodes.length - 1] = last.slice(0, last.length - spaces);
    }
    push(...spaces > 1 ? [element("br", [])] : [], "\n");
    const gap = /[ \t]*/y;
    gap.lastIndex = at + 1;
    return at + 1 + gap.exec(text)[0].length;
  }

  while (at < text.length) {
    SPECIAL.lastIndex = at;
    const special = SPECIAL.exec(text)?.index ?? text.length;
    if (special > at) push(text.slice(at, special));
    at = special;
    const mark = text[at];
    if (mark === "\\") {
      const next = text[at + 1] ?? "";
      if (next === "\n") push(element("br", []));
      else push(ESCAPED.test(next) ? next : "\\" + next);
      at += next === "\n" ? 1 : 1 + next.length;
      if (next === "\n") at = newline();
    } else if (mark === "`") at = code();
    else if (mark === "*" || mark === "_") {
      push(delimiter(text, at));
      at += nodes.at(-1).count;
    } else if (mark === "[" || mark === "!" && text[at + 1] === "[") {
      brackets.push({at: nodes.length, active: true, image: mark === "!"});
      push(mark === "!" ? "![" : "[");
      at += mark === "!" ? 2 : 1;
    } else if (mark === "]") at = closeBracket();
    else if (mark === "<") at = pointed();
    else if (mark === "&") {
      const entity = /&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|\w{1,8});/y;
      entity.lastIndex = at;
      const whole = entity.exec(text)?.[0] ?? "&";
      push(decoded(whole));
      at += whole.length;
    } else if (mark === "\n") at = newline();
    else if (mark === "h") at = bare();
    else if (mark) {
      push(mark);
      at++;
    }
  }
  return emphasized(nodes);
}
