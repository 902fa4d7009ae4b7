// The guided tour: shows one step after the other (steps.js says which) and goes on by itself
// when the server says that a step was done. Where it is stays in this tab's sessionStorage.
// A mark (`data-next`) is always on what is to be pressed next, and on nothing else.

import { byId, el, setAttribute, setText, show, syncList } from "./dom.js";
import { protocol } from "./protocols.js";
import { obstacle, setback, STEPS } from "./steps.js";
import { on, state } from "./state.js";
import { bringIntoView } from "./view.js";

const NAME = "kv-tour";
const FRESH = {
  step: 0, key: "", nodes: [], failed: null, more: "", said: "", isBack: false, isOpen: true,
};

let facts = restore();
let isPreparing = false;
let marked = null;

function restore() {
  try {
    return { ...FRESH, ...JSON.parse(sessionStorage.getItem(NAME) ?? "{}"), seen: null };
  } catch {
    return { ...FRESH, seen: null };
  }
}

function keep() {
  try {
    sessionStorage.setItem(NAME, JSON.stringify({ ...facts, seen: undefined }));
  } catch {
    // storage is switched off: it holds until the page is closed
  }
}

/** Begins, or goes on where this tab left it. */
export function startTour() {
  byId("tour-close").addEventListener("click", close);
  byId("tour-open").addEventListener("click", open);
  byId("tour-again").addEventListener("click", open);
  byId("tour-point").addEventListener("click", point);
  document.addEventListener("keydown", onKey);
  on("nodes shards journey link access", check);
  on("selected config", draw);
  byId("key").addEventListener("input", draw);
  draw();
}

function onKey(event) {
  const isMeant = event.key === "Escape" && !event.defaultPrevented && !event.isComposing;
  if (isMeant && facts.isOpen && !byId("token-dialog").open) close();
}

function close() {
  const isInside = byId("tour").contains(document.activeElement);
  change({ isOpen: false });
  if (isInside) byId("tour-open").focus();
}

function open() {
  const isOver = facts.step >= STEPS.length;
  change({ ...(isOver || !facts.isOpen ? FRESH : {}), isOpen: true, seen: state.journey });
  byId("tour-title").focus();
}

function change(news) {
  facts = { ...facts, ...news };
  keep();
  draw();
}

/** Looks whether the step at hand was done, or undone. */
async function check() {
  if (isPreparing) return;
  const step = STEPS[facts.step];
  if (!facts.isOpen || !step || state.link !== "up" || obstacle()) return draw();
  const back = setback(facts);
  if (back) {
    return change({ ...back, isBack: true, seen: state.journey });
  }
  const learned = step.isDone(facts);
  if (!learned) return draw();
  const pressed = marked;
  isPreparing = true;
  mark(null);
  const more = step.prepare ? await step.prepare() : {};
  isPreparing = false;
  const now = { ...facts, ...learned, ...more };
  change({
    ...now, said: step.after(now), isBack: false, step: facts.step + 1, seen: state.journey,
  });
  if (pressed === document.activeElement) goOn();
  if (step.prepare) check(); // what happened meanwhile was not looked at
}

/** The focus leaves what is done, so that the keyboard is where one reads what comes next. */
function goOn() {
  byId(STEPS[facts.step] ? "tour-point" : "tour-title").focus({ preventScroll: true });
}

/** Marks what is to be pressed next, and that alone. */
function mark(element) {
  if (marked === element) return;
  if (marked) setAttribute(marked, "data-next", null);
  marked = element;
  if (marked) setAttribute(marked, "data-next", "yes");
}

function draw() {
  show(byId("tour"), facts.isOpen);
  show(byId("tour-open"), !facts.isOpen);
  const step = STEPS[facts.step];
  const problem = obstacle();
  const isUsable = facts.isOpen && step && !problem && state.link === "up" && !isPreparing;
  mark(isUsable ? step.next(facts) : null);
  if (!facts.isOpen) return;
  const count = STEPS.length;
  setText(byId("tour-title"), step
    ? `Tour, step ${facts.step + 1} of ${count}: ${step.title}`
    : "Tour: done");
  syncList(byId("tour-steps"), STEPS, (one) => one.title, (one) => el("li", {}, one.title),
    (item, one) => drawStep(item, STEPS.indexOf(one)));
  setText(byId("tour-said"), facts.said);
  setAttribute(byId("tour-said"), "data-tone", facts.isBack ? "warn" : "ok");
  show(byId("tour-said"), facts.said !== "" && !problem);
  setText(byId("tour-task"), problem || (step ? step.task(facts) : "Three things to try next:"));
  const hint = problem ? "" : step?.hint?.(facts) ?? "";
  setText(byId("tour-hint"), hint);
  show(byId("tour-hint"), hint !== "");
  show(byId("tour-point"), Boolean(step) && !problem);
  syncList(byId("tour-next"), protocol().tour.next, ([what]) => what, ([what, why]) => (
    el("li", {}, el("strong", {}, what), ` ${why}`)), () => {});
  show(byId("tour-next"), !step && !problem);
  show(byId("tour-again"), !step);
}

function drawStep(item, index) {
  const done = index < facts.step;
  setAttribute(item, "data-state", done ? "done" : index === facts.step ? "now" : "later");
  setAttribute(item, "aria-current", index === facts.step ? "step" : null);
  setAttribute(item, "aria-label", done ? `${STEPS[index].title}, done` : null);
}

/** Puts the focus where the step is done, with what shows how it goes in the same view. */
function point() {
  const step = STEPS[facts.step];
  step?.clear(facts);
  const target = step?.next(facts);
  target?.focus({ preventScroll: true });
  if (target) bringIntoView(target, ...step.watch.map(byId));
}
