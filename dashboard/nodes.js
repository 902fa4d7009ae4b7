// The panel of the selected node, and all nodes as a table: their state in words, what the
// last recovery copied, and the buttons.

import {
  ACCEPT_LOSS, actionButton, actions, forgetWarning, REMOVE, showWhyNot, updateButton,
  whenChanged, whenDone,
} from "./actions.js";
import {
  byId, bytes, el, number, percent, sentence, setAttribute, setText, show, syncList,
} from "./dom.js";
import { protocol } from "./protocols.js";
import { SIGNS } from "./ring.js";
import { shareOf } from "./shares.js";
import { copies, nodeOf, on, select, state, wasWiped } from "./state.js";

const panel = byId("node-panel");
const message = byId("node-message");
const facts = byId("node-facts");
const table = byId("node-table");
const WIDE = ["Last recovery", "Clients reach it at"]; // facts that are sentences, or long
const peaks = new Map(); // node -> the most stale keys since it last had none
let panelButtons = [];
let lossButton = null;
let removeButton = null;

/** Begins to show nodes. */
export function startNodes() {
  whenChanged(drawButtons);
  whenDone(say);
  on("config", makeButtons);
  on("nodes shards events link access", draw);
  on("selected", () => {
    forgetWarning();
    if (state.isChosen) say("", ""); // else the node that it was said of is gone
    draw();
  });
  byId("node-list").addEventListener("toggle", drawTable);
  makeButtons();
}

function say(tone, text) {
  setText(message, text);
  setAttribute(message, "data-tone", tone);
  show(message, text !== "");
}

function makeButtons() {
  const idOf = () => state.selected;
  panelButtons = actions().map((action) => [actionButton(action, idOf), action]);
  lossButton = actionButton(ACCEPT_LOSS, idOf);
  removeButton = actionButton(REMOVE, idOf);
  byId("node-actions").replaceChildren(
    ...panelButtons.map(([button]) => button), lossButton, removeButton);
  show(byId("node-elsewhere"), !panelButtons.length);
  show(byId("node-head-acts"), panelButtons.length > 0);
  table.replaceChildren();
  draw();
}

function draw() {
  trackPeaks();
  const node = nodeOf(state.selected);
  show(panel, node !== undefined);
  if (!node) return;
  setText(byId("node-name"), `Node ${node.node_id}`);
  const badge = byId("node-status");
  setText(badge, `${SIGNS[node.status] ?? "?"} ${node.status}`);
  setAttribute(badge, "data-status", node.status);
  setText(byId("node-role"), roleOf(node));
  setText(byId("node-words"), protocol().stateOf(node));
  syncList(facts, factsOf(node), (fact) => fact[0], makeFact, updateFact);
  const count = hasShares() ? copies() : 1;
  setText(byId("node-shares"), count > 1
    ? `Each key is on ${number(count)} nodes, so the nodes’ shares add up to ` +
      `${number(count * 100)} %.`
    : "");
  show(byId("node-shares"), count > 1 && state.shards !== null);
  drawProgress(node);
  drawProblem(node);
  drawButtons();
  drawTable();
}

function trackPeaks() {
  for (const { node_id: id, stale_keys: stale } of state.nodes) {
    if (!stale) peaks.delete(id);
    else peaks.set(id, Math.max(peaks.get(id) ?? 0, stale));
  }
}

/** Its part in a Raft cluster, if it has told of one. */
function roleOf({ raft }) {
  if (!raft || raft.role === "unknown") return "";
  return `${raft.role === "leader" ? "★ " : ""}${raft.role}, term ${number(raft.term)}`;
}

function factsOf(node) {
  const share = hasShares() ? shareOf(node.node_id) : null;
  const found = [
    ["Keys", number(node.keys)],
    [protocol().lag.title, number(node.stale_keys)],
    ["Size", bytes(node.bytes)],
    ...protocol().facts(node),
  ];
  if (share !== null) found.push(["Share of the key space", percent(share)]);
  if (node.zone) found.push(["Zone", node.zone]);
  const recovery = node.recovery ?? state.recoveries.get(node.node_id);
  const isRebuild = recovery?.isRebuild ?? wasWiped(node.node_id);
  if (recovery) found.push(["Last recovery", protocol().recovery(recovery, isRebuild)]);
  else found.push(...eventOf(node.node_id));
  return found;
}

