// What can be done to a node, for the panel and for the table: failing it in one of the
// ways that the store offers, bringing it back, taking it out. A new kind of action belongs
// here.

import { ask, PATIENT_MS } from "./api.js";
import { el, setAttribute, setText, show } from "./dom.js";
import { lossWarning, removeWarning, wipeWarning } from "./loss.js";
import { hurry } from "./poll.js";
import { mayChange, nodeOf, select, state, tell, wasWiped } from "./state.js";

const ASK_AGAIN_MS = 12_000; // within which a second press means it
const DOUBLE_CLICK_MS = 600; // a second press sooner than this was none

/**
 * @typedef {{id: string, label: string, kind: string,
 *   warning: ?(id: number) => Promise<string>,
 *   fits: (node: import("./state.js").NodeInfo) => boolean,
 *   path: string, body: ?Object}} Action
 *   path: of its route; body: null for a DELETE; warning: what would be lost, in words, where
 *   something would be: then it is done only when the button is pressed a second time
 */

/** What each mode is called, and what has happened to node N then. */
const MODES = {
  stop: ["Fail", (id) => `Node ${id} is down. Its storage stays.`],
  wipe: ["Wipe", (id) => `Node ${id} is down and its storage is gone.`],
  pause: ["Pause", (id) => `Node ${id} stands still: it keeps its connections and its storage, ` +
    "and answers nothing."],
};

/** The actions that the store offers, in the order in which they are shown. */
export function actions() {
  if (!state.modes.length) return []; // whoever runs the nodes can fail them and bring them back
  const failures = state.modes.map((mode) => ({
    id: mode,
    label: MODES[mode]?.[0] ?? `Fail: ${mode}`,
    kind: "harm",
    warning: mode === "wipe" ? wipeWarning : null,
    fits: (node) => mode === "wipe" || node.status !== "down",
    path: "fail",
    body: { mode },
  }));
  const recover = {
    id: "recover", label: "Recover", kind: "good", warning: null,
    fits: (node) => node.status !== "up", path: "recover", body: {},
  };
  return [...failures, recover];
}

export const ACCEPT_LOSS = {
  id: "accept-loss", label: "Recover, accepting the loss", kind: "harm", warning: lossWarning,
  fits: () => true, path: "recover", body: { accept_loss: true },
};

export const REMOVE = {
  id: "remove", label: "Remove", kind: "plain", warning: removeWarning,
  fits: () => state.nodes.length > 1, path: "nodes", body: null,
};

const busy = new Set(); // "path id" of what is on its way

/** Whether this page has asked for that and waits for the answer. */
export const isUnderWay = (path, id) => busy.has(`${path} ${id}`);

let warned = { button: null, at: 0 };
let tellUser = () => {};

/** Calls `listener(tone, text)` with the outcome of each action, in words. */
export function whenDone(listener) {
  tellUser = listener;
}

/**
 * A button that does `action` to the node that `idOf()` gives when it is pressed.
 * @param {Action} action
 * @param {() => number} idOf
 */
export function actionButton(action, idOf, id = null) {
  const button = el("button", {
    type: "button", class: `act act-${action.kind}`, "data-action": action.id, id,
    onclick: () => press(button, action, idOf()),
  }, action.label);
  return button;
}

/** Names the button after the node and says whether it can be pressed now. */
export function updateButton(button, action, node) {
  const isWarned = warned.button === button;
  const label = isWarned ? `${action.label} all the same` : action.label;
  setText(button, label);
  setAttribute(button, "aria-label", isWarned
    ? `${label}: node ${node.node_id}`
    : label.replace(/^\w+/, `$& node ${node.node_id}`));
  setAttribute(button, "data-warned", isWarned ? "yes" : null);
  const isBusy = isUnderWay(action.path, node.node_id);
  const can = mayChange() && action.fits(node) && !isBusy;
  setAttribute(button, "aria-disabled", can ? null : "true");
  setAttribute(button, "aria-busy", isBusy ? "true" : null);
}

async function press(button, action, id) {
  if (button.getAttribute("aria-disabled") === "true") return;
  if (id !== state.selected) select(id); // its panel tells how it went
  if (action.warning && !(await isMeant(button, action, id))) return;
  warned = { button: null, at: 0 };
  const name = `${action.path} ${id}`;
  const isRebuild = wasWiped(id); // before the recovery, which is an event too
  busy.add(name);
  refresh();
  const answer = await ask(action.body ? "POST" : "DELETE", `/${action.path}/${id}`, {
    body: action.body ? JSON.stringify(action.body) : undefined, patience: PATIENT_MS,
  });
  busy.delete(name);
  if (action.path === "fail") state.recoveries.delete(id);
  const { recovery, status } = answer.data ?? {};
  const isWhole = status === "up" || recovery?.removed != null; // else it is not over yet
  if (recovery && isWhole) state.recoveries.set(id, { ...recovery, isRebuild });
  tell("nodes"); // what the answer says of one is known now
  tellUser(answer.status === 200 ? "ok" : "bad", outcome(action, id, answer));
  hurry();
}

/** Whether an action is meant: where data would be lost, only the second time. */
async function isMeant(button, action, id) {
  if (warned.button === button && performance.now() - warned.at < ASK_AGAIN_MS) {
    return performance.now() - warned.at > DOUBLE_CLICK_MS;
  }
  const what = await action.warning(id);
  if (!what) return true;
  if (id !== state.selected) return false; // somebody went on to another node meanwhile
  const mine = { button, at: performance.now() };
  warned = mine;
  tellUser("warn", `${what} Press “${action.label} all the same” if that is what you want.`);
  setTimeout(() => {
    if (warned === mine) forgetWarning();
  }, ASK_AGAIN_MS);
  refresh();
  return false;
}

/** Takes back a question that nobody answered. */
export function forgetWarning() {
  if (!warned.button) return;
  warned = { button: null, at: 0 };
  refresh();
}

let refresh = () => {};

/** Calls `listener` when buttons may look different. */
export function whenChanged(listener) {
  refresh = listener;
}

function outcome(action, id, answer) {
  if (answer.status !== 200) {
    const why = answer.data?.detail ?? "the server did not answer";
    return `${action.label} node ${id}: ${answer.status || "no answer"}, ${why}.`;
  }
  const { status, waiting_for: waiting, lost_shards: lost = 0 } = answer.data;
  if (action.path === "fail") {
    const said = MODES[action.id]?.[1] ?? (() => `Node ${id} is down (${action.id}).`);
    return said(id);
  }
  if (action === REMOVE) return `Node ${id} was removed.`;
  if (status === "up") return `Node ${id} is up: it lacks nothing.`;
  if (lost) {
    return `Node ${id} is back, but data are lost, and no waiting brings them back: they are ` +
      "served again once a node is recovered with the loss accepted.";
  }
  return waiting.length
    ? `Node ${id} is back, and waits for others before it can serve.`
    : `Node ${id} is back and recovering.`;
}

/** Why nothing can be changed now; nothing if it can. */
export function whyNot() {
  if (state.link === "away") return "The server does not answer.";
  if (state.link === "locked") return "The server wants a token.";
  return state.access === "read" ? "The token may only read, so nothing can be changed." : "";
}

/** Shows why nothing can be changed, or hides that. */
export function showWhyNot(element) {
  const why = whyNot();
  setText(element, why);
  show(element, why !== "");
}

/** Selects a node and puts the focus on one of the panel's buttons. */
export function pointAt(id, action) {
  if (nodeOf(id)) select(id);
  document.querySelector(`#node-actions [data-action="${action}"]`)?.focus();
}
