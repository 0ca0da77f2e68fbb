// What the browser keeps for the page: nothing where cookies are blocked, and the page works all the same.

/** A text, or null; `storage` is localStorage or sessionStorage. */
export function kept(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return null;
  }
}

/** Whether it could be kept: what could not lasts until the page is left. */
export function keep(storage, name, value) {
  try {
    window[storage].setItem(name, value);
    return true;
  } catch {
    return false;
  }
}
