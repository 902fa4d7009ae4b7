// The ring: nodes as radio buttons around the band of the key space. Here is where
// everything on it goes and how nodes look; band.js paints the band, flow.js the lines to
// a key's replicas and the dots that travel.

import { angleAt, drawBand } from "./band.js";
import { nodeColour } from "./colours.js";
import { byId, el, number, plural, setAttribute, setText, show, syncList } from "./dom.js";
import { drawLinks } from "./flow.js";
import { protocol } from "./protocols.js";
import { leader } from "./shares.js";
import { on, select, state } from "./state.js";
import { bringIntoView } from "./view.js";

/** How each status looks: a sign and a word beside its colour. */
export const SIGNS = { up: "●", down: "✕", recovering: "◐" };

const stage = byId("ring-stage");
const canvas = byId("ring-band");
const group = byId("ring-nodes");
let planned = 0;

/**
 * @typedef {import("./band.js").BandShape & {unit: number, disc: number, detail: string,
 *   at: Map<number, {x: number, y: number, angle: number}>}} Layout
 *   disc: diameter of a node; detail: how much fits, "full", "id" or "dot"
 */

/** @type {?Layout} */
let layout = null;

/** Where everything is; null before the first drawing. */
export const ringLayout = () => layout;

/** Begins to draw whenever something changes. */
export function startRing() {
  on("nodes shards selected place", plan);
  document.documentElement.addEventListener("themechange", plan);
  new ResizeObserver(plan).observe(stage);
  window.addEventListener("resize", plan);
  group.addEventListener("keydown", onKey);
  group.addEventListener("click", onClick);
}

function plan() {
  if (!planned) planned = requestAnimationFrame(draw);
}

function draw() {
  planned = 0;
  if (!state.nodes.length || !stage.clientWidth) return;
  layout = measure(stage.clientWidth, state.nodes);
  stage.style.setProperty("height", `${layout.height}px`);
  drawBand(canvas, layout);
  drawNodes();
  drawLinks(layout);
  show(byId("ring-no-shards"), !state.shards);
  show(byId("ring-how"), state.placement === "ring");
  show(byId("ring-shown"), state.shards !== null);
  setText(byId("ring-shown"), protocol().shown(state.isChosen ? state.selected : null));
  setText(byId("legend-back"), protocol().back[1]);
  show(byId("legend-leader"), state.nodes.some((node) => node.raft));
}

/** @returns {Layout} */
function measure(width, nodes) {
  const unit = parseFloat(getComputedStyle(stage).fontSize);
  const count = nodes.length;
  const tall = parseFloat(getComputedStyle(stage).getPropertyValue("--tall"));
  const height = Math.min(document.documentElement.clientHeight * tall, width);
  const size = Math.min(width, height * 1.15);
  const room = (Math.PI * size * 0.8) / count;
  const disc = Math.max(unit * 0.55, Math.min(room * 0.72, size * 0.14, unit * 7));
  const hasRoom = disc >= unit * 3.2 && room >= disc + unit * 2.4; // for a label of its own
  const detail = hasRoom ? "full" : disc >= unit * 1.5 ? "id" : "dot";
  const angles = nodes.map((_, index) => angleAt(index / count));
  const isSmall = detail !== "full"; // then the band has what room there is
  const margin = disc / 2 + unit * (isSmall ? 1.4 : 1.7); // of a node with its label
  const { orbit, above, below } = fit(width, height, angles, margin);
  const [x, y] = [width / 2, above];
  const outer = orbit - disc / 2 - unit * (isSmall ? 0.25 : 0.6);
  const inner = outer - Math.max(unit * (isSmall ? 0.65 : 0.9), orbit * 0.08);
  const health = inner - Math.max(unit * 0.8, orbit * 0.07);
  const at = new Map(nodes.map((node, index) => {
    const angle = angles[index];
    const spot = { x: x + orbit * Math.cos(angle), y: y + orbit * Math.sin(angle), angle };
    return [node.node_id, spot];
  }));
  return {
    width, height: above + below, x, y, unit, disc, detail, outer, inner, health, at,
  };
}

/** The largest circle of nodes that fits: few nodes leave room at its sides. */
function fit(width, height, angles, margin) {
  const most = (partOf) => Math.max(...angles.map(partOf), 0);
  const [side, up, down] = [most((a) => Math.abs(Math.cos(a))), most((a) => -Math.sin(a)),
    most(Math.sin)];
  const extent = (orbit, part) => Math.max(orbit * part + margin, orbit);
  let orbit = Math.min(width, height) / 4;
  const fits = (tried) => extent(tried, side) <= width / 2 &&
    extent(tried, up) + extent(tried, down) <= height;
  while (fits(orbit + 1)) orbit += 1;
  return { orbit, above: extent(orbit, up), below: extent(orbit, down) };
}

function drawNodes() {
  setAttribute(group, "data-detail", layout.detail);
  group.style.setProperty("--disc", `${layout.disc}px`);
  const labelled = labelledNodes();
  const places = new Map(state.nodes.map((node, index) => [node.node_id, index]));
  syncList(group, state.nodes, (node) => node.node_id, makeNode, (element, node) => {
    updateNode(element, node, places.get(node.node_id), labelled.has(node.node_id));
  });
}

