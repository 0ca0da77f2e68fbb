// What one client needs, as the service knows it.

import {block, el} from "./make.js";
import {t} from "./words.js";

const WRITTEN = {__ADDRESS__: "address", __KEY__: "key", __MODEL__: "model"};

/** What one client needs. */
export function panel({title, files, run, turn_off: off, cannot}) {
  const sentences = (name, list) => list.length ? [el("h4", {}, name), el("ul", {class: "sentences"},
    list.map((text) => el("li", {}, parts(text))))] : [];
  return [el("h3", {class: "aside"}, title),
    ...files.flatMap(({path, text}) => [
      el("h4", {}, el("code", {}, path)), block(path, ...parts(text))]),
    ...run ? [el("h4", {}, t("Start it")), block(t("Start it"), ...parts(run))] : [],
    ...sentences(t("Turn off"), off), ...sentences(t("Good to know"), cannot)];
}

/** A client's text as nodes, with what is this service's own marked. */
function parts(text) {
  return text.split(/(__(?:ADDRESS|KEY|MODEL)__)/).map((part) =>
    WRITTEN[part] ? el("b", {"data-own": WRITTEN[part]}) : part);
}
