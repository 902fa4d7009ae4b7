// What the map of the shards says in numbers: parts of the key space, and how many nodes
// have to answer. Calculation alone.

import { nodeOf, state } from "./state.js";

/** The part of the key space (0 to 1) of which a node is a replica; null: not known. */
export function shareOf(id) {
  if (!state.shards) return null;
  return sumShares((shard) => shard.replicas.includes(id));
}

/** The part of the key space in the shards for which `test` holds. */
export function sumShares(test) {
  return (state.shards?.shards ?? []).reduce(
    (sum, shard) => sum + (test(shard) ? shard.share : 0), 0);
}

/** The part of the key space that only this node holds in sync: lost if it is wiped. */
export function loneShareOf(id) {
  return sumShares((shard) => shard.in_sync.length === 1 && shard.in_sync[0] === id);
}

/** Of members that vote: who they are, who of them answers, and how many have to. */
export function quorum() {
  const voters = (state.shards?.shards[0]?.replicas ?? []).filter(nodeOf);
  const live = voters.filter((id) => nodeOf(id).status !== "down");
  return { voters, live, majority: majorityOf(voters.length) };
}

/** The member that leads; of two that say so the one of the later term. */
export function leader() {
  const leaders = state.nodes.filter((node) => node.status === "up" &&
    node.raft?.role === "leader");
  return leaders.sort((a, b) => b.raft.term - a.raft.term)[0];
}

/** How many of so many decide. */
export const majorityOf = (count) => Math.floor(count / 2) + 1;
