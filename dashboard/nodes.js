// The panel of the selected node, and all nodes as a table: their state in words, what the
// last recovery copied, and the buttons.

import {
  ACCEPT_LOSS, actionButton, actions, forgetWarning, showWhyNot, updateButton, whenChanged,
  whenDone,
} from "./actions.js";
import { hasLost, shareOf } from "./band.js";
import {
  byId, bytes, duration, el, nodeNames, number, percent, plural, sentence, setAttribute,
  setText, show, syncList,
} from "./dom.js";
import { SIGNS } from "./ring.js";
import { copies, nodeOf, on, select, state, wasWiped } from "./state.js";

const panel = byId("node-panel");
const message = byId("node-message");
const facts = byId("node-facts");
const table = byId("node-table");
const peaks = new Map(); // node -> the most stale keys since it last had none
let panelButtons = [];
let lossButton = null;

/** Begins to show nodes. */
export function startNodes() {
  whenChanged(drawButtons);
  whenDone(say);
  on("config", makeButtons);
  on("nodes shards events link access", draw);
  on("selected", () => {
    forgetWarning();
    say("", "");
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
  byId("node-actions").replaceChildren(...panelButtons.map(([button]) => button), lossButton);
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
  setText(byId("node-words"), words(node));
  syncList(facts, factsOf(node), (fact) => fact[0], makeFact, updateFact);
  const count = copies();
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

/** The state of a node in one or two sentences. */
function words(node) {
  const waiting = node.waiting_for;
  if (hasLost(node.node_id)) {
    return "Every in-sync copy of some of its keys lost its storage. Those keys answer 503 " +
      "until a node is recovered with the loss accepted: its copy is then the truth.";
  }
  if (waiting.length) {
    const verbs = waiting.length > 1 ? ["are", "hold"] : ["is", "holds"];
    return `It waits for ${nodeNames(waiting)}, which ${verbs[0]} down and alone ${verbs[1]} ` +
      "what it lacks.";
  }
  const isGone = wasWiped(node.node_id);
  if (node.status === "down" && isGone) {
    const count = node.stale_keys ? plural(node.stale_keys, "key") : "nothing";
    return `It is down and its storage is gone: ${count} to rebuild.`;
  }
  if (node.status === "down") {
    return node.stale_keys
      ? `It is down and has missed ${plural(node.stale_keys, "change")} so far.`
      : "It is down. It has missed nothing so far.";
  }
  if (node.status === "recovering") {
    return "It is back and takes live writes, but is not read until it " +
      `${isGone ? "is rebuilt" : "has copied what it missed"}.`;
  }
  return "It serves every key of its own.";
}

function factsOf(node) {
  const share = shareOf(node.node_id);
  const found = [
    ["Keys", number(node.keys)],
    ["Stale keys", number(node.stale_keys)],
    ["Size", bytes(node.bytes)],
  ];
  if (share !== null) found.push(["Share of the key space", percent(share)]);
  if (node.zone) found.push(["Zone", node.zone]);
  const recovery = node.recovery ?? state.recoveries.get(node.node_id);
  const isRebuild = recovery?.isRebuild ?? wasWiped(node.node_id);
  if (recovery) found.push(["Last recovery", recoveryWords(recovery, isRebuild)]);
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

/** What a recovery copied, in words. */
export function recoveryWords({ copied, removed, bytes: size, seconds }, isRebuild) {
  if (!copied && !removed) {
    const found = isRebuild ? "there was nothing to copy" : "it had missed nothing";
    return `compared in ${duration(seconds)}: ${found}`;
  }
  const deletes = removed === 1 ? "a delete" : "deletes";
  const gone = removed ? `, ${number(removed)} of them ${deletes}` : "";
  const what = `copied ${plural(copied, "record")}${gone}, ${bytes(size)}, in ${duration(seconds)}`;
  return isRebuild ? `rebuilt: ${what}, everything it should hold` : `${what}: only what it missed`;
}

function makeFact() {
  return el("div", {}, el("dt"), el("dd"));
}

function updateFact(element, [name, value]) {
  setText(element.firstElementChild, name);
  setText(element.lastElementChild, value);
  setAttribute(element, "data-wide", name === "Last recovery" ? "yes" : null);
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
  setText(byId("node-progress-text"), `${number(done)} of ${plural(peak, "stale key")} copied`);
}

function drawProblem(node) {
  const problem = byId("node-problem");
  setText(problem, node.problem ? `Its storage: ${sentence(node.problem)}` : "");
  show(problem, Boolean(node.problem));
}

function drawButtons() {
  const node = nodeOf(state.selected);
  if (!node) return;
  for (const [button, action] of panelButtons) updateButton(button, action, node);
  updateButton(lossButton, ACCEPT_LOSS, node);
  show(lossButton, hasLost(node.node_id));
  showWhyNot(byId("node-why-not"));
  for (const row of table.children) row.update?.();
}

function drawTable() {
  if (!byId("node-list").open) return;
  syncList(table, state.nodes, (node) => node.node_id, makeRow, updateRow);
}

function makeRow({ node_id: id }) {
  const row = el("tr", { id: `node-row-${id}` });
  const name = el("button", { type: "button", class: "link", onclick: () => select(id) });
  setText(name, `Node ${id}`);
  const buttons = actions().map((action) => [actionButton(action, () => id), action]);
  row.append(
    el("th", { scope: "row" }, name),
    ...["status", "keys", "stale", "share"].map((what) => el("td", { class: `cell-${what}` })),
    el("td", { class: "cell-acts" }, ...buttons.map(([button]) => button)),
  );
  row.update = () => {
    const node = nodeOf(id);
    if (node) buttons.forEach(([button, action]) => updateButton(button, action, node));
  };
  return row;
}

function updateRow(row, node) {
  const [, status, keys, stale, share] = row.children;
  setText(status, `${SIGNS[node.status] ?? "?"} ${node.status}`);
  setAttribute(status, "data-status", node.status);
  setText(keys, number(node.keys));
  setText(stale, number(node.stale_keys));
  const part = shareOf(node.node_id);
  setText(share, part === null ? "–" : percent(part));
  setAttribute(row, "data-selected", node.node_id === state.selected ? "yes" : null);
  row.update();
}
