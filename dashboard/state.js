// What the page knows, in one place, and who wants to hear of a change. Parts of the page
// write here after asking the server, and draw when a topic of theirs is told.

/**
 * @typedef {{copied: number, removed: ?number, bytes: ?number, seconds: number,
 *   isRebuild?: boolean}} Recovery
 * @typedef {{role: string, term: number, applied: number, revision: number,
 *   size_bytes: number, urls: string[]}} Raft
 * @typedef {{node_id: number, status: string, keys: ?number, bytes: ?number,
 *   stale_keys: ?number, waiting_for: number[], zone: ?string, problem?: string,
 *   lost_shards?: number, recovery?: Recovery, raft?: Raft}} NodeInfo  a number is null where
 *   it is not known
 * @typedef {{replicas: number[], in_sync: number[], live: number[], readable: boolean,
 *   writable: boolean, lost: boolean, share: number}} Shard
 * @typedef {{partition_count: number, shards: Shard[],
 *   partitions: [number, number][]}} ShardMap  partitions: [shard, first replica]
 * @typedef {{node_id: number, status: string, in_sync: boolean, version: ?string,
 *   deleted: boolean}} Replica
 * @typedef {{key: string, token: string, partition: number, replica_set: number[],
 *   replicas: Replica[]}} Place
 * @typedef {{number: number, at: string, kind: string, detail: string,
 *   node_id?: number, mode?: string}} ClusterEvent  mode: in which the node was failed
 */

export const state = {
  /** @type {NodeInfo[]} */ nodes: [],
  factor: 0, // replicas of each key
  protocol: "",
  placement: "",
  consistency: "", // the store's own level
  /** @type {string[]} */ levels: [], // that a request may ask for
  /** @type {string[]} */ modes: ["stop"], // in which a node may fail; none: not from here
  canChangeNodes: false, // nodes can be added and removed
  /** @type {?ShardMap} */ shards: null,
  /** @type {ClusterEvent[]} */ events: [], // oldest first
  /** @type {Map<number, Recovery>} */ recoveries: new Map(), // this page's last, by node
  /** @type {?number} */ selected: null, // a node
  isChosen: false, // somebody chose that node, so its share is shown
  /** @type {string} */ key: "", // whose place is shown
  /** @type {?Place} */ place: null,
  placeProblem: "", // why it could not be looked up
  link: "connecting", // connecting | up | away | locked (a token is wanted)
  trouble: "", // why it is away, in a sentence
  wasRestarted: false, // the server that came back is another process
  access: "unknown", // unknown | all | read
  hasToken: false,
  /** @type {?import("./keyform.js").Journey} */ journey: null, // the last request
};

const listeners = new Map();

/**
 * Calls `listener` after each change of one of the topics: nodes, shards, events, config,
 * selected, key, place, journey, link, access, written (keys, other than by the form).
 */
export function on(topics, listener) {
  for (const topic of topics.split(" ")) {
    if (!listeners.has(topic)) listeners.set(topic, new Set());
    listeners.get(topic).add(listener);
  }
}

/** Tells those who listen to any of these topics, each of them once. */
export function tell(...topics) {
  const concerned = new Set(topics.flatMap((topic) => [...(listeners.get(topic) ?? [])]));
  for (const listener of concerned) listener();
}

/** The node with this id, if the server knows it. */
export function nodeOf(id) {
  return state.nodes.find((node) => node.node_id === id);
}

/**
 * Whether a node lost its storage before its last recovery, or since: then it is, or was,
 * rebuilt and not just brought up to date.
 */
export function wasWiped(id) {
  const own = state.events.filter((event) => event.node_id === id);
  if (own.at(-1)?.kind === "node_recovered") own.pop();
  const since = own.slice(own.findLastIndex((event) => event.kind === "node_recovered") + 1);
  return since.some((event) => event.kind === "storage_replaced" ||
    (event.kind === "node_failed" && event.mode === "wipe"));
}

/** On how many nodes each key lives. */
export function copies() {
  const shard = state.shards?.shards[0];
  if (shard) return shard.replicas.length;
  return state.placement === "full" ? state.nodes.length : state.factor;
}

/** Selects a node; `isChosen` where somebody asked for it. */
export function select(id, isChosen = true) {
  if (state.selected === id && state.isChosen === isChosen) return;
  state.selected = id;
  state.isChosen = isChosen;
  tell("selected");
}

/** Whether the page may change anything: it is connected, and its token allows it. */
export const mayChange = () => state.link === "up" && state.access !== "read";
