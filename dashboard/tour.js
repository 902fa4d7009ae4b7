// The guided tour: shows one step after the other (steps.js says which) and goes on by itself
// when the server says that a step was done. Where it is stays in this tab's sessionStorage.

import { byId, el, setAttribute, setText, show, syncList } from "./dom.js";
import { protocol } from "./protocols.js";
import { obstacle, setback, STEPS } from "./steps.js";
import { on, state } from "./state.js";

const NAME = "kv-tour";
const POINT_MS = 2_400;
const FRESH = {
  step: 0, key: "", nodes: [], failed: null, more: "", said: "", isBack: false, isOpen: true,
};
const LATER_MS = 60; // after the answer, which wants to be seen too

let facts = restore();
let isPreparing = false;

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
  byId("tour-close").addEventListener("click", () => {
    change({ isOpen: false });
    byId("tour-open").focus();
  });
  byId("tour-open").addEventListener("click", open);
  byId("tour-again").addEventListener("click", open);
  byId("tour-point").addEventListener("click", point);
  on("nodes shards journey link access", check);
  new ResizeObserver(noteHeight).observe(document.querySelector(".top"));
  draw();
}

/** The card stays below the page's head where there is room for it. */
function noteHeight([{ target }]) {
  document.documentElement.style.setProperty("--head", `${target.offsetHeight}px`);
}

function bringIntoView() {
  setTimeout(() => byId("tour").scrollIntoView({ block: "nearest" }), LATER_MS);
}

function open() {
  const isOver = facts.step >= STEPS.length;
  change({ ...(isOver || !facts.isOpen ? FRESH : {}), isOpen: true, seen: state.journey });
  byId("tour").scrollIntoView({ block: "nearest" });
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
    change({ ...back, isBack: true, seen: state.journey });
    return bringIntoView();
  }
  const learned = step.isDone(facts);
  if (!learned) return draw();
  isPreparing = true;
  const more = step.prepare ? await step.prepare() : {};
  isPreparing = false;
  const now = { ...facts, ...learned, ...more };
  change({
    ...now, said: step.after(now), isBack: false, step: facts.step + 1, seen: state.journey,
  });
  bringIntoView();
  if (step.prepare) check(); // what happened meanwhile was not looked at
}

function draw() {
  show(byId("tour"), facts.isOpen);
  setAttribute(byId("tour"), "data-over", facts.step >= STEPS.length ? "yes" : null);
  show(byId("tour-open"), !facts.isOpen);
  if (!facts.isOpen) return;
  const step = STEPS[facts.step];
  const problem = obstacle();
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

/** Puts the focus where the step is done, and makes it stand out for a moment. */
function point() {
  STEPS[facts.step]?.point(facts);
  const target = document.activeElement;
  target.scrollIntoView({ block: "center" });
  target.classList.add("pointed");
  setTimeout(() => target.classList.remove("pointed"), POINT_MS);
}
