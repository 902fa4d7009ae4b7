// The five steps of the guided tour. Each says what to do, sees from what the server said
// that it was done, and then says what has just happened and why it matters.

import { isUnderWay } from "./actions.js";
import { ask } from "./api.js";
import { byId, nodeNames, sentence } from "./dom.js";
import { pickKey } from "./keyform.js";
import { protocol } from "./protocols.js";
import { copies, nodeOf, select, state, tell, wasWiped } from "./state.js";

const MORE_KEYS = 20; // with one key alone a recovery could not be told from a full copy
const MORE_MS = 3_000;

/**
 * @typedef {{step: number, key: string, nodes: number[], failed: ?number, reader: ?number,
 *   copied: ?number, held: number, seen: any}} Facts
 *   what the tour has learned; seen: the request that was there when the step began
 * @typedef {{title: string, task: (facts: Facts) => string,
 *   isDone: (facts: Facts) => ?Object, after: (facts: Facts) => string,
 *   next: (facts: Facts) => ?Element, clear: (facts: Facts) => void, watch: string[],
 *   hint?: (facts: Facts) => string, prepare?: () => Promise<Object>}} Step
 *   isDone gives new facts once it is done; next: what to press now; clear: does what comes
 *   before the last press; watch: ids of what shows how it went; prepare makes ready what
 *   comes after it, and gives more
 */

/** The last request, if it was made since the step began, did `op` and was answered 200. */
function fresh(facts, op) {
  const { journey } = state;
  if (!journey || journey === facts.seen || journey.op !== op) return null;
  if (op !== "write" || facts.step > 0) if (journey.key !== facts.key) return null;
  return journey.answer.status === 200 ? journey.answer.data : null;
}

const FORM = ["answer-said", "answer", "value", "key"];
const PANEL = ["node-message", "node-name"];

/** The button of the form, once the key is in it; any key where `key` is empty. */
function inForm(key, button) {
  const typed = byId("key").value;
  return (key ? typed === key : typed) ? byId(button) : byId("key");
}

function fillIn(key) {
  if (inForm(key, "write") === byId("key")) pickKey(key || "greeting");
}

/** The button of the panel, once it is one of these nodes' panel. */
function atNode(ids, action) {
  return ids.includes(state.selected)
    ? document.querySelector(`#node-actions [data-action="${action}"]`)
    : document.getElementById(`ring-node-${ids[0]}`);
}

/** Those that may be failed, the best first: any holder that somebody chose is as good. */
function toFail({ nodes }) {
  const best = tour().first(nodes);
  return state.isChosen ? [best, ...nodes] : [best];
}

const oneOf = (ids) => [ids.slice(0, -1).join(", "), ids.at(-1)].filter(String).join(" or ");
const tour = () => protocol().tour;

