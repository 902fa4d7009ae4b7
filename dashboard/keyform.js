// The form in which a key is written, read and deleted, and the journey of the last request:
// what was sent, what came back and what it means, and what each replica had to do with it.

import { showWhyNot } from "./actions.js";
import { ask, keyPath, PATIENT_MS, valueText } from "./api.js";
import {
  byId, duration, el, plural, setAttribute, setText, show, syncList, wantsStillness,
} from "./dom.js";
import { playFlow } from "./flow.js";
import { chooseKey, hurry } from "./poll.js";
import { mayChange, on, state, tell } from "./state.js";
import { certainty, meaning, verdicts } from "./words.js";

/**
 * @typedef {import("./words.js").Asked & {line: string, body: string,
 *   meaning: import("./words.js").Meaning,
 *   verdicts: import("./words.js").Verdict[]}} Journey
 */

const SIGN = { ok: "✓", missed: "✕", idle: "·", maybe: "?" };
const form = byId("key-form");
const keyInput = byId("key");
const valueInput = byId("value");
const changing = [byId("write"), byId("delete")];
let sending = 0;

/** Begins to take requests. */
export function startKeyForm() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(event.submitter?.value ?? "read");
  });
  valueInput.addEventListener("input", drawKind);
  valueInput.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    send("write");
  });
  byId("conditions").addEventListener("input", drawConditions);
  byId("use-version").addEventListener("click", useVersion);
  on("config", drawLevels);
  on("link access", drawButtons);
  on("journey", drawJourney);
  drawKind();
  drawConditions();
  drawButtons();
}

/** Puts a key into the form and shows where it lives. */
export function pickKey(key) {
  keyInput.value = key;
  chooseKey(key);
}

/** The value as JSON text, and what kind of value that is. */
export function asJson(text) {
  try {
    const value = JSON.parse(text);
    if (value === null) return { json: text, kind: "null" };
    if (Array.isArray(value)) return { json: text, kind: "a JSON array" };
    return { json: text, kind: `a JSON ${typeof value}` };
  } catch {
    return { json: JSON.stringify(text), kind: "a string: it is not JSON, so it is put in quotes" };
  }
}

function drawKind() {
  const { kind } = asJson(valueInput.value);
  setText(byId("value-kind"), `Will be sent as ${kind}.`);
}

function drawLevels() {
  const select = byId("level");
  const own = state.consistency ? `the store's own (${state.consistency})` : "the store's own";
  select.replaceChildren(
    el("option", { value: "" }, own),
    ...state.levels.map((level) => el("option", { value: level }, level)),
  );
  show(byId("level-field"), state.levels.length > 0);
}

function conditions() {
  return {
    version: byId("if-version").value.trim().replaceAll('"', ""),
    isNew: byId("if-new").checked,
    ttl: byId("ttl").value.trim(),
    level: byId("level").value,
  };
}

function drawConditions() {
  const { version, isNew, ttl, level } = conditions();
  const count = [version, isNew, ttl, level].filter(Boolean).length;
  setText(byId("conditions-count"), count ? `${plural(count, "is", "are")} set` : "none set");
}

function useVersion() {
  const held = state.place?.replicas.filter((one) => one.version).map((one) => one.version) ?? [];
  byId("if-version").value = held.sort().at(-1) ?? "";
  drawConditions();
}

function drawButtons() {
  for (const button of changing) setAttribute(button, "aria-disabled", !mayChange() && "true");
  showWhyNot(byId("key-why-not"));
}

/** Sends one request with what the form says. */
async function send(op) {
  const key = keyInput.value.toWellFormed?.() ?? keyInput.value;
  if (!key) return keyInput.focus();
  if (op !== "read" && !mayChange()) return;
  sending += 1;
  const mine = sending;
  setAttribute(byId("answer"), "aria-busy", "true");
  const request = requestOf(op, key, conditions());
  const { method, path, body, headers } = request;
  const answer = await ask(method, path, { body, headers, patience: PATIENT_MS });
  if (mine !== sending) return; // a later request took its place
  await chooseKey(key);
  const asked = { op, key, isNew: request.isNew, level: request.level, answer };
  state.journey = {
    ...asked, line: `${method} ${path}`, body: body ?? "",
    meaning: meaning(asked), verdicts: verdicts(asked, state.place),
  };
  setAttribute(byId("answer"), "aria-busy", null);
  tell("journey");
  bringIntoView(byId("answer"));
  playFlow(state.journey.verdicts);
  hurry();
}

