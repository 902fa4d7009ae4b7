// What would be lost for good: a warning in words before a node is wiped or removed, and
// before a copy that lacks something is taken for the truth. All look first, because a second
// ago there may have been another copy.

import { plural } from "./dom.js";
import { lookAtNodes, lookAtShards } from "./poll.js";
import { protocol } from "./protocols.js";
import { state } from "./state.js";

/** What wiping a node would lose; nothing if others hold it too. */
export async function wipeWarning(id) {
  await lookAtShards();
  return protocol().wipeWarning(id);
}

/** What taking a node's copy for the truth would lose. */
export async function lossWarning(id) {
  await Promise.all([lookAtNodes(), lookAtShards()]);
  return protocol().lossWarning(id);
}

/** What removing a node means. */
export async function removeWarning(id) {
  const left = plural(state.nodes.length - 1, "other");
  return `Node ${id} leaves for good, and what it holds with it. The ${left} go on.`;
}