/** @type {Step[]} */
export const STEPS = [
  {
    title: "Replicate",
    task: () => `Write a key. Of the ${state.nodes.length} nodes, ${copies()} will get a ` +
      "copy of it.",
    isDone: (facts) => {
      const data = fresh(facts, "write");
      const nodes = data ? tour().holders(state.journey) : [];
      return nodes.length < 2 ? null : { key: data.key, nodes };
    },
    hint: (facts) => (fresh(facts, "write") ? tour().few : downHint()),
    prepare: writeMore,
    after: (facts) => `${tour().written(facts)}${facts.more ? ` ${facts.more}` : ""}`,
    next: () => inForm("", "write"),
    clear: () => fillIn(""),
    watch: FORM,
  },
  {
    title: "Fail a node",
    task: ({ key, nodes }) => `Fail one of the nodes that hold “${key}”: ` +
      `${oneOf(nodes)}.${tour().failTask}`,
    isDone: ({ nodes }) => {
      const failed = nodes.find((id) => nodeOf(id)?.status === "down");
      return failed === undefined ? null : { failed };
    },
    after: (facts) => tour().failed(facts),
    next: (facts) => atNode(toFail(facts), state.modes[0]),
    clear: (facts) => toFail(facts).includes(state.selected) || select(toFail(facts)[0]),
    watch: PANEL,
  },
  {
    title: "Read on",
    task: ({ key, failed }) => `Read “${key}” while node ${failed} is down.`,
    isDone: (facts) => {
      const data = fresh(facts, "read");
      if (!data || data.replicas.includes(facts.failed)) return null;
      return { reader: data.replicas[0] ?? null };
    },
    hint: (facts) => tour().allDown(facts),
    after: (facts) => tour().read(facts),
    next: ({ key }) => inForm(key, "read"),
    clear: ({ key }) => fillIn(key),
    watch: FORM,
  },
  {
    title: "Write while it is down",
    task: ({ key, failed }) => `Write “${key}” again, with another value. Node ${failed} cannot ` +
      "hear of it.",
    isDone: (facts) => {
      const data = fresh(facts, "write");
      if (!data?.missed.includes(facts.failed)) return null;
      const { stale_keys: stale } = nodeOf(facts.failed) ?? {};
      return stale ? { stale } : null;
    },
    hint: (facts) => tour().allDown(facts),
    after: (facts) => tour().missed(facts),
    next: ({ key }) => inForm(key, "write"),
    clear: ({ key }) => fillIn(key),
    watch: FORM,
  },
  {
    title: "Recover",
    task: ({ failed }) => `Recover node ${failed}.`,
    isDone: ({ failed }) => {
      const node = nodeOf(failed);
      if (node?.status !== "up" || isUnderWay("recover", failed)) return null;
      const recovery = node.recovery ?? state.recoveries.get(failed);
      const isRebuild = recovery?.isRebuild ?? wasWiped(failed);
      return { copied: recovery?.copied ?? null, held: node.keys, isRebuild };
    },
    hint: ({ failed }) => (nodeOf(failed)?.waiting_for.length ? tour().waits : ""),
    after: (facts) => tour().recovered(facts),
    next: ({ failed }) => atNode([failed], "recover"),
    clear: ({ failed }) => select(failed),
    watch: PANEL,
  },
];

/** Writes keys beside the tour's own; what that came to, in words. */
async function writeMore() {
  const names = Array.from({ length: MORE_KEYS }, (_, index) => (
    `tour-${String(index + 1).padStart(2, "0")}`));
  const operations = names.map((key) => ({ op: "write", key, value: "from the tour" }));
  const body = JSON.stringify({ operations });
  const answer = await ask("POST", "/batch", { body, patience: MORE_MS });
  const results = answer.data?.results ?? [];
  const isDone = answer.status === 200 && results.every((one) => one.status === 200);
  if (answer.status === 200) tell("written");
  return isDone
    ? { more: `${names[0]} to ${names.at(-1)} were written too: there has to be something ` +
        "to compare." }
    : { more: "" };
}

function downHint() {
  const down = state.nodes.filter((node) => node.status !== "up").map((node) => node.node_id);
  if (!down.length) return "";
  return `${sentence(nodeNames(down))} ${down.length > 1 ? "are" : "is"} not up. Recover ` +
    `${down.length > 1 ? "them" : "it"} first, so that the key gets all of its copies.`;
}

/** Why the tour cannot be done here and now; nothing if it can. */
export function obstacle() {
  if (!state.nodes.length) return "It begins when the server answers.";
  if (state.link !== "up") return "";
  if (state.access === "read") {
    return "The tour writes keys and fails nodes, and this token may only read. Ask for the " +
      "other one, or look around.";
  }
  if (!state.modes.length) {
    return "Three of its five steps fail a node and bring it back, and that cannot be done from " +
      "here: the nodes are run elsewhere. Write, read, and see where keys live all the same.";
  }
  return tour().obstacle();
}

/** The step to which the tour must go back, and why; null if it may go on. */
export function setback(facts) {
  const isBroken = facts.step === 2 || facts.step === 3;
  if (!isBroken || nodeOf(facts.failed)?.status === "down") return null;
  return { step: 1, said: `Node ${facts.failed} is back already, so fail a node once more.` };
}
