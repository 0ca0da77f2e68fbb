// The reference, as tables made of /reference.json.

import {block, byId, el, pre} from "./make.js";
import {rich, t} from "./words.js";

const code = (text) => text === "" ? [] : el("code", {}, text);

/** A table; on a narrow screen each row becomes a block, so cells carry their column's name. */
function table(columns, rows) {
  const row = (cells) => el("tr", {role: "row"}, cells);
  return el("table", {role: "table"},
    el("thead", {role: "rowgroup"}, row(columns.map((name) =>
      el("th", {scope: "col", role: "columnheader"}, name)))),
    el("tbody", {role: "rowgroup"}, rows.map((cells) => row(cells.map((cell, n) => n
      ? el("td", {role: "cell", "data-name": columns[n]}, cell)
      : el("th", {scope: "row", role: "rowheader"}, cell))))));
}

function part(id, title, count, ...content) {
  const open = byId(id)?.open ?? false;
  return el("details", {id, open},
    el("summary", {}, el("h3", {}, title), el("span", {class: "count"}, count)), ...content);
}

export function showTables({routes, parameters, headers, replies, errors, settings}) {
  const hint = (nodes) => el("p", {class: "hint"}, nodes);
  byId("tables").replaceChildren(
    part("routes", t("Routes"), routes.length,
      table([t("Route"), t("Key"), t("Answer")], routes.map((each) => [
        code(`${each.method} ${each.path}`), each.key ? t("yes") : t("no"), rich(each.what)])),
      hint(rich("What begins with `/v1` is also there without it. Keys come as `Authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`."))),
    part("parameters", t("Request parameters"), parameters.length,
      hint(rich("Of `POST /v1/chat/completions`. honoured: has its effect; ignored: checked, has none, and is reported; accepted: nothing about the reply would differ; refused: 400.")),
      table([t("Parameter"), t("Type"), t("Range"), t("Effect"), t("What it does")], parameters.map((each) => [
        code(each.name), each.type, rich(each.range),
        el("span", {class: `tag ${each.effect}`}, t(each.effect)), rich(each.what)]))),
    part("replies", t("Replies"), replies.length,
      replies.map(({name, text}) => [el("h4", {}, rich(name)), block(t(name), text)])),
    part("reply-headers", t("Headers of a reply"), headers.length,
      table([t("Header"), t("What it says")], headers.map((each) => [code(each.name), rich(each.what)]))),
    part("errors", t("Errors"), errors.length,
      table([t("Status"), t("When, and its codes"), t("Body")], errors.map((each) => [
        code(String(each.status)),
        [el("p", {}, rich(each.when)), each.codes.flatMap((one) => [code(one || JSON.stringify(one)), " "])],
        pre(t("Body"), undefined, JSON.stringify(each.body, null, 1))]))),
    part("settings", t("Settings"), settings.length,
      hint(rich("Environment variables, or lines of `.env` beside app.py.")),
      table([t("Name"), t("Default"), t("What it does")], settings.map((each) => [
        code(each.name), code(each.default), rich(each.help)]))));
}
