// Adding a node, where the store can: it starts one itself, or is told where one will run.

import { whyNot } from "./actions.js";
import { ask, PATIENT_MS } from "./api.js";
import { byId, setAttribute, setText, show } from "./dom.js";
import { lookAtNodes } from "./poll.js";
import { mayChange, nodeOf, on, select, state } from "./state.js";

const form = byId("add-node");
const button = byId("add-node-button");
const address = byId("add-node-url");
let isBusy = false;
let added = null; // the node of which the message tells, in the status that it tells of

/** Begins to offer that, where it can be done. */
export function startMembers() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    add();
  });
  on("config link access", draw);
  on("selected nodes", () => {
    const isTrue = state.selected === added?.id && nodeOf(added.id)?.status === added.status;
    if (added && !isTrue) say("", "");
  });
  draw();
}

/** Nodes that can be failed from here are started here too. */
const startsThem = () => state.modes.length > 0;

function draw() {
  show(form, state.canChangeNodes);
  show(byId("add-node-where"), !startsThem());
  setAttribute(button, "aria-disabled", !mayChange() || isBusy ? "true" : null);
  setAttribute(button, "aria-busy", isBusy ? "true" : null);
  setText(button, isBusy ? "Adding a node" : "Add a node");
}

async function add() {
  if (button.getAttribute("aria-disabled") === "true") return say("bad", whyNot());
  const url = startsThem() ? "" : address.value.trim();
  if (!startsThem() && !url) return address.focus();
  isBusy = true;
  draw();
  const body = JSON.stringify(url ? { url } : {});
  const { status, data } = await ask("POST", "/nodes", { body, patience: PATIENT_MS });
  isBusy = false;
  draw();
  if (status !== 200) {
    const why = data?.detail ?? "the server did not answer";
    return say("bad", `No node was added: ${status || "no answer"}, ${why}.`);
  }
  address.value = "";
  const { node_id: id, problem } = data;
  say("ok", data.status === "up"
    ? `Node ${id} is up and holds every key.`
    : `Node ${id} may join. ${problem ? "Its panel says what is left to do." : "It is on its way."}`);
  await lookAtNodes();
  select(id);
  added = { id, status: nodeOf(id)?.status };
}

function say(tone, text) {
  added = null;
  const message = byId("add-node-message");
  setText(message, text);
  setAttribute(message, "data-tone", tone);
  show(message, text !== "");
}
