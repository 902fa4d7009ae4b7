// Figures from two readings of /metrics: how many operations a second there were between
// them, and how long the slowest of them took. Only the routes of keys count.

import { ask } from "./api.js";

const NAME = "kv_http_request_duration_seconds_bucket"; // the histogram's samples
const ADDRESS = `/metrics?name%5B%5D=${NAME}`;
const LINE = /^kv_http_request_duration_seconds_bucket\{(.*)\} (\S+)/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;
const KINDS = { write: "writes", read: "reads", delete: "deletes" };

/**
 * @typedef {{at: number, counts: Object<string, number>,
 *   buckets: Map<number, number>}} Reading  at: seconds; buckets: bound -> requests so far
 * @typedef {{at: number, reads: number, writes: number, deletes: number, errors: number,
 *   median: ?number, high: ?number}} Figures  a second; latencies in milliseconds
 */

/** Reads the counters; null where the server shows none. @returns {Promise<?Reading>} */
export async function readCounters() {
  const answer = await ask("GET", ADDRESS, { headers: { Accept: "text/plain" } });
  if (answer.status !== 200) return null;
  return parseCounters(answer.text, Date.now() / 1000);
}

/** @returns {Reading} */
export function parseCounters(text, at) {
  const counts = { reads: 0, writes: 0, deletes: 0, errors: 0 };
  const buckets = new Map();
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries(
      [...found[1].matchAll(LABEL)].map(([, name, value]) => [name, value]));
    const kind = KINDS[labels.route?.split("/")[1]];
    if (!kind) continue;
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    const value = Number(found[2]);
    buckets.set(bound, (buckets.get(bound) ?? 0) + value);
    if (bound !== Infinity) continue;
    counts[kind] += value;
    if (labels.status.startsWith("5")) counts.errors += value;
  }
  return { at, counts, buckets };
}

/**
 * What happened between two readings; null if the counters began anew.
 * @param {Reading} before
 * @param {Reading} after
 * @returns {?Figures}
 */
export function between(before, after) {
  const seconds = after.at - before.at;
  const figures = { at: after.at };
  for (const [name, count] of Object.entries(after.counts)) {
    const more = count - before.counts[name];
    if (more < 0 || seconds <= 0) return null;
    figures[name] = more / seconds;
  }
  const bounds = [...after.buckets.keys()].sort((a, b) => a - b);
  const grown = bounds.map((bound) => [
    bound, after.buckets.get(bound) - (before.buckets.get(bound) ?? 0),
  ]);
  figures.median = quantile(grown, 0.5);
  figures.high = quantile(grown, 0.99);
  return figures;
}

/** A quantile of cumulative buckets [bound in seconds, count], in milliseconds. */
export function quantile(buckets, part) {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (!total) return null;
  const wanted = part * total;
  let [low, below] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= wanted) {
      if (bound === Infinity) return low * 1000;
      return 1000 * (low + (bound - low) * ((wanted - below) / (count - below)));
    }
    [low, below] = [bound, count];
  }
  return low * 1000;
}