/** A recovery that somebody else asked for: what the events say of it. */
function eventOf(id) {
  const event = state.events.findLast((one) => one.node_id === id &&
    (one.kind === "node_recovered" || one.kind === "node_failed"));
  if (event?.kind !== "node_recovered") return [];
  const words = wasWiped(id) ? `rebuilt: ${event.detail}` : sentence(event.detail);
  return [["Last recovery", words]];
}

function makeFact() {
  return el("div", {}, el("dt"), el("dd"));
}

function updateFact(element, [name, value]) {
  setText(element.firstElementChild, name);
  setText(element.lastElementChild, value);
  setAttribute(element, "data-wide", WIDE.includes(name) ? "yes" : null);
}

function drawProgress(node) {
  const peak = peaks.get(node.node_id) ?? 0;
  const isCopying = node.status === "recovering" && peak > 0;
  show(byId("node-progress"), isCopying);
  if (!isCopying) return;
  const done = peak - node.stale_keys;
  const bar = byId("node-progress-bar");
  bar.max = peak;
  bar.value = done;
  setText(byId("node-progress-text"), protocol().lag.progress(done, peak));
}

function drawProblem(node) {
  const problem = byId("node-problem");
  setText(problem, node.problem ? `${protocol().problem[1]}${sentence(node.problem)}` : "");
  show(problem, Boolean(node.problem));
}

function drawButtons() {
  const node = nodeOf(state.selected);
  if (!node) return;
  for (const [button, action] of panelButtons) updateButton(button, action, node);
  updateButton(lossButton, ACCEPT_LOSS, node);
  show(lossButton, node.lost_shards > 0);
  updateButton(removeButton, REMOVE, node);
  show(removeButton, state.canChangeNodes);
  showWhyNot(byId("node-why-not"));
  for (const row of table.children) row.update?.();
}

const CELLS = ["status", "role", "keys", "stale", "share"];
const hasShares = () => state.placement !== "full"; // else each has all of it
const hasRoles = () => state.nodes.some((node) => node.raft);

function drawTable() {
  if (!byId("node-list").open) return;
  show(byId("node-head-role"), hasRoles());
  show(byId("node-head-share"), hasShares());
  setText(byId("node-head-lag"), sentence(protocol().lag.short));
  syncList(table, state.nodes, (node) => node.node_id, makeRow, updateRow);
}

function makeRow({ node_id: id }) {
  const row = el("tr", { id: `node-row-${id}` });
  const name = el("button", { type: "button", class: "link", onclick: () => select(id) });
  setText(name, `Node ${id}`);
  const buttons = actions().map((action) => [actionButton(action, () => id), action]);
  row.append(
    el("th", { scope: "row" }, name),
    ...CELLS.map((what) => el("td", { class: `cell-${what}` })),
    buttons.length ? el("td", { class: "cell-acts" }, ...buttons.map(([button]) => button)) : "",
  );
  row.update = () => {
    const node = nodeOf(id);
    if (node) buttons.forEach(([button, action]) => updateButton(button, action, node));
  };
  return row;
}

function updateRow(row, node) {
  const [, status, role, keys, stale, share] = row.children;
  setText(status, `${SIGNS[node.status] ?? "?"} ${node.status}`);
  setAttribute(status, "data-status", node.status);
  setText(role, roleOf(node).split(",")[0] || "–");
  show(role, hasRoles());
  show(share, hasShares());
  setText(keys, number(node.keys));
  setText(stale, number(node.stale_keys));
  const part = shareOf(node.node_id);
  setText(share, part === null ? "–" : percent(part));
  setAttribute(row, "data-selected", node.node_id === state.selected ? "yes" : null);
  row.update();
}
