// Where the selected key lives, and why: from its token over its partition to its replicas,
// and what each of them holds.

import { nodeColour } from "./colours.js";
import {
  byId, el, nodeNames, number, percent, sentence, setAttribute, setText, show, syncList,
} from "./dom.js";
import { protocol } from "./protocols.js";
import { SIGNS } from "./ring.js";
import { nodeOf, on, state } from "./state.js";

const isDown = (replica) => (nodeOf(replica.node_id)?.status ?? replica.status) === "down";

const REACH = 12; // partitions shown on either side of the key's own
const REACH_WIDE = 7; // where ids have two digits

/** Begins to show the place of the selected key. */
export function startPlace() {
  on("key place shards nodes", draw);
  draw();
}

function draw() {
  const { key, place, placeProblem } = state;
  show(byId("place-none"), !place);
  setText(byId("place-none"), key
    ? placeProblem ? `It cannot be looked up: ${placeProblem}.` : "Looking it up."
    : "Write or read a key, or choose one of the list: its place on the ring shows here.");
  show(byId("place-shown"), place !== null);
  if (!place) return;
  setText(byId("place-key"), place.key);
  const count = state.shards?.partition_count ?? 0;
  setText(byId("place-token"), place.token);
  setText(byId("place-partition"), count
    ? `${number(place.partition)} of ${number(count)}`
    : number(place.partition));
  setText(byId("place-angle"), count ? `${percent(place.partition / count)} of the way round` : "");
  setText(byId("place-why"), why(place));
  drawZoom(place);
  syncList(byId("place-replicas"), ranked(place), (row) => row.node_id, makeRow, updateRow);
  const hasStale = place.replicas.some((replica) => !replica.in_sync);
  setText(byId("place-in-sync"), protocol().inSync);
  setText(byId("place-stale"), protocol().stale);
  show(byId("place-stale"), hasStale);
}

function why({ replica_set: ids }) {
  if (state.placement === "full") {
    return `The placement is “full”: every node holds every key, so its replicas are ` +
      `${nodeNames(ids)}.`;
  }
  if (state.placement !== "ring") {
    return `The placement “${state.placement}” gives this partition to ${nodeNames(ids)}.`;
  }
  return ids.length === 1
    ? `Walk clockwise from there: the first node is ${ids[0]}.`
    : `Walk clockwise from there: the first ${ids.length} different nodes are ${ids.join(", ")}.`;
}

/** The partitions around the key's own, each with its first replica. */
function drawZoom({ partition }) {
  const zoom = byId("place-zoom");
  const partitions = state.shards?.partitions;
  show(byId("place-zoom-box"), Boolean(partitions) && state.placement === "ring");
  if (!partitions) return;
  const places = new Map(state.nodes.map((node, index) => [node.node_id, index]));
  const cells = [];
  const reach = state.nodes.length > 10 ? REACH_WIDE : REACH;
  for (let step = -reach; step <= reach; step += 1) {
    const index = (partition + step + partitions.length) % partitions.length;
    cells.push({ step, first: partitions[index][1] });
  }
  syncList(zoom, cells, (cell) => cell.step, () => el("span"), (element, { step, first }) => {
    setText(element, String(first));
    setAttribute(element, "data-own", step === 0 ? "yes" : null);
    setAttribute(element, "data-far", Math.abs(step) > 6 ? "yes" : null);
    element.style.setProperty("--own", nodeColour(places.get(first) ?? 0));
  });
}

/** Versions are opaque but grow: the longer one is newer, then the later in order. */
function isNewer(one, other) {
  return one.length - other.length || (one > other ? 1 : one < other ? -1 : 0);
}

/** Whether a replica's version is that one or a newer one; none is older than any. */
export const isAtLeast = (version, wanted) => Boolean(version) && isNewer(version, wanted) >= 0;

/** The newest version of a place's replicas; null where none has one. */
export function newestOf(place) {
  const held = place.replicas.map((replica) => replica.version).filter(Boolean);
  return held.sort(isNewer).at(-1) ?? null;
}

/** What the newest version that was found is: one that is left may not be the last written. */
function nameOfNewest({ replicas }) {
  const inSync = replicas.filter((replica) => replica.in_sync);
  if (!inSync.length) return "newest that is left";
  return inSync.every(isDown) ? "newest of those up" : "newest";
}

/** The replicas in order, each with what it holds in a word. */
function ranked(place) {
  const newest = newestOf(place);
  const best = nameOfNewest(place);
  return place.replicas.map((replica, index) => {
    let holds = replica.status === "down" ? "cannot be asked" : "nothing";
    if (replica.version) {
      const age = replica.version === newest ? best : "older";
      holds = replica.deleted ? `tombstone, ${age}` : age;
    }
    return { ...replica, order: index + 1, holds, sync: protocol().sync(replica, place) };
  });
}

function makeRow() {
  return el("tr", {}, el("td"), el("th", { scope: "row" }), el("td"), el("td"),
    el("td", {}, el("span"), el("code")));
}

function updateRow(row, replica) {
  const [order, name, status, sync, held] = row.children;
  const [holds, version] = held.children;
  setText(order, String(replica.order));
  setText(name, `Node ${replica.node_id}`);
  const now = nodeOf(replica.node_id)?.status ?? replica.status;
  setText(status, `${SIGNS[now] ?? "?"} ${now}`);
  setAttribute(status, "data-status", now);
  setText(holds, sentence(replica.holds));
  setAttribute(holds, "data-holds", replica.holds);
  setText(version, replica.version ?? "");
  setText(sync, replica.sync);
  setAttribute(sync, "data-sync", replica.in_sync ? "yes" : "no");
}
