// What would be lost for good: a warning in words before a node is wiped, and before a copy
// that lacks something is taken for the truth. Both look first, because a second ago there
// may have been another copy.

import { loneShareOf, sumShares } from "./band.js";
import { nodeNames, percent, plural } from "./dom.js";
import { lookAtNodes, lookAtShards } from "./poll.js";
import { nodeOf, state } from "./state.js";

/** What wiping a node would lose; nothing if others hold it too. */
export async function wipeWarning(id) {
  await lookAtShards();
  if (!state.shards) {
    return `If node ${id} alone holds the newest state of some keys, wiping it loses them.`;
  }
  const share = loneShareOf(id);
  if (!share) return "";
  return `Node ${id} alone holds the newest state of ${percent(share)} of the key space. Wiping ` +
    "it loses those keys for good: they will answer 503 until somebody accepts the loss.";
}

/** What taking a node's copy for the truth would lose. */
export async function lossWarning(id) {
  await Promise.all([lookAtNodes(), lookAtShards()]);
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

function heldBy({ node_id: id, status, keys }) {
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
