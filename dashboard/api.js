// Asking the server. Every request of the page goes through `ask`, which never throws: no
// answer at all is an answer with status 0. The token, if one is wanted, lives here and in
// this tab's sessionStorage, nowhere else.

/**
 * @typedef {{method: string, path: string, status: number, data: any, text: string,
 *   etag: ?string, retryAfter: ?string, ms: number}} Answer
 *   data: the parsed JSON, null where there is none; ms: how long it took
 */

const TOKEN = "kv-token";
const POLL_MS = 5_000; // a poll without an answer for so long has none
export const PATIENT_MS = 65_000; // beyond the server's own limit, so that it can say so

let token = readToken();
let onLocked = () => {};

function readToken() {
  try {
    return sessionStorage.getItem(TOKEN) ?? "";
  } catch {
    return "";
  }
}

/** Keeps a token for this tab; an empty one is forgotten. */
export function keepToken(text) {
  token = text;
  try {
    if (text) sessionStorage.setItem(TOKEN, text);
    else sessionStorage.removeItem(TOKEN);
  } catch {
    // storage is switched off: it holds until the page is closed
  }
}

/** Whether a header can carry a token. */
export const canBeSent = (text) => /^[ -~]+$/.test(text);

/** Whether a token is sent with each request. */
export const hasToken = () => token !== "";

/** Calls `listener` whenever the server wants a token, or another one. */
export function whenLocked(listener) {
  onLocked = listener;
}

/**
 * One request and its answer.
 * @param {string} method
 * @param {string} path
 * @param {{body?: string, headers?: Object<string, string>, patience?: number}} [options]
 *   body: JSON text, sent as it is; patience: milliseconds to wait
 * @returns {Promise<Answer>}
 */
export async function ask(method, path, { body, headers = {}, patience = POLL_MS } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (token) sent.Authorization = `Bearer ${token}`;
  const began = performance.now();
  const answer = { method, path, status: 0, data: null, text: "", etag: null, retryAfter: null };
  try {
    const signal = AbortSignal.timeout(patience);
    const response = await fetch(path, { method, body, headers: sent, signal, cache: "no-store" });
    answer.text = await response.text();
    answer.status = response.status;
    answer.etag = response.headers.get("ETag");
    answer.retryAfter = response.headers.get("Retry-After");
    answer.data = parsed(answer.text, response.headers.get("Content-Type") ?? "");
  } catch (error) {
    answer.status = 0;
    answer.text = String(error?.message ?? error);
  }
  answer.ms = performance.now() - began;
  if (answer.status === 401) onLocked();
  return answer;
}

function parsed(text, type) {
  if (!type.includes("json")) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The path of a route that takes a key; odd keys go into the query. */
export function keyPath(route, key, query = "") {
  const isOdd = key.split("/").some((part) => part === "" || part === "." || part === "..");
  if (!isOdd) return `/${route}/${encodeKey(key)}${query && `?${query}`}`;
  return `/${route}?key=${encodeURIComponent(key)}${query && `&${query}`}`;
}

function encodeKey(key) {
  return encodeURIComponent(key).replaceAll("%2F", "/");
}

/**
 * The JSON text of the value in a read's answer, as the server sent it: numbers that
 * JavaScript cannot hold stay as they are.
 * @param {Answer} answer
 */
export function valueText(answer) {
  const name = ',"value":';
  const from = answer.text.indexOf(name);
  const to = answer.text.lastIndexOf(',"version":');
  if (from < 0 || to < from) return JSON.stringify(answer.data?.value, null, 2);
  const text = answer.text.slice(from + name.length, to);
  try {
    const value = JSON.parse(text);
    return JSON.stringify(value) === text ? JSON.stringify(value, null, 2) : text;
  } catch {
    return text;
  }
}
