// Lines from the selected key to its replicas, and how the last request for it went: dots
// travel out from the client in the middle and back from those that answered, and marks say
// what came of it, as long as that is so.

import { angleAt } from "./band.js";
import { byId, setAttribute, setText, svg, wantsStillness } from "./dom.js";
import { state } from "./state.js";

const LEG_MS = 650; // one way
const MARKS = { ok: "✓", missed: "✕", maybe: "?" };
/** How an answer of each tone shows at the client: a sign, and words where it failed. */
const OUTCOMES = {
  ok: ["✓", ""], info: ["", ""], warn: ["!", "refused"], bad: ["✕", "failed"],
  unsure: ["?", "not known"],
};

const overlay = byId("ring-overlay");
const links = svg("g");
const marks = svg("g");
const dots = svg("g");
overlay.append(links, marks, dots);

let layout = null;
let running = 0;

/** How a replica is joined to its key, with a word where it does not serve it. */
function linkKind({ status, in_sync: isInSync }) {
  if (status === "down") return ["down", isInSync ? "✕" : "✕ old"];
  if (!isInSync) return ["old", "old"];
  return status === "up" ? ["sync", ""] : ["waits", "waits"];
}

/** Draws the marker of the selected key and a line to each of its replicas. */
export function drawLinks(newLayout) {
  layout = newLayout;
  setAttribute(overlay, "viewBox", `0 0 ${layout.width} ${layout.height}`);
  overlay.style.setProperty("--unit", `${layout.unit}px`);
  links.replaceChildren();
  if (state.place) drawPlace(state.place);
  drawOutcome();
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
function lineTo(from, node, [kind, word], order) {
  const to = towards(node, 1 - (layout.disc / 2 + 3) / distance(node));
  const bend = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const control = {
    x: bend.x + (layout.x - bend.x) * 0.45,
    y: bend.y + (layout.y - bend.y) * 0.45,
  };
  const d = `M${from.x} ${from.y}Q${control.x} ${control.y} ${to.x} ${to.y}`;
  const near = onCurve(from, control, to, 0.68);
  const label = svg("text", { class: "link-order", x: near.x, y: near.y });
  setText(label, `${order} ${word}`.trim());
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

// --- The last request ---------------------------------------------------------------------

/** The last request, while it is its key's place that shows. */
function shownJourney() {
  const { journey } = state;
  return journey && journey.key === state.key ? journey : null;
}

/** Shows how the last request went: it travels, and what came of it stays. */
export function playFlow() {
  cancelAnimationFrame(running);
  running = 0;
  dots.replaceChildren();
  drawOutcome();
  if (!layout || wantsStillness()) return;
  const travellers = partakers().map((one) => ({
    ...one, dot: svg("circle", { class: `dot dot-${one.sign}`, r: layout.unit * 0.38 }),
  }));
  dots.append(...travellers.map((one) => one.dot));
  const began = performance.now();
  const step = (now) => {
    const legs = (now - began) / LEG_MS;
    for (const one of travellers) moveDot(one, legs);
    running = legs < 2 ? requestAnimationFrame(step) : 0;
  };
  running = requestAnimationFrame(step);
}

/** The replicas that had a part in it, with where they are. */
function partakers() {
  return (shownJourney()?.verdicts ?? [])
    .filter((verdict) => verdict.sign !== "idle" && layout.at.has(verdict.id))
    .map((verdict) => ({ ...verdict, node: layout.at.get(verdict.id) }));
}

/** Draws what came of it: at the client, at each node, and the ways that led to nothing. */
function drawOutcome() {
  marks.replaceChildren();
  if (!layout) return;
  const journey = shownJourney();
  const tone = journey?.meaning.tone;
  drawClient(journey);
  const isLeft = tone === "bad" || tone === "unsure";
  for (const one of partakers()) {
    if (isLeft) marks.append(wayTo(one));
    marks.append(markOf(one));
  }
}

/** The client, with the status that it was given, and in words where that is a failure. */
function drawClient(journey) {
  const { x, y, unit } = layout;
  const tone = journey?.meaning.tone ?? "none";
  const write = (words, drop, kind) => {
    const text = svg("text", { class: kind, x, y: y + drop });
    setText(text, words);
    marks.append(text);
  };
  marks.append(svg("circle", { class: "client", "data-tone": tone, cx: x, cy: y, r: clientSize() }));
  if (!journey) return write("client", unit * 0.3, "client-name");
  write("client", unit * -0.25, "client-name");
  write(`${OUTCOMES[tone][0]} ${journey.answer.status || ""}`.trim(), unit * 0.85,
    `client-said said-${tone}`);
  write(OUTCOMES[tone][1], clientSize() + unit, `client-said said-${tone}`);
}

const clientSize = () => Math.min(layout.unit * 1.9, layout.health * 0.5);

/** The way of a request that led to nothing, from the client to a node. */
function wayTo({ sign, node }) {
  const [from, to] = [towards(node, clientSize() / distance(node)), towards(node, reach(node))];
  return svg("path", { class: `way way-${sign}`, d: `M${from.x} ${from.y}L${to.x} ${to.y}` });
}

/** Legs from 0 to 1 go out, from 1 to 2 come back; who missed it sends nothing back. */
function moveDot(one, legs) {
  const ease = (part) => part * part * (3 - 2 * part);
  if (legs >= 2 || (legs >= 1 && one.sign !== "ok")) return one.dot.remove();
  const part = legs < 1 ? ease(Math.max(0, legs)) : ease(2 - legs);
  const { x, y } = towards(one.node, part);
  setAttribute(one.dot, "cx", x.toFixed(1));
  setAttribute(one.dot, "cy", y.toFixed(1));
}

/** How far from the middle (0) to a node (1) its mark is. */
const reach = (node) => 1 - (layout.disc / 2 + layout.unit * 1.1) / distance(node);

function markOf({ id, sign, node }) {
  const { x, y } = towards(node, reach(node));
  const circle = { class: `mark mark-${sign}`, cx: x, cy: y, r: layout.unit * 0.62 };
  const text = svg("text", { class: "mark-text", x, y: y + layout.unit * 0.28 });
  setText(text, MARKS[sign]);
  const mark = svg("g", { "data-sign": sign, "data-node": id });
  mark.append(svg("circle", circle), text);
  return mark;
}