/** Small nodes have a label only where something is wrong, and where it fits. */
function labelledNodes() {
  if (layout.detail !== "dot") return new Set(state.nodes.map((node) => node.node_id));
  const shown = new Set([state.selected]);
  const gap = layout.unit * 1.5;
  const isFree = (id) => [...shown].every((other) => {
    const [a, b] = [layout.at.get(id), layout.at.get(other)];
    return !b || other === id || Math.hypot(a.x - b.x, a.y - b.y) > gap;
  });
  for (const node of state.nodes) {
    if (node.status !== "up" && isFree(node.node_id)) shown.add(node.node_id);
  }
  return shown;
}

function makeNode(node) {
  const id = node.node_id;
  return el("button", {
    type: "button", role: "radio", class: "node", id: `ring-node-${id}`,
  },
  el("span", { class: "node-disc" },
    el("span", { class: "node-id" }, String(id)),
    el("span", { class: "node-sign" })),
  el("span", { class: "node-label" }));
}

function updateNode(element, node, index, isLabelled) {
  const { x, y, angle } = layout.at.get(node.node_id);
  const isSelected = node.node_id === state.selected;
  element.style.setProperty("--x", `${x.toFixed(1)}px`);
  element.style.setProperty("--y", `${y.toFixed(1)}px`);
  element.style.setProperty("--own", nodeColour(index));
  setAttribute(element, "data-status", node.status);
  setAttribute(element, "data-role", leads(node) ? "leader" : null);
  setAttribute(element, "data-label", labelSide(angle, isLabelled));
  setAttribute(element, "aria-checked", String(isSelected));
  setAttribute(element, "aria-label", nameOf(node));
  setAttribute(element, "title", layout.detail === "dot" ? nameOf(node) : null);
  setAttribute(element, "tabindex", isSelected ? "0" : "-1");
  const [disc, label] = element.children;
  setText(disc.lastElementChild, signOf(node));
  setText(label, labelOf(node));
}

const leads = (node) => leader()?.node_id === node.node_id;

function signOf(node) {
  const sign = leads(node) ? "★" : SIGNS[node.status] ?? "?";
  if (layout.detail !== "full") return sign;
  return `${sign} ${node.status === "recovering" ? protocol().back[0](node) : node.status}`;
}

function labelSide(angle, isLabelled) {
  if (!isLabelled) return "none";
  if (layout.detail === "full") return Math.sin(angle) < -0.3 ? "above" : "below";
  if (Math.abs(Math.cos(angle)) < 0.5) return Math.sin(angle) < 0 ? "above" : "below";
  return Math.cos(angle) > 0 ? "right" : "left";
}

function labelOf(node) {
  if (layout.detail === "dot") return String(node.node_id);
  const lag = protocol().isLate(node) ? lagOf(node) : "";
  if (layout.detail === "id") return lag;
  return [leads(node) ? "leads" : "", keysOf(node), lag].filter(Boolean).join(", ");
}

const lagOf = (node) => `${number(node.stale_keys)} ${protocol().lag.short}`;
const keysOf = ({ keys }) => (keys === null ? "keys not known" : plural(keys, "key"));

function nameOf(node) {
  const role = leads(node) ? "leader" : "";
  const parts = [`Node ${node.node_id}`, node.status, role, keysOf(node)];
  if (node.stale_keys !== null) parts.push(lagOf(node));
  return parts.filter(Boolean).join(", ");
}

const FINGER = 22; // pixels around a node that still mean it

/** Selects the node that was hit, or the nearest one: with many nodes they are small. */
function onClick(event) {
  const button = event.target.closest(".node");
  const isByKey = event.detail === 0;
  if (button && (isByKey || layout.detail !== "dot")) return choose(Number(button.dataset.key));
  const box = group.getBoundingClientRect();
  const distanceOf = ({ x, y }) => Math.hypot(event.clientX - box.left - x,
    event.clientY - box.top - y);
  const [nearest] = [...layout.at].sort((a, b) => distanceOf(a[1]) - distanceOf(b[1]));
  if (distanceOf(nearest[1]) < Math.max(FINGER, layout.disc)) choose(nearest[0]);
}

/** Selects a node, and shows its panel, which on a narrow page may be elsewhere. */
function choose(id) {
  select(id);
  bringIntoView(byId("node-actions"), byId("node-name"), byId("node-message"));
}

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

function onKey(event) {
  const ids = state.nodes.map((node) => node.node_id);
  const now = ids.indexOf(state.selected);
  let next = now;
  if (event.key in STEPS) next = (now + STEPS[event.key] + ids.length) % ids.length;
  else if (event.key === "Home") next = 0;
  else if (event.key === "End") next = ids.length - 1;
  else if (event.key !== "Escape" || !state.isChosen) return;
  event.preventDefault();
  if (event.key === "Escape") return select(ids[now], false);
  select(ids[next]);
  byId(`ring-node-${ids[next]}`).focus();
}
