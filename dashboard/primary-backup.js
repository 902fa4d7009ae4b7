// The words for primary-backup: a manager sends each write to every live replica and decides
// who is in sync. protocols.js says what each of them is for.

import { bytes, duration, nodeNames, number, percent, plural, sentence } from "./dom.js";
import { loneShareOf, sumShares } from "./shares.js";
import { copies, nodeOf, state, wasWiped } from "./state.js";

const serving = (shard) => shard.in_sync.filter((id) => shard.live.includes(id));
const have = (ids) => (ids.length > 1 ? "have" : "has");

/** The state of a node in one or two sentences. */
function stateOf(node) {
  const waiting = node.waiting_for;
  if (node.lost_shards) {
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

/** What a recovery copied, in words. */
function recovery({ copied, removed, bytes: size, seconds }, isRebuild) {
  if (!copied && !removed) {
    const found = isRebuild ? "there was nothing to copy" : "it had missed nothing";
    return `compared in ${duration(seconds)}: ${found}`;
  }
  const deletes = removed === 1 ? "a delete" : "deletes";
  const gone = removed ? `, ${number(removed)} of them ${deletes}` : "";
  const what = `copied ${plural(copied, "record")}${gone}, ${bytes(size)}, in ${duration(seconds)}`;
  return isRebuild ? `rebuilt: ${what}, everything it should hold` : `${what}: only what it missed`;
}

// --- Losses ------------------------------------------------------------------------------

function wipeWarning(id) {
  if (!state.shards) {
    return `If node ${id} alone holds the newest state of some keys, wiping it loses them.`;
  }
  const share = loneShareOf(id);
  if (!share) return "";
  return `Node ${id} alone holds the newest state of ${percent(share)} of the key space. Wiping ` +
    "it loses those keys for good: they will answer 503 until somebody accepts the loss.";
}

function lossWarning(id) {
  const isConcerned = (shard) => shard.lost && shard.replicas.includes(id);
  const shards = (state.shards?.shards ?? []).filter(isConcerned);
  if (!shards.length) return "";
  const ids = new Set(shards.flatMap((shard) => shard.replicas));
  const others = [...ids].filter((other) => other !== id).map(nodeOf).filter(Boolean);
  const own = nodeOf(id)?.keys ?? 0;
  const held = [`Node ${id} holds ${plural(own, "key")} in all`, ...others.map(heldBy)];
  const truth = `Node ${id}’s copy becomes the truth for ${percent(sumShares(isConcerned))} of ` +
    "the key space. Whatever it lacks there is gone for good.";
  return `${truth} ${held.join("; ")}. ${advice(others, own)}`.trimEnd();
}

/** What another node has, where one is asked whose copy is to be the truth. */
export function heldBy({ node_id: id, status, keys }) {
  const where = status === "down" ? "which is down" : "which is there too";
  return `node ${id}, ${where}, holds ${plural(keys, "key")}`;
}

/** Who may have more of what is left. */
function advice(others, own) {
  const richer = others.filter((node) => node.keys > own).sort((a, b) => b.keys - a.keys);
  const there = richer.find((node) => node.status !== "down");
  if (there) return `So node ${there.node_id} seems to be the better choice.`;
  if (!richer.length) return "";
  const names = nodeNames(richer.slice(0, 1).map((node) => node.node_id));
  return `So recover ${names} first: its copy may have more.`;
}

// --- Where a key lives -------------------------------------------------------------------

const isDown = (replica) => (nodeOf(replica.node_id)?.status ?? replica.status) === "down";

/** Whether a replica is in sync, in words. */
function sync(replica, { replicas }) {
  if (!replica.in_sync) return "✕ stale";
  const goesOn = replicas.some((other) => other.in_sync && !isDown(other));
  return isDown(replica) && goesOn
    ? "✓ in sync so far: it leaves the set at the next write"
    : "✓ in sync";
}

// --- Answers -----------------------------------------------------------------------------

function written({ answer, level }) {
  const { replicas, missed } = answer.data;
  if ((level || state.consistency) === "one") {
    return `${sentence(nodeNames(replicas))} has it, and that is enough at this level. The other ` +
      "replicas get it right after: if this one fails before, the write is lost.";
  }
  if (missed?.length) return missedText(replicas, missed);
  return `${sentence(nodeNames(replicas))} ${have(replicas)} it, and only then was it ` +
    "acknowledged: while one of them keeps its storage, it is not lost.";
}

function missedText(replicas, missed) {
  return `${sentence(nodeNames(replicas))} ${have(replicas)} it, and it is acknowledged. ` +
    `${sentence(nodeNames(missed))} missed it: what is there is old now, and is not read until ` +
    "it has been copied.";
}

function deleted({ answer }) {
  const { missed } = answer.data;
  const text = "The key is gone. A tombstone (a record that says so) stands in its place";
  if (!missed?.length) return `${text}, on every replica.`;
  return `${text}: ${nodeNames(missed)} missed the delete, and cannot bring the old value back.`;
}

function read({ answer, level }) {
  if (answer.data?.may_be_stale) {
    return "Any live replica may answer at this level: the value may be an old one.";
  }
  const from = sentence(nodeNames(answer.data?.replicas ?? []));
  const isStrict = (level || state.consistency) === "linearizable";
  return `${from} answered${isStrict ? ": this is the newest acknowledged value" : ""}. Only a ` +
    "replica that is in sync may answer, so one is enough.";
}

/** Why a replica cannot take part; nothing if it can. */
function reason(id, place) {
  const replica = place?.replicas.find((one) => one.node_id === id);
  const status = replica?.status ?? nodeOf(id)?.status; // the place was just looked up
  if (status === "down") return "it is down";
  if (replica && !replica.in_sync) return "its copy is not in sync";
  if (status === "recovering") return "it is still recovering";
  return "";
}

function verdict({ op, answer }, id, place) {
  const { replicas = [], missed = [] } = answer.data ?? {};
  if (replicas.includes(id)) {
    return { id, sign: "ok", text: op === "read" ? "answered" : "has it" };
  }
  const why = reason(id, place);
  if (missed.includes(id) && why) return { id, sign: "missed", text: `missed it: ${why}` };
  if (op !== "read") return { id, sign: "idle", text: "had not got it yet" };
  return why ? { id, sign: "missed", text: `not asked: ${why}` }
    : { id, sign: "idle", text: "not asked: one in-sync copy is enough" };
}

// --- The tour ----------------------------------------------------------------------------

const others = (facts) => facts.nodes.filter((id) => id !== facts.failed);

/** @type {import("./protocols.js").TourWords} */
const tour = {
  holders: ({ answer }) => answer.data.replicas,
  first: (ids) => ids[0],
  few: "It is on one node only, because another is down. Recover that one, then write again.",
  written: ({ key, nodes }) => `${sentence(nodeNames(nodes))} have “${key}”, and the ` +
    "answer came only when each of them had it. So one can fail, and nothing acknowledged is " +
    "gone.",
  failTask: "",
  failed: (facts) => `Node ${facts.failed} answers nothing now, as if its machine had crashed. ` +
    `${sentence(nodeNames(others(facts)))} ${others(facts).length > 1 ? "are" : "is"} in sync, ` +
    "and so has every acknowledged write of the key.",
  read: ({ reader }) => `Node ${reader} answered, with the newest value. The failure cost a ` +
    "copy but no data and no answer: that is what replication is for.",
  missed: ({ failed, stale }) => `Node ${failed} missed it and has ` +
    `${plural(stale, "stale key")} now: it left the in-sync set before the write was ` +
    "acknowledged. Its old copy is not read, not even if it comes back this very moment.",
  waits: "It waits for another node that is down: recover that one too.",
  recovered: ({ failed, copied, held, isRebuild }) => `Node ${failed} holds ` +
    `${plural(held, "key")} and copied ${copied === null ? "" : `${number(copied)}: `}` +
    (isRebuild
      ? "everything it should hold, because it had been wiped. "
      : "only what it missed, so coming back does not cost as much as is stored. ") +
    "How does it know? Replicas compare digests (checksums) of parts of the key space, and " +
    "look only into the parts that differ.",
  allDown: ({ key, nodes }) => (nodes.some((id) => nodeOf(id)?.status === "up")
    ? ""
    : `Every replica of “${key}” is down: recover one of them.`),
  obstacle: () => (copies() < 2
    ? "Here each key lives on one node only, so there is nothing to replicate: start the " +
      "store with a replication factor of 2 for the tour."
    : ""),
  next: [
    ["Fail every replica of a key, then read it.", "The answer is 503 and not 404: with every " +
      "copy down nobody can know whether the key exists."],
    ["Fail a node, delete a key that it holds, recover it.", "The key does not come back: a " +
      "tombstone tells the node what it missed."],
    ["Wipe a node, then recover it.", "It copies everything this time, from its peers. Wipe " +
      "the last in-sync copy, and see how the store says what is lost."],
  ],
};

/** @type {import("./protocols.js").Protocol} */
export const primaryBackup = {
  meaning: "The manager sends each write to every live replica and decides who is in sync. No " +
    "node is the primary for good.",
  levelOne: "One copy is enough: faster, but a read may be old and a write may be lost.",
  lag: {
    title: "Stale keys",
    short: "stale",
    count: (count) => plural(count, "stale key"),
    progress: (done, all) => `${number(done)} of ${plural(all, "stale key")} copied`,
  },
  isLate: (node) => node.stale_keys > 0,
  isThin: (shard) => serving(shard).length < shard.replicas.length,
  lead: () => "",
  outage: (part) => `${percent(part)} of the key space cannot be served`,
  back: [() => "back", "back, recovering", "recovers", "recover"],
  problem: ["storage problem", "Its storage: "],
  stateOf,
  facts: () => [],
  recovery,
  wipeWarning,
  lossWarning,
  shown: (id) => (id === null
    ? "Showing which node comes first in each part of the band: choose a node to see its own."
    : `Showing node ${id}’s part of the band: thick where it comes first, thin where it holds ` +
      "a further copy."),
  sync,
  inSync: "In sync means that a replica holds every acknowledged write of this part of the key " +
    "space.",
  stale: "A stale one is not read, because it cannot know what it missed: its value may be an " +
    "old one, or one that was deleted.",
  written,
  deleted,
  read,
  absent: "As far as the store knows it was never written: a replica in sync holds neither it " +
    "nor a tombstone of it.",
  lost: "each copy that had the newest state lost its storage. It is served again once somebody " +
    "accepts the loss. Select one of its replicas on the ring, and recover it with the loss " +
    "accepted: what it still holds is then the truth.",
  unavailable: [
    " It is not a 404: with every in-sync copy out of reach nobody can know whether the key " +
      "exists, and the store does not guess.",
    " No replica that is in sync can be reached, so no write could be acknowledged.",
  ],
  reason,
  verdict,
  tour,
};
