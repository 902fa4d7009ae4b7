// Lines from the selected key to its replicas, and the dots that show how the last request
// went: out from the client in the middle, and back from those that answered.

import { angleAt } from "./band.js";
import { byId, setAttribute, setText, svg, wantsStillness } from "./dom.js";
import { nodeOf, state } from "./state.js";

const LEG_MS = 650; // one way
const STAY_MS = 2_500; // how long a sign at a node stays
const MARKS = { ok: "✓", missed: "✕", maybe: "?" };

const overlay = byId("ring-overlay");
const links = svg("g");
const flow = svg("g");
overlay.append(links, flow);

let layout = null;
let running = 0;
let clearing = 0;

/** How a replica is joined to its key. */
function linkKind(replica) {
  if (replica.status === "down") return "down";
  return replica.in_sync ? "sync" : "stale";
}

/** Draws the marker of the selected key and a line to each of its replicas. */
export function drawLinks(newLayout) {
  if (layout && layout.width !== newLayout.width) flow.replaceChildren(); // it is elsewhere now
  layout = newLayout;
  setAttribute(overlay, "viewBox", `0 0 ${layout.width} ${layout.height}`);
  overlay.style.setProperty("--unit", `${layout.unit}px`);
  links.replaceChildren();
  if (state.place) drawPlace(state.place);
  drawClient();
  dropOldMarks();
}

function drawPlace(place) {
  const marker = markerOf(place);
  place.replicas.forEach((replica, index) => {
    const node = layout.at.get(replica.node_id);
    if (node) links.append(...lineTo(marker, node, linkKind(replica), index + 1));
  });
  const { x, y } = marker;
  const r = layout.unit * 0.5;
  links.append(svg("path", {
    class: "key-marker",
    d: `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`,
  }));
}

function drawClient() {
  const { x, y, unit } = layout;
  const text = svg("text", { class: "client-name", x, y: y + unit * 0.3 });
  setText(text, "client");
  const circle = { class: "client", cx: x, cy: y, r: unit * 1.9 };
  links.append(svg("circle", circle), text);
}

function markerOf(place) {
  const part = parseInt(place.token.slice(0, 8), 16) / 2 ** 32;
  const angle = angleAt(part);
  const radius = layout.health - layout.unit * 0.7;
  return {
    x: layout.x + radius * Math.cos(angle),
    y: layout.y + radius * Math.sin(angle),
  };
}

/** A line that bends towards the middle, with the replica's number near its end. */
function lineTo(from, node, kind, order) {
  const reach = 1 - (layout.disc / 2 + 3) / distance(node);
  const to = towards(node, reach);
  const bend = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const control = {
    x: bend.x + (layout.x - bend.x) * 0.45,
    y: bend.y + (layout.y - bend.y) * 0.45,
  };
  const d = `M${from.x} ${from.y}Q${control.x} ${control.y} ${to.x} ${to.y}`;
  const near = onCurve(from, control, to, 0.6);
  const label = svg("text", { class: "link-order", x: near.x, y: near.y });
  setText(label, kind === "sync" ? order : `${order} ${kind === "down" ? "✕" : "old"}`);
  return [svg("path", { class: `link link-${kind}`, d }), label];
}

function onCurve(from, control, to, part) {
  const mix = (a, b, c) => (1 - part) ** 2 * a + 2 * (1 - part) * part * b + part ** 2 * c;
  return { x: mix(from.x, control.x, to.x), y: mix(from.y, control.y, to.y) };
}

const distance = (node) => Math.hypot(node.x - layout.x, node.y - layout.y);

/** A point on the way from the middle (0) to a node (1). */
function towards(node, part) {
  return {
    x: layout.x + (node.x - layout.x) * part,
    y: layout.y + (node.y - layout.y) * part,
  };
}

/**
 * Shows the journey of a request.
 * @param {import("./words.js").Verdict[]} verdicts
 */
export function playFlow(verdicts) {
  cancelAnimationFrame(running);
  clearTimeout(clearing);
  flow.replaceChildren();
  if (!layout) return;
  const travellers = verdicts
    .filter((verdict) => verdict.sign !== "idle" && layout.at.has(verdict.id))
    .map((verdict) => ({ ...verdict, node: layout.at.get(verdict.id) }));
  if (wantsStillness()) {
    travellers.forEach(markArrival);
    clearing = setTimeout(() => flow.replaceChildren(), STAY_MS);
    return;
  }
  for (const one of travellers) {
    one.dot = svg("circle", { class: `dot dot-${one.sign}`, r: layout.unit * 0.38 });
    flow.append(one.dot);
  }
  const began = performance.now();
  const step = (now) => {
    const legs = (now - began) / LEG_MS;
    for (const one of travellers) moveDot(one, legs);
    if (legs < 2) running = requestAnimationFrame(step);
    else clearing = setTimeout(() => flow.replaceChildren(), STAY_MS);
  };
  running = requestAnimationFrame(step);
}

/** Legs from 0 to 1 go out, from 1 to 2 come back; who missed it sends nothing back. */
function moveDot(one, legs) {
  const ease = (part) => part * part * (3 - 2 * part);
  if (legs >= 1 && !one.isMarked) {
    one.isMarked = true;
    markArrival(one);
    if (one.sign !== "ok") one.dot.remove();
  }
  const part = legs < 1 ? ease(Math.max(0, legs)) : ease(Math.max(0, 2 - legs));
  const { x, y } = towards(one.node, part);
  setAttribute(one.dot, "cx", x.toFixed(1));
  setAttribute(one.dot, "cy", y.toFixed(1));
  if (legs >= 2) one.dot.remove();
}

/** A node that went down since has nothing any more that one could see there. */
function dropOldMarks() {
  for (const mark of flow.querySelectorAll('[data-sign="ok"]')) {
    if (nodeOf(Number(mark.dataset.node))?.status === "down") mark.remove();
  }
}

function markArrival({ id, sign, node }) {
  const reach = 1 - (layout.disc / 2 + layout.unit * 1.1) / distance(node);
  const { x, y } = towards(node, reach);
  const circle = { class: `mark mark-${sign}`, cx: x, cy: y, r: layout.unit * 0.62 };
  const text = svg("text", { class: "mark-text", x, y: y + layout.unit * 0.28 });
  setText(text, MARKS[sign]);
  const mark = svg("g", { "data-sign": sign, "data-node": id });
  mark.append(svg("circle", circle), text);
  flow.append(mark);
}
