// The band: the key space as a circle, drawn on a canvas. The outer track is coloured by the
// first replica of each partition. The inner track shows what is wrong there: a copy that is
// out of reach (ticks), a copy that is old (dots), keys that cannot be read (a full block).

import { colour, nodeColour } from "./colours.js";
import { protocol } from "./protocols.js";
import { state } from "./state.js";

const TURN = 2 * Math.PI;
const TOP = -Math.PI / 2; // token 0 is at the top, tokens grow clockwise

/**
 * @typedef {{width: number, height: number, x: number, y: number, outer: number,
 *   inner: number, health: number}} BandShape
 *   in CSS pixels: the size, the middle, the radii of the tracks' edges
 */

/** The angle at which a part of the circle (0 to 1) is. */
export const angleAt = (part) => TOP + part * TURN;

/**
 * Draws the band.
 * @param {HTMLCanvasElement} canvas
 * @param {BandShape} shape
 */
export function drawBand(canvas, shape) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [shape.width, shape.height].map((side) => Math.round(side * scale));
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, shape.width, shape.height);
  track(pen, shape, shape.inner, shape.outer, colour("--surface-2"));
  if (!state.shards) return;
  drawOwners(pen, shape);
  drawHealth(pen, shape);
}

function track(pen, shape, from, to, fill) {
  pen.beginPath();
  pen.arc(shape.x, shape.y, (from + to) / 2, 0, TURN);
  pen.lineWidth = to - from;
  pen.strokeStyle = fill;
  pen.stroke();
}

/** Runs of partitions that look the same, as [look, from, to]. */
function runs(count, lookOf) {
  const found = [];
  let from = 0;
  for (let index = 1; index <= count; index += 1) {
    if (index < count && lookOf(index) === lookOf(from)) continue;
    found.push([lookOf(from), from, index]);
    from = index;
  }
  return found;
}

function drawOwners(pen, shape) {
  const { partitions, shards } = state.shards;
  const places = new Map(state.nodes.map((node, index) => [node.node_id, index]));
  const chosen = state.isChosen ? state.selected : null;
  const lookOf = (index) => {
    const [shard, first] = partitions[index];
    if (chosen === null || first === chosen) return first;
    return shards[shard].replicas.includes(chosen) ? "copy" : "none";
  };
  const width = shape.outer - shape.inner;
  for (const [look, from, to] of runs(partitions.length, lookOf)) {
    if (look === "none") continue;
    const isCopy = look === "copy";
    pen.strokeStyle = nodeColour(places.get(isCopy ? chosen : look) ?? 0);
    pen.lineWidth = isCopy ? width * 0.45 : width;
    arc(pen, shape, isCopy ? shape.inner + width * 0.225 : (shape.inner + shape.outer) / 2,
      from / partitions.length, to / partitions.length);
  }
}

function arc(pen, shape, radius, from, to) {
  pen.beginPath();
  pen.arc(shape.x, shape.y, radius, angleAt(from), angleAt(to));
  pen.stroke();
}

const LANE = 0.62; // of the inner track has ticks, the rest of it dots
const PIECE = 3; // pixels, about
const DOT_PIECES = 3; // have one dot

function drawHealth(pen, shape) {
  const { partitions, shards } = state.shards;
  const tests = {
    out: shards.map((shard) => !shard.readable),
    missing: shards.map(protocol().isMissing),
    old: shards.map(protocol().isOld),
  };
  const count = Math.min(partitions.length, Math.round(TURN * shape.health / PIECE));
  const partOf = (kind, from, to) => {
    const own = partitions.slice(Math.floor((from * partitions.length) / count),
      Math.floor((to * partitions.length) / count));
    return own.filter(([shard]) => tests[kind][shard]).length / own.length;
  };
  const reach = shape.inner - shape.health - 2;
  for (let piece = 0; piece < count; piece += 1) {
    const out = partOf("out", piece, piece + 1);
    const [tall, wide, fill] = out
      ? [reach * atLeast(out), 1.05, colour("--bad")]
      : [reach * LANE * atLeast(partOf("missing", piece, piece + 1)), 0.5, colour("--bad")];
    drawPart(pen, shape, [piece / count, (piece + wide) / count], tall, fill);
  }
  for (let piece = 0; piece + DOT_PIECES <= count; piece += DOT_PIECES) {
    const isShown = partOf("old", piece, piece + DOT_PIECES) > 0 &&
      !partOf("out", piece, piece + DOT_PIECES);
    if (isShown) drawDot(pen, shape, (piece + DOT_PIECES / 2) / count, reach);
  }
}

const atLeast = (part) => (part > 0 ? Math.max(0.45, part) : 0);

function drawPart(pen, shape, [from, to], height, fill) {
  if (!height) return;
  pen.strokeStyle = fill;
  pen.lineWidth = height;
  arc(pen, shape, shape.inner - 2 - height / 2, from, to);
}

function drawDot(pen, shape, part, reach) {
  const size = Math.max(1.4, (reach * (1 - LANE)) / 2);
  const radius = shape.inner - 2 - reach + size;
  const angle = angleAt(part);
  pen.beginPath();
  pen.arc(shape.x + radius * Math.cos(angle), shape.y + radius * Math.sin(angle), size, 0, TURN);
  pen.fillStyle = colour("--warn");
  pen.fill();
}
