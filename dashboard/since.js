// What has become of the last answer since it was given. An answer tells of one moment; the
// page goes on, and does not call old what has been copied, or lost what is served again.

import { isAtLeast } from "./place.js";
import { protocol } from "./protocols.js";
import { nodeOf, shardOf, state, wasWiped } from "./state.js";
import { meaning, verdicts } from "./words.js";

/**
 * @typedef {import("./words.js").Verdict} Verdict
 * @typedef {import("./keyform.js").Journey} Journey
 * @typedef {import("./state.js").Place} Place
 */

/** Brings what the page says of a journey up to date, as its key's place is now. */
export function bringUpToDate(journey, place) {
  journey.place = place;
  const { first } = journey;
  journey.verdicts = first.map((verdict) => verdictNow(journey, verdict, place));
  noteOutage(journey);
  journey.meaning = journey.isOver ? OVER : meaning({ ...journey, caughtUp: caughtUp(journey) });
}

/** Who missed the write and has it by now. */
function caughtUp({ answer, verdicts: now }) {
  const has = new Set(now.filter((one) => one.sign === "ok").map((one) => one.id));
  return (answer.data?.missed ?? []).filter((id) => has.has(id));
}

/** @returns {Verdict} */
function verdictNow(journey, verdict, place) {
  const replica = place?.replicas.find((one) => one.node_id === verdict.id);
  if (!replica) {
    const isGone = place || !nodeOf(verdict.id);
    return isGone ? { ...verdict, sign: "idle", text: "is no replica of it any more" } : verdict;
  }
  const isChange = journey.op !== "read" && journey.answer.status === 200;
  return isChange ? changeNow(journey, verdict, replica) : otherNow(journey, verdict, place);
}

/** What a replica has of a write or delete that was acknowledged. */
function changeNow({ op, answer }, verdict, replica) {
  const { status, in_sync: isInSync, version, node_id: id } = replica;
  const isDown = status === "down";
  const isPurged = op === "delete" && isInSync && !version; // a tombstone is not kept for ever
  const has = !isDown && (isPurged || isAtLeast(version, answer.data.version));
  if (verdict.sign === "missed") {
    if (has) return { id, sign: "ok", text: "missed it, and has copied it since" };
    if (isDown) return { ...verdict, text: "missed it: it is down" };
    return { id, sign: "missed", text: "missed it, and has not copied it yet" };
  }
  if (verdict.sign === "idle") return has ? { id, sign: "ok", text: "has it by now" } : verdict;
  if (has) return verdict;
  if (isDown) {
    const text = wasWiped(id) ? "had it, and lost its storage" : "had it, and is down now";
    return { id, sign: "idle", text };
  }
  const text = isInSync ? "had it: it is gone by now" : "had it, and is being brought up to date";
  return { id, sign: "idle", text };
}

/** What a replica has to do with any other answer: what kept it away may be over. */
function otherNow(journey, verdict, place) {
  const { id, sign } = verdict;
  const why = protocol().reason(id, place);
  if (sign === "missed" && verdict.why !== why) {
    return why
      ? { id, sign, text: `was not asked; by now ${why}` }
      : { id, sign: "idle", text: "was not asked: it could not answer then" };
  }
  if (sign === "maybe") return verdicts(journey, place).find((one) => one.id === id) ?? verdict;
  const { status } = place.replicas.find((one) => one.node_id === id);
  if (sign === "ok" && status === "down") {
    return { id, sign: "idle", text: "answered, and is down now" };
  }
  return verdict;
}

// --- What could not be served -------------------------------------------------------------

/** @type {import("./words.js").Meaning} */
const OVER = {
  tone: "info", title: "It could not be served then", isOpen: false,
  text: "Nothing was done. By now it can be served again: ask once more.",
};

/** Notes whether what kept the key from being served was seen, and is over. */
function noteOutage(journey) {
  const shard = shardOf(journey.place);
  if (journey.answer.status !== 503 || !shard || state.link !== "up") return;
  const isServed = journey.op === "read" ? shard.readable : shard.writable;
  if (!isServed) journey.isOut = true;
  journey.isOver = Boolean(isServed && journey.isOut);
}
