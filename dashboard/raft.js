// The words for Raft: the members elect a leader, which orders all writes, and a write is done
// once a majority has it on disk. protocols.js says what each of them is for.

import { bytes, duration, nodeNames, number, plural, sentence } from "./dom.js";
import { leader, majorityOf, quorum } from "./shares.js";
import { nodeOf, state, wasWiped } from "./state.js";

const LAG = "change";

// --- Nodes -------------------------------------------------------------------------------

/** The state of a node in one or two sentences. */
function stateOf(node) {
  const { raft, status, stale_keys: behind } = node;
  if (node.lost_shards) {
    return "A majority of the members lost their data, so nobody knows what was acknowledged, " +
      "and no waiting helps. Recover one member with the loss accepted: what it holds is then " +
      "the truth.";
  }
  if (status === "down") return downText(node);
  if (raft?.role === "learner") {
    return "It is a learner: it copies what the leader has, and gets a vote once it has " +
      "caught up.";
  }
  if (status === "recovering") return waitText(node);
  if (raft?.role === "leader") {
    return "It leads: it orders all writes, and answers once a majority has them on disk.";
  }
  const lag = behind ? ` It is ${plural(behind, LAG)} behind, which are on their way.` : "";
  return `It follows the leader, and votes for another if that falls silent.${lag}`;
}

function downText(node) {
  const last = state.events.findLast((one) => one.node_id === node.node_id &&
    one.kind === "node_failed");
  const lacks = missedText(node.stale_keys);
  if (wasWiped(node.node_id)) {
    return "It is down and its data are gone. Once recovered it joins anew and copies everything.";
  }
  if (!node.raft) return "It has not answered yet, so nobody knows what it holds.";
  if (last?.mode === "pause") {
    return "Its process stands still with its connections open, so that it is silent like one " +
      `behind a cut cable. ${lacks}`;
  }
  return `It is down. ${lacks}`;
}

function missedText(count) {
  if (count === null) return "What it misses is not known.";
  return count
    ? `It has missed ${plural(count, LAG)} so far.`
    : "It has missed nothing so far.";
}

/** Why a member that runs cannot serve: on whom it waits. */
function waitText({ raft, waiting_for: waiting }) {
  if (!raft) return "It was just started, and no other member has told of it yet.";
  const { voters, live, majority } = quorum();
  const needed = Math.max(majority - live.length, 0);
  if (!needed || !waiting.length) {
    return "It knows no leader at the moment. A majority is up, so they elect one within seconds.";
  }
  const whom = needed >= waiting.length
    ? nodeNames(waiting)
    : `${needed === 1 ? "one" : needed} of ${nodeNames(waiting)}`;
  return `It runs but knows no leader: to elect one, ${majority} of the ${voters.length} members ` +
    `have to be up. It waits for ${whom}.`;
}

function facts({ raft }) {
  if (!raft) return [];
  return [
    ["Revision", number(raft.revision)],
    ["Log applied", number(raft.applied)],
    ["Its file", bytes(raft.size_bytes)],
    ["Clients reach it at", raft.urls.join(", ") || "–"],
  ];
}

/** What coming back took: etcd does not count what it copies. */
function recovery({ copied, seconds }, isRebuild) {
  const took = duration(seconds);
  if (isRebuild) return `joined anew and copied everything, in ${took}`;
  if (!copied) return `back in ${took}: it had missed nothing`;
  return `caught up with ${plural(copied, LAG)} in ${took}: only what it missed`;
}

// --- Losses ------------------------------------------------------------------------------

/** Those that voted and still have their data. */
const whole = () => quorum().voters.filter((id) => !wasWiped(id));

function wipeWarning(id) {
  const { voters, majority } = quorum();
  const left = whole().filter((other) => other !== id);
  if (!voters.includes(id) || wasWiped(id) || left.length >= majority) return "";
  return `Without the data of node ${id} only ${left.length} of ${voters.length} members have ` +
    "theirs, and that is no majority: nothing can be served until somebody accepts the loss.";
}

