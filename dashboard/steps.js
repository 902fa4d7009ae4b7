// The five steps of the guided tour. Each says what to do, sees from what the server said
// that it was done, and then says what has just happened and why it matters.

import { pointAt } from "./actions.js";
import { ask } from "./api.js";
import { byId, nodeNames, number, plural, sentence } from "./dom.js";
import { copies, nodeOf, state, tell, wasWiped } from "./state.js";

const MORE_KEYS = 20; // with one key alone a recovery could not be told from a full copy
const MORE_MS = 3_000;

/**
 * @typedef {{step: number, key: string, nodes: number[], failed: ?number, reader: ?number,
 *   copied: ?number, held: number, seen: any}} Facts
 *   what the tour has learned; seen: the request that was there when the step began
 * @typedef {{title: string, task: (facts: Facts) => string,
 *   isDone: (facts: Facts) => ?Object, after: (facts: Facts) => string,
 *   point: (facts: Facts) => void, hint?: (facts: Facts) => string,
 *   prepare?: () => Promise<Object>}} Step
 *   isDone gives new facts once it is done; prepare makes ready what comes after it, and
 *   gives more
 */

/** The last request, if it was made since the step began, did `op` and was answered 200. */
function fresh(facts, op) {
  const { journey } = state;
  if (!journey || journey === facts.seen || journey.op !== op) return null;
  if (op !== "write" || facts.step > 0) if (journey.key !== facts.key) return null;
  return journey.answer.status === 200 ? journey.answer.data : null;
}

function focusForm(key, button) {
  if (key) byId("key").value = key;
  else if (!byId("key").value) byId("key").value = "greeting";
  byId(button).focus();
}

const oneOf = (ids) => [ids.slice(0, -1).join(", "), ids.at(-1)].filter(String).join(" or ");
const others = (facts) => facts.nodes.filter((id) => id !== facts.failed);

/** @type {Step[]} */
export const STEPS = [
  {
    title: "Replicate",
    task: () => `Write a key. Of the ${state.nodes.length} nodes, ${copies()} will get a ` +
      "copy of it.",
    isDone: (facts) => {
      const data = fresh(facts, "write");
      if (!data || data.replicas.length < 2) return null;
      return { key: data.key, nodes: data.replicas };
    },
    hint: (facts) => (fresh(facts, "write")
      ? "It is on one node only, because another is down. Recover that one, then write again."
      : downHint()),
    prepare: writeMore,
    after: ({ key, nodes, more }) => `${sentence(nodeNames(nodes))} have “${key}”, and the ` +
      "answer came only when each of them had it. So one can fail, and nothing acknowledged is " +
      `gone.${more ? ` ${more}` : ""}`,
    point: () => focusForm("", "write"),
  },
  {
    title: "Fail a node",
    task: ({ key, nodes }) => `Fail one of the nodes that hold “${key}”: ` +
      `${oneOf(nodes)}.`,
    isDone: ({ nodes }) => {
      const failed = nodes.find((id) => nodeOf(id)?.status === "down");
      return failed === undefined ? null : { failed };
    },
    after: (facts) => `Node ${facts.failed} answers nothing now, as if its machine had crashed. ` +
      `${sentence(nodeNames(others(facts)))} ${others(facts).length > 1 ? "are" : "is"} in sync, ` +
      "and so has every acknowledged write of the key.",
    point: ({ nodes }) => pointAt(nodes[0], state.modes[0]),
  },
  {
    title: "Read on",
    task: ({ key, failed }) => `Read “${key}” while node ${failed} is down.`,
    isDone: (facts) => {
      const data = fresh(facts, "read");
      if (!data || data.replicas.includes(facts.failed)) return null;
      return { reader: data.replicas[0] };
    },
    hint: (facts) => allDownHint(facts),
    after: ({ reader }) => `Node ${reader} answered, with the newest value. The failure cost a ` +
      "copy but no data and no answer: that is what replication is for.",
    point: ({ key }) => focusForm(key, "read"),
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
    hint: (facts) => allDownHint(facts),
    after: ({ failed, stale }) => `Node ${failed} missed it and has ` +
      `${plural(stale, "stale key")} now: it left the in-sync set before the write was ` +
      "acknowledged. Its old copy is not read, not even if it comes back this very moment.",
    point: ({ key }) => focusForm(key, "write"),
  },
  {
    title: "Recover",
    task: ({ failed }) => `Recover node ${failed}.`,
    isDone: ({ failed }) => {
      const node = nodeOf(failed);
      if (node?.status !== "up") return null;
      const recovery = node.recovery ?? state.recoveries.get(failed);
      const isRebuild = recovery?.isRebuild ?? wasWiped(failed);
      return { copied: recovery?.copied ?? null, held: node.keys, isRebuild };
    },
    hint: ({ failed }) => (nodeOf(failed)?.waiting_for.length
      ? "It waits for another node that is down: recover that one too."
      : ""),
    after: ({ failed, copied, held, isRebuild }) => `Node ${failed} holds ` +
      `${plural(held, "key")} and copied ${copied === null ? "" : `${number(copied)}: `}` +
      (isRebuild
        ? "everything it should hold, because it had been wiped. "
        : "only what it missed, so coming back does not cost as much as is stored. ") +
      "How does it know? Replicas compare digests (checksums) of parts of the key space, and " +
      "look only into the parts that differ.",
    point: ({ failed }) => pointAt(failed, "recover"),
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
    ? { more: `Twenty more keys, ${names[0]} to ${names.at(-1)}, were written, so ` +
        "that there is something to compare." }
    : { more: "" };
}

function downHint() {
  const down = state.nodes.filter((node) => node.status !== "up").map((node) => node.node_id);
  if (!down.length) return "";
  return `${sentence(nodeNames(down))} ${down.length > 1 ? "are" : "is"} not up. Recover ` +
    `${down.length > 1 ? "them" : "it"} first, so that the key gets all of its copies.`;
}

function allDownHint({ key, nodes }) {
  const isUp = nodes.some((id) => nodeOf(id)?.status === "up");
  return isUp ? "" : `Every replica of “${key}” is down: recover one of them.`;
}

/** Why the tour cannot be done here and now; nothing if it can. */
export function obstacle() {
  if (!state.nodes.length) return "It begins when the server answers.";
  if (state.link !== "up") return "";
  if (state.access === "read") {
    return "The tour writes keys and fails nodes, and this token may only read. Ask for the " +
      "other one, or look around.";
  }
  if (copies() < 2) {
    return "Here each key lives on one node only, so there is nothing to replicate: start the " +
      "store with a replication factor of 2 for the tour.";
  }
  return "";
}

/** The step to which the tour must go back, and why; null if it may go on. */
export function setback(facts) {
  const isBroken = facts.step === 2 || facts.step === 3;
  if (!isBroken || nodeOf(facts.failed)?.status === "down") return null;
  return { step: 1, said: `Node ${facts.failed} is back already, so fail a node once more.` };
}

export const NEXT = [
  ["Fail every replica of a key, then read it.", "The answer is 503 and not 404: with every copy " +
    "down nobody can know whether the key exists."],
  ["Fail a node, delete a key that it holds, recover it.", "The key does not come back: a " +
    "tombstone tells the node what it missed."],
  ["Wipe a node, then recover it.", "It copies everything this time, from its peers. Wipe the " +
    "last in-sync copy, and see how the store says what is lost."],
];
