// Asks the service, within a time limit.

const LIMIT_MS = 10_000;

/** The header with a key. One that cannot be a key, nor stand in a header, is left out: the 401 tells. */
export const bearer = (key) => /^[!-~]+$/.test(key) ? {Authorization: `Bearer ${key}`} : {};

/** {status, body} of a GET; without a whole answer the status is 0, and what is not JSON is a text. */
export async function ask(path, key = "") {
  try {
    const response = await fetch(path,
      {cache: "no-cache", headers: bearer(key), signal: AbortSignal.timeout(LIMIT_MS)});
    const {status} = response, text = await response.text();
    try {
      return {status, body: JSON.parse(text)};
    } catch {
      return {status, body: text};
    }
  } catch {
    return {status: 0, body: ""};
  }
}
