// The list of keys: those that begin with what was typed, in pages. It is asked for on
// demand and after this page's own changes, never in the background.

import { ask } from "./api.js";
import { byId, el, plural, setAttribute, setText, show, syncList } from "./dom.js";
import { pickKey } from "./keyform.js";
import { on, state } from "./state.js";

const PAGE = 50;
const TYPING_MS = 250;

const list = byId("keys-list");
const filter = byId("keys-prefix");
let keys = [];
let next = null;
let typing = 0;
let loading = 0;

/** Begins to list keys. */
export function startKeys() {
  filter.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => load(false), TYPING_MS);
  });
  byId("keys-form").addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    load(false);
  });
  byId("keys-more").addEventListener("click", () => load(true));
  on("journey", () => {
    const { op, answer } = state.journey ?? {};
    if (op && op !== "read" && answer.status === 200) load(false);
  });
  on("written", () => keys.length <= PAGE && load(false)); // who looks further is left alone
  on("link", () => state.link === "up" && load(false));
  on("key", draw);
  on("nodes events", () => byId("keys-problem").hidden || load(false)); // it may be over
}

async function load(isMore) {
  loading += 1;
  const mine = loading;
  const query = new URLSearchParams({ prefix: filter.value, limit: String(PAGE) });
  if (isMore && next !== null) query.set("after", next);
  const answer = await ask("GET", `/keys?${query}`);
  if (mine !== loading) return;
  const isGood = answer.status === 200;
  setText(byId("keys-problem"), isGood
    ? ""
    : `The keys cannot be listed: ${answer.data?.detail ?? "no answer"}.`);
  show(byId("keys-problem"), !isGood);
  if (!isGood) return;
  const found = answer.data.keys.map((one) => one.key);
  keys = isMore ? [...keys, ...found] : found;
  next = answer.data.next;
  draw();
}

function draw() {
  syncList(list, keys, (key) => key, makeItem, (item, key) => {
    setAttribute(item.firstElementChild, "aria-current", key === state.key ? "true" : null);
  });
  show(byId("keys-more"), next !== null);
  const count = plural(keys.length, "key");
  const none = filter.value ? "No key begins so." : "There are no keys.";
  const some = next === null ? count : `The first ${count}`;
  setText(byId("keys-count"), keys.length ? some : none);
}

function makeItem(key) {
  return el("li", {}, el("button", { type: "button", onclick: () => pickKey(key) }, key));
}