function lossWarning(id) {
  const others = state.nodes.filter((node) => node.node_id !== id);
  const own = nodeOf(id);
  const richer = others.filter((node) => node.keys > (own?.keys ?? 0) && !wasWiped(node.node_id));
  const advice = richer.length ? ` Node ${richer[0].node_id} seems to have more.` : "";
  return `What node ${id} holds, ${plural(own?.keys ?? 0, "key")}, becomes the truth. ` +
    `${sentence(nodeNames(others.map((node) => node.node_id)))} lose their data and join anew.` +
    advice;
}

// --- Answers -----------------------------------------------------------------------------

/** Who gave the answer: a member that was just added has no number yet. */
function answerer({ data }) {
  return data?.replicas?.length ? sentence(nodeNames(data.replicas)) : "A member";
}

function written(asked) {
  const { majority, voters } = quorum();
  const missed = asked.answer.data.missed ?? [];
  const who = answerer(asked.answer);
  const late = missed.length
    ? ` ${sentence(nodeNames(missed))} missed it, and ${missed.length > 1 ? "get" : "gets"} it ` +
      "when back."
    : "";
  return `${who} answered once a majority, ${majority} of ${voters.length}, had it ` +
    `on disk: while a majority keeps its data, it is not lost.${late}`;
}

function deleted({ answer }) {
  const missed = answer.data.missed ?? [];
  const text = "The key is gone, at a majority. A tombstone (a record that says so) stands in " +
    "its place for a while";
  if (!missed.length) return `${text}.`;
  return `${text}: ${nodeNames(missed)} missed the delete, and cannot bring the old value back.`;
}

function read({ answer }) {
  if (answer.data?.may_be_stale) {
    return "Any member may answer at this level, from what it has: the value may be an old one.";
  }
  return `${answerer(answer)} answered, after the leader had made sure with a majority that it ` +
    "still leads: this is the newest acknowledged value.";
}

/** Why a member cannot take part; nothing if it can. */
function reason(id, place) {
  const replica = place?.replicas.find((one) => one.node_id === id);
  const status = replica?.status ?? nodeOf(id)?.status; // the place was just looked up
  if (status === "down") return "it is down";
  return status === "recovering" ? "it knows no leader" : "";
}

function verdict({ op, answer }, id, place) {
  const { replicas = [], version } = answer.data ?? {};
  const held = place?.replicas.find((one) => one.node_id === id)?.version;
  const why = reason(id, place);
  if (op === "read") {
    if (replicas.includes(id)) return { id, sign: "ok", text: "answered" };
    return why ? { id, sign: "missed", text: `not asked: ${why}` }
      : { id, sign: "idle", text: "not asked: one answers for all" };
  }
  if (replicas.includes(id)) return { id, sign: "ok", text: "answered, and a majority has it" };
  if (why) return { id, sign: "missed", text: `missed it: ${why}` };
  return held >= version ? { id, sign: "ok", text: "has it" }
    : { id, sign: "idle", text: "gets it now" };
}

// --- The tour ----------------------------------------------------------------------------

/** Those that answered, or hold the key beside them: in time each member that is up. */
function holders({ answer }) {
  const up = quorum().voters.filter((id) => nodeOf(id)?.status === "up");
  return up.length >= quorum().majority ? up : answer.data.replicas;
}

