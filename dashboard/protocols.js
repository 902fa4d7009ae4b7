// The words that depend on how the store replicates. Each protocol is one file that gives the
// same texts and small rules; the rest of the page asks `protocol()` for them. A new protocol
// is its file, a line here, and what index.html says of it under `data-only`.

import { primaryBackup } from "./primary-backup.js";
import { raft } from "./raft.js";
import { state } from "./state.js";

/**
 * @typedef {import("./words.js").Asked} Asked
 * @typedef {import("./words.js").Verdict} Verdict
 * @typedef {import("./state.js").NodeInfo} NodeInfo
 * @typedef {import("./state.js").Place} Place
 * @typedef {{holders: (journey: import("./keyform.js").Journey) => number[],
 *   first: (ids: number[]) => number, few: string, written: (facts: Object) => string,
 *   failTask: string, failed: (facts: Object) => string, read: (facts: Object) => string,
 *   missed: (facts: Object) => string, waits: string, recovered: (facts: Object) => string,
 *   allDown: (facts: Object) => string, obstacle: () => string,
 *   next: [string, string][]}} TourWords
 *   holders: who has the key that was written; first: whom to fail; obstacle: why the tour
 *   cannot be done with so many nodes
 * @typedef {{title: string, short: string, count: (count: number) => string,
 *   progress: (done: number, all: number) => string}} Lag  what a node lacks, in words
 * @typedef {{meaning: string, levelOne: string, lag: Lag,
 *   isLate: (node: NodeInfo) => boolean, isThin: (shard: Object) => boolean,
 *   lead: () => string, outage: (part: number) => string,
 *   back: [(node: NodeInfo) => string, string, string, string], problem: [string, string],
 *   stateOf: (node: NodeInfo) => string, facts: (node: NodeInfo) => [string, string][],
 *   recovery: (recovery: Object, isRebuild: boolean) => string,
 *   wipeWarning: (id: number) => string, lossWarning: (id: number) => string,
 *   shown: (id: ?number) => string, sync: (replica: Object, place: Place) => string,
 *   stale: string, inSync: string, written: (asked: Asked) => string,
 *   deleted: (asked: Asked) => string, read: (asked: Asked) => string,
 *   absent: string, lost: string, unavailable: [string, string],
 *   reason: (id: number, place: ?Place) => string,
 *   verdict: (asked: Asked, id: number, place: ?Place) => Verdict,
 *   tour: TourWords}} Protocol
 *   isLate: what a node lacks counts as something wrong; isThin: a shard has fewer copies than
 *   it should; lead: who leads; back: what one does that runs and is not up, at the node, in
 *   the legend, of one and of many; problem: what a node has one of, and what its text begins
 *   with; lost: why it does not help to wait; unavailable: of a read, of a change; reason: why a
 *   replica cannot take part
 */

const PROTOCOLS = { "primary-backup": primaryBackup, raft };

/** The words of the store's own protocol. @returns {Protocol} */
export const protocol = () => PROTOCOLS[state.protocol] ?? primaryBackup;
