// What an answer means, in words: a table of sentences, one row for each answer that the
// contract knows, and what each replica had to do with it.

import { protocol } from "./protocols.js";
import { nodeOf, state } from "./state.js";

/**
 * @typedef {{tone: "ok"|"info"|"warn"|"bad", title: string, text: string,
 *   isOpen: boolean}} Meaning  isOpen: only the server's own detail says what it was
 * @typedef {{op: "write"|"read"|"delete", key: string, isNew: boolean, level: string,
 *   answer: import("./api.js").Answer}} Asked
 * @typedef {{id: number, sign: "ok"|"missed"|"idle"|"maybe", text: string}} Verdict
 */

const NOTHING_DONE = "Nothing was done and nothing will be, so trying again is safe.";
const OPEN = [400, 413, 507]; // of these only the server's detail says what was wrong
const isRead = (asked) => asked.op === "read";

/** "status code" or "status" -> what it means. A text may need to know what was asked. */
const TABLE = {
  "write 200": ["ok", "Written", (asked) => protocol().written(asked)],
  "delete 200": ["ok", "Deleted", (asked) => protocol().deleted(asked)],
  "read 200": ["ok", "Read", (asked) => protocol().read(asked)],
  304: ["info", "Not changed", "The version that you named is still the current one, so the " +
    "value is not sent again."],
  400: ["warn", "The request is wrong", "Nothing was done. Mend the request: see the detail."],
  401: ["warn", "A token is wanted", "Nothing was done: the server does not know who asks."],
  403: ["warn", "Not allowed", "Nothing was done: this token may only read, or the request " +
    "comes from a page of another site."],
  "404 key_not_found": ["info", "There is no such key", absentText],
  404: ["warn", "The server has no such route", "Nothing was done."],
  408: ["warn", "The body came too slowly", NOTHING_DONE],
  412: ["warn", "The condition did not hold", mismatchText],
  413: ["warn", "Too large", "Nothing was done: the key or the value is beyond its limit."],
  415: ["warn", "Not sent as JSON", "Nothing was done: the body must be application/json."],
  421: ["warn", "Wrong host name", "Nothing was done: the server does not answer to the name " +
    "in the address bar."],
  500: ["bad", "The server made a mistake", "Nobody can say whether it happened. Its log has " +
    "more."],
  "503 data_lost": ["bad", "Its newest copy is lost", () => "Nothing was done, and trying again " +
    `will not help: ${protocol().lost}`],
  "503 unavailable": ["bad", "It cannot be served now", unavailableText],
  "503 overloaded": ["bad", "Too much at once", `${NOTHING_DONE} The server had too many ` +
    "requests in hand."],
  503: ["bad", "Not available", NOTHING_DONE],
  "504 timeout": ["bad", "No answer in time", "The replicas did not answer the read. Nothing " +
    "was changed: reading again is safe."],
  "504 uncertain": ["bad", "Nobody knows", "Some replica may have taken it, so it may or may " +
    "not show later. Read the key before you decide what to do."],
  504: ["bad", "No answer in time", "It may or may not have happened."],
  507: ["bad", "The storage is full", "Nothing was done: delete something, or raise the limit " +
    "of stored bytes."],
  0: ["bad", "No answer", lostText],
};

/**
 * What the answer means.
 * @param {Asked} asked
 * @returns {Meaning}
 */
export function meaning(asked) {
  const { status, data } = asked.answer;
  const row = TABLE[`${asked.op} ${status}`] ?? TABLE[`${status} ${data?.code}`] ?? TABLE[status];
  const [tone, title, text] = row ?? ["warn", `Status ${status}`, "This page has no words for it."];
  const isOpen = !row || OPEN.includes(status);
  return { tone, title, text: typeof text === "function" ? text(asked) : text, isOpen };
}

function absentText({ answer, op }) {
  const done = op === "delete" ? " There was nothing to delete." : "";
  if (answer.data?.deleted) {
    return "It was there and is gone: deleted, at the end of its time, or given up when a loss " +
      `was accepted. A tombstone (a record that says so) stands in its place.${done}`;
  }
  return `${protocol().absent}${done}`;
}

function mismatchText({ answer, isNew }) {
  const version = answer.data?.version;
  if (isNew) return `The key exists, with the version ${version}. Nothing was written.`;
  if (!version) return "Nothing was done: the key does not exist.";
  return `Nothing was done: the key has another version by now, ${version}. Somebody else was ` +
    "first, or the version was mistyped. Read the key again, then decide again.";
}

function unavailableText(asked) {
  const [ofRead, ofChange] = protocol().unavailable;
  return NOTHING_DONE + (isRead(asked) ? ofRead : ofChange);
}

function lostText(asked) {
  if (isRead(asked)) return "The server did not answer. A read changes nothing: try again.";
  return "The server did not answer, so it may or may not have happened. Read the key before " +
    "you try again.";
}

/** Whether the answer is final, in words; nothing for a read that was answered. */
export function certainty({ answer, op }) {
  const isOpen = answer.status === 0 || answer.data?.definite === false;
  if (op === "read") return isOpen ? "Not definite: read again" : "";
  if (isOpen) return "Not definite: it may show later";
  return answer.status < 400 ? "Definite: this is never taken back" : "Definite: nothing was done";
}

/**
 * What each replica had to do with the answer.
 * @param {Asked} asked
 * @param {?import("./state.js").Place} place
 * @returns {Verdict[]}
 */
export function verdicts(asked, place) {
  const { op, answer, level } = asked;
  const { replicas = [], missed = [] } = answer.data ?? {};
  const ids = place?.replica_set ?? [...replicas, ...missed];
  return ids.map((id) => {
    if (answer.status === 200) return protocol().verdict(asked, id, place);
    const isLoose = op === "read" && (level || state.consistency) === "one";
    return verdictOfFailure(op, answer, id, place, isLoose);
  });
}

function verdictOfFailure(op, answer, id, place, isLoose) {
  const why = protocol().reason(id, place);
  if (answer.status === 504 || answer.status === 0 || answer.status === 500) {
    const text = op === "read" ? "gave no answer in time" : "may have it";
    return { id, sign: "maybe", text: why ? `${why}` : text };
  }
  const isUp = (place?.replicas.find((one) => one.node_id === id) ?? nodeOf(id))?.status === "up";
  if (isLoose && isUp && answer.status < 500) return { id, sign: "idle", text: "could answer" };
  if (why) return { id, sign: "missed", text: `not asked: ${why}` };
  if (answer.status === 304 || answer.status === 404 || answer.status === 412) {
    return { id, sign: "idle", text: "in sync: could answer" };
  }
  return { id, sign: "idle", text: "not asked" };
}
