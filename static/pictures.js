// Pictures for a message: chosen as files, pasted or dropped, each kept as a data: URL.

import {picture} from "./answer.js";
import {button, byId, el} from "./make.js";
import {t} from "./words.js";

const KINDS = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const LARGEST = 5_000_000;  // bytes
const MOST = 5;             // of one message

let urls = [];

/** Takes the pictures that are there, and leaves none. */
export function takePictures() {
  const taken = urls;
  urls = [];
  show();
  return taken;
}

export function havePictures() {
  return urls.length > 0;
}

function show() {
  byId("pictures").replaceChildren(...urls.map((url, n) => el("li", {}, picture(url), button("×", () => {
    urls.splice(n, 1);
    show();
    byId("message").focus();
  }, "quiet", {"aria-label": t("Remove picture {number}", {number: n + 1})}))));
}

const read = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = reject;
  reader.readAsDataURL(file);
});

export async function addPictures(files) {
  const good = files.filter(({type, size}) => KINDS.includes(type) && size <= LARGEST);
  byId("picture-wrong").hidden = good.length === files.length && urls.length + good.length <= MOST;
  byId("picture-wrong").textContent = t("Pictures are PNG, JPEG, GIF or WebP of at most 5 MB, at most five.");
  const added = await Promise.all(good.map(read));
  urls = [...urls, ...added].slice(0, MOST);
  show();
}
