// What happened to the cluster, newest first. Screen readers are not read every line: the
// changes of nodes are announced by summary.js, in a few words.

import { byId, clockTime, el, sentence, setText, show, syncList } from "./dom.js";
import { on, state } from "./state.js";

const KINDS = {
  node_failed: ["✕", "bad"],
  storage_failed: ["✕", "bad"],
  data_lost: ["!", "bad"],
  damage_found: ["!", "bad"],
  leader_lost: ["!", "bad"],
  wrong_cluster: ["!", "bad"],
  clock_off: ["!", "warn"],
  member_died: ["✕", "bad"],
  member_silent: ["✕", "bad"],
  loss_accepted: ["!", "warn"],
  waiting: ["…", "warn"],
  recovery_began: ["◐", "warn"],
  storage_replaced: ["◐", "warn"],
  node_removed: ["−", "warn"],
  node_recovered: ["●", "ok"],
  node_added: ["+", "ok"],
  member_back: ["●", "ok"],
  leader_elected: ["★", "ok"],
};

/** Begins to show events. */
export function startEvents() {
  on("events", draw);
}

function draw() {
  const newestFirst = state.events.toReversed();
  syncList(byId("event-list"), newestFirst, (event) => event.number, make, () => {});
  show(byId("events-none"), !newestFirst.length);
}

function make(event) {
  const [sign, tone] = KINDS[event.kind] ?? ["·", "info"];
  const time = el("time", { datetime: event.at, title: event.at });
  setText(time, clockTime(event.at));
  return el("li", { "data-tone": tone, "data-kind": event.kind },
    el("span", { class: "event-sign", "aria-hidden": "true" }, sign),
    el("span", { class: "event-text" }, sentence(event.detail)),
    el("span", { class: "event-when" }, time, ` #${event.number}`));
}