/** On a narrow page the answer may be below what one sees. */
function bringIntoView(element) {
  const { top, bottom } = element.getBoundingClientRect();
  const isOut = top > window.innerHeight - 80 || bottom < 80;
  if (!isOut) return;
  element.scrollIntoView({ block: "center", behavior: wantsStillness() ? "auto" : "smooth" });
}

function requestOf(op, key, { version, isNew, ttl, level }) {
  const query = level ? `consistency=${encodeURIComponent(level)}` : "";
  const headers = {};
  if (op === "read") {
    if (version) headers["If-None-Match"] = `"${version}"`;
    return { method: "GET", path: keyPath("read", key, query), headers, level, isNew: false };
  }
  if (version) headers["If-Match"] = `"${version}"`;
  if (op === "delete") {
    const path = keyPath("delete", key, query);
    return { method: "DELETE", path, headers, level, isNew: false };
  }
  if (isNew) headers["If-None-Match"] = "*";
  const { json } = asJson(valueInput.value);
  const life = ttl ? `,"ttl":${Number(ttl)}` : "";
  const body = `{"key":${JSON.stringify(key)},"value":${json}${life}}`;
  return { method: "POST", path: `/write${query && `?${query}`}`, body, headers, level, isNew };
}

// --- The journey -------------------------------------------------------------------------

function drawJourney() {
  const journey = state.journey;
  show(byId("answer"), journey !== null);
  if (!journey) return;
  const { answer, meaning: said } = journey;
  setAttribute(byId("answer"), "data-tone", said.tone);
  setText(byId("answer-line"), journey.line);
  setText(byId("answer-status"), answer.status ? String(answer.status) : "none");
  setText(byId("answer-title"), said.title);
  setText(byId("answer-text"), said.text);
  drawChips(journey);
  drawDetail(answer, said.isOpen);
  drawValue(journey);
  const list = byId("answer-nodes");
  syncList(list, journey.verdicts, (one) => one.id, () => el("li"), (item, one) => {
    setAttribute(item, "data-sign", one.sign);
    setText(item, `${SIGN[one.sign]} node ${one.id} ${one.text}`);
  });
  show(list, journey.verdicts.length > 0);
  setText(byId("answer-raw"), raw(journey));
}

function drawChips(journey) {
  const { answer } = journey;
  const version = answer.data?.version;
  const chips = [
    ["certain", certainty(journey)],
    ["version", version ? `version ${version}` : ""],
    ["retry", answer.retryAfter ? `try again after ${answer.retryAfter} s` : ""],
    ["took", `round trip ${duration(answer.ms / 1000)}`],
  ].filter(([, text]) => text);
  syncList(byId("answer-chips"), chips, ([name]) => name, () => el("li"), (item, [, text]) => {
    setText(item, text);
  });
}

/** What the server said, where the page's own words do not say it: it is in the raw answer. */
function drawDetail(answer, isOpen) {
  const detail = answer.data?.detail;
  const isShown = Boolean(detail) && isOpen;
  setText(byId("answer-detail"), isShown ? `It said: ${detail}` : "");
  show(byId("answer-detail"), isShown);
}

function drawValue({ op, answer }) {
  const isValue = op === "read" && answer.status === 200;
  show(byId("answer-value"), isValue);
  if (isValue) setText(byId("answer-value"), valueText(answer));
}

function raw({ line, body, answer }) {
  const sent = body ? `${line}\n${body}` : line;
  return `${sent}\n\n${answer.status || "no answer"}\n${answer.text}`.trimEnd();
}
