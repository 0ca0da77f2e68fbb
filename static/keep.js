// What the browser keeps for the page: nothing where cookies are blocked, and the page works all the same.

/** A text, or null; `storage` is localStorage or sessionStorage. */
export function kept(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}

export function keep(storage, name, value) {
  try {
    window[storage].setItem(name, value);
  } catch {
    // it then lasts until the page is left
  }
}
