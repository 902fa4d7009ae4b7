// A little traffic from this page itself, so that one sees how available the store is while
// nodes fail: it writes and reads ten keys, ten operations a second, and counts the answers.

import { showWhyNot } from "./actions.js";
import { ask } from "./api.js";
import { byId, el, number, percent, setAttribute, setText, show, syncList } from "./dom.js";
import { mayChange, on, state, tell } from "./state.js";

const KEYS = 10;
const PAUSE_MS = 100; // between operations
const LIMIT_MS = 120_000; // it ends by itself
const UNDER_WAY_MAX = 10;
const FIRST_LIST_MS = 3_000; // then each of its keys was written: the list of keys shows them
const LIST_MS = 30_000;
const STRIP = 60; // newest answers shown one by one

const WORDS = {
  200: "200 done", 404: "404 no such key", 503: "503 nothing was done", 504: "504 nobody knows",
  0: "no answer",
};
const button = byId("traffic");
const counts = new Map();
let newest = [];
let timer = 0;
let began = 0;
let listAt = 0;
let turn = 0;
let underWay = 0;

/** Makes the switch work. */
export function startTraffic() {
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    if (timer) stop("");
    else start();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && timer) stop("It stopped, because the page was hidden.");
  });
  window.addEventListener("pagehide", () => stop(""));
  on("link access", () => {
    setAttribute(button, "aria-disabled", !timer && !mayChange() && "true");
    if (timer && state.access === "read") stop("");
    showWhyNot(byId("traffic-why-not"));
  });
}

function start() {
  counts.clear();
  newest = [];
  turn = 0;
  began = Date.now();
  listAt = began + FIRST_LIST_MS;
  timer = setInterval(step, PAUSE_MS);
  setAttribute(button, "aria-checked", "true");
  setText(byId("traffic-note"), "It stops by itself after two minutes.");
  draw();
}

function stop(note) {
  if (!timer) return;
  clearInterval(timer);
  timer = 0;
  setAttribute(button, "aria-checked", "false");
  setText(byId("traffic-note"), note);
  if (!document.hidden) tell("written");
}

/** Each key is written, then read. */
async function step() {
  if (Date.now() - began > LIMIT_MS) return stop("It stopped after two minutes.");
  if (Date.now() > listAt) {
    listAt = Date.now() + LIST_MS;
    tell("written");
  }
  if (underWay >= UNDER_WAY_MAX) return;
  const key = `demo-${Math.floor(turn / 2) % KEYS}`;
  const isWrite = turn % 2 === 0;
  turn += 1;
  underWay += 1;
  const body = JSON.stringify({ key, value: turn });
  const answer = isWrite
    ? await ask("POST", "/write", { body })
    : await ask("GET", `/read/${key}`);
  underWay -= 1;
  counts.set(answer.status, (counts.get(answer.status) ?? 0) + 1);
  newest = [...newest, answer.status].slice(-STRIP);
  draw();
}

function draw() {
  const rows = [...counts].sort(([a], [b]) => a - b);
  show(byId("traffic-shown"), rows.length > 0);
  syncList(byId("traffic-counts"), rows, ([status]) => status, () => el("li"), (item, row) => {
    const [status, count] = row;
    setText(item, `${WORDS[status] ?? status}: ${number(count)}`);
    setAttribute(item, "data-tone", toneOf(status));
  });
  const good = newest.filter((status) => !["bad", "unsure"].includes(toneOf(status))).length;
  if (newest.length) setText(byId("traffic-part"), `${percent(good / newest.length)} of the last ` +
    `${newest.length} were answered`);
  drawStrip();
}

/** The look of an answer; nobody knows what came of one that was not given in time. */
function toneOf(status) {
  if ([0, 500, 504].includes(status)) return "unsure";
  return status > 500 ? "bad" : status === 200 ? "ok" : "info";
}

function drawStrip() {
  const strip = byId("traffic-strip");
  while (strip.children.length < STRIP) strip.append(el("span"));
  newest.forEach((status, index) => {
    setAttribute(strip.children[STRIP - newest.length + index], "data-tone", toneOf(status));
  });
}