/** @type {import("./protocols.js").TourWords} */
const tour = {
  holders,
  first: (ids) => ids.find((id) => id === leader()?.node_id) ?? ids[0],
  few: "Too few members are up. Recover one, then write again.",
  written: ({ key, nodes }) => `A majority of ${nodeNames(nodes)} had “${key}” on disk before ` +
    "the answer came, and the others get it right after. So one can fail, and nothing " +
    "acknowledged is gone.",
  failTask: " Take the one that leads, and see another take over.",
  failed: ({ failed }) => `Node ${failed} answers nothing now, as if its machine had crashed. ` +
    "The others are a majority, and have every acknowledged write. If it led, they elect " +
    "another leader: that takes a second or two.",
  read: ({ reader }) => `${reader === null ? "A member" : `Node ${reader}`} answered, with the ` +
    "newest value. The failure cost a member but no data and no answer: that is what " +
    "replication is for.",
  missed: ({ failed, stale }) => `Node ${failed} missed it and is ${plural(stale, LAG)} behind: ` +
    "the majority went on without it. Even if it comes back this very moment, it gives no old " +
    "value for a new one.",
  waits: "It knows no leader: recover another member too.",
  recovered: ({ failed, copied, held, isRebuild }) => `Node ${failed} holds ` +
    `${plural(held, "key")} and has caught up` +
    (isRebuild
      ? ". It was sent everything, because it had been wiped: it joined as a learner, and votes " +
        "again now."
      : `${copied === null ? "" : ` with ${plural(copied, LAG)}`}: only what it missed. How does ` +
        "it know? All changes stand in one log, in the same order everywhere, so the leader " +
        "sends what comes after the last one that it has."),
  allDown: () => {
    const { live, majority } = quorum();
    return live.length >= majority ? "" : "No majority is up: recover one of those that are down.";
  },
  obstacle: () => {
    const count = quorum().voters.length;
    if (!state.shards || majorityOf(count) < count) return "";
    return `The tour fails a node, and with ${plural(count, "member")} none may fail: a majority ` +
      "has to stay. Add members until there are three.";
  },
  next: [
    ["Fail two of three members, then read a key.", "The answer is 503 and not 404: without a " +
      "majority no member can know whether it has the newest value."],
    ["Pause the leader.", "It keeps its connections and says nothing. The others elect another " +
      "leader, and it follows that one when it goes on."],
    ["Wipe a member, then recover it.", "It joins anew, as a learner without a vote, and copies " +
      "everything: under its old name it might have promised what it has forgotten."],
  ],
};

/** @type {import("./protocols.js").Protocol} */
export const raft = {
  meaning: "The members elect a leader. It orders all writes, and a write is acknowledged once " +
    "a majority has it on disk.",
  levelOne: "A read is answered by any one member and may be old. A write is as safe as ever.",
  lag: {
    title: "Changes behind",
    short: "behind",
    count: (count) => `${plural(count, LAG)} behind`,
    progress: (done, all) => `has ${number(done)} of the ${plural(all, LAG)} that it missed`,
  },
  isLate: (node) => node.status !== "up" && node.stale_keys > 0, // one that is up gets them now
  isThin: (shard) => shard.live.length < shard.replicas.length,
  lead: () => {
    const { node_id: id, raft: own } = leader() ?? {};
    return own ? `node ${id} leads in term ${number(own.term)}` : "nobody leads";
  },
  outage: () => "nothing can be served without a leader",
  back: [
    (node) => (node.raft?.role === "learner" ? "learns" : "waits"),
    "waits for a leader, or learns", "is not ready", "are not ready",
  ],
  problem: ["trouble", ""],
  stateOf,
  facts,
  recovery,
  wipeWarning,
  lossWarning,
  shown: (id) => {
    const led = leader()?.node_id;
    if (led === undefined) return "Nobody leads, so the colour of the band means nothing now.";
    if (id !== null && !quorum().voters.includes(id)) {
      return `Node ${id} has no vote yet, so no part of the band is its own. Node ${led} leads.`;
    }
    return id === null || id === led
      ? `The band has the colour of node ${led}, which leads for all keys.`
      : `Thin: node ${id}’s copy of every key. Node ${led} leads for all of them.`;
  },
  sync: (replica) => {
    if (replica.in_sync) return "✓ in sync";
    return nodeOf(replica.node_id)?.status === "down" ? "not known" : "… behind";
  },
  inSync: "In sync means that a member has applied every change that any member is known to have " +
    "committed.",
  stale: "A member that is behind answers a linearizable read only once it has caught up; at " +
    "level one it answers with what it has.",
  written,
  deleted,
  read,
  absent: "There is neither a value nor a tombstone: it was never written, or deleted longer ago " +
    "than tombstones are kept.",
  lost: "a majority of the members lost their data, so nobody knows what was acknowledged. It is " +
    "served again once somebody accepts the loss. Select a member and recover it with the loss " +
    "accepted: what it holds is then the truth.",
  unavailable: [
    " It is not a 404: without a majority no member can know whether it has the newest value, " +
      "and the store does not guess.",
    " No majority of the members can be reached, so no write could be acknowledged.",
  ],
  reason,
  verdict,
  tour,
};
