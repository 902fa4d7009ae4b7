// The one loop that keeps the page up to date: a round of cheap requests each second, one
// after the other, never two rounds at once. A round that was slow is followed by a longer
// pause, and a page that nobody sees asks nothing.

import { ask, hasToken, keyPath } from "./api.js";
import { state, select, tell } from "./state.js";

const PAUSE_MS = 1_000;
const PAUSE_MAX_MS = 5_000;
const EASE = 10; // a round of t ms is followed by a pause of at least EASE * t
const EASE_SILENT = 1; // the same where the server only waits for members that are silent
const EASE_SHARDS = 40; // the same for the map of the shards, which can be large
const PLACE_ROUNDS = 5; // the selected key is looked up at least each so many rounds
const EVENTS_MAX = 200;
const STARTED = "process_start_time_seconds"; // a metric

const last = { nodes: "", states: "", shardsTag: "", shardsAt: 0, shardsCost: 0, event: 0,
  answerAt: 0, started: "" };
let round = 0;
let failures = 0;
let timer = 0;
let isRunning = false;
let isHurried = false;
let isPlaceOld = false;
let sampler = async () => {};

/** Begins; `sample` is called every second round, while the server answers. */
export function startPolling(sample) {
  sampler = sample;
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) hurry();
  });
  run();
}

/** Asks again now rather than within the second: something was just changed. */
export function hurry() {
  isPlaceOld = true;
  if (isRunning) {
    isHurried = true;
    return;
  }
  clearTimeout(timer);
  run();
}

/** When the server last answered, in milliseconds of `Date.now`; 0: it never did. */
export const lastAnswerAt = () => last.answerAt;

async function run() {
  isRunning = true;
  const began = performance.now();
  let pause = PAUSE_MS;
  try {
    if (!document.hidden) pause = await pollOnce();
  } finally {
    isRunning = false;
  }
  const took = performance.now() - began;
  const isWaiting = state.nodes.some((node) => node.raft && node.status === "down");
  pause = Math.min(PAUSE_MAX_MS, Math.max(pause, took * (isWaiting ? EASE_SILENT : EASE)));
  if (isHurried) pause = 20;
  isHurried = false;
  if (document.hidden) return; // visibilitychange goes on
  timer = setTimeout(run, pause);
}

/** One round; gives the pause that should follow in milliseconds. */
async function pollOnce() {
  round += 1;
  const nodes = await ask("GET", "/nodes");
  if (nodes.status === 401) return setLink("locked"), PAUSE_MAX_MS;
  if (nodes.status !== 200 || !Array.isArray(nodes.data?.nodes)) return noteFailure(nodes);
  const wasAway = state.link !== "up";
  last.answerAt = Date.now();
  failures = 0;
  const before = last.nodes;
  takeNodes(nodes);
  if (wasAway) await connect();
  else await pollEvents(false);
  await pollShards();
  if (before !== last.nodes) isPlaceOld = true;
  if (isPlaceOld || round % PLACE_ROUNDS === 0) await pollPlaces();
  if (round % 2 === 0) await sampler();
  return PAUSE_MS;
}

function noteFailure(answer) {
  failures += 1;
  state.trouble = answer.status
    ? `The server answers /nodes with ${answer.status}: ${answer.data?.detail ?? "no reason"}.`
    : "The server does not answer.";
  setLink("away");
  return Math.min(PAUSE_MAX_MS, 500 * 1.6 ** failures);
}

function setLink(link) {
  if (state.link === link) return;
  state.link = link;
  tell("link");
}

function takeNodes(answer) {
  if (answer.text === last.nodes) return;
  last.nodes = answer.text;
  const { nodes, replication_factor, protocol, placement } = answer.data;
  const states = nodes.map((node) => [node.node_id, node.status, node.raft?.role]).join();
  if (states !== last.states) last.shardsAt = -Infinity; // so is the map another one
  last.states = states;
  Object.assign(state, { nodes, factor: replication_factor, protocol, placement });
  if (!nodes.some((node) => node.node_id === state.selected)) {
    const first = nodes.find((node) => node.status !== "up") ?? nodes[0];
    select(first?.node_id ?? null, false);
  }
  tell("nodes");
}

/** After the server came, or came back: what it offers, and what may be done with it. */
async function connect() {
  const [config, described] = [await ask("GET", "/config"), await ask("GET", "/openapi.json")];
  state.consistency = config.data?.consistency ?? "";
  const schemas = described.data?.components?.schemas;
  state.modes = enumOf(schemas?.FailBody?.properties?.mode) ?? (schemas ? [] : ["stop"]);
  state.canChangeNodes = described.data?.paths?.["/nodes"]?.post?.["x-offered"] === true;
  const parameters = described.data?.paths?.["/write"]?.post?.parameters ?? [];
  const level = parameters.find((parameter) => parameter.name === "consistency");
  state.levels = enumOf(level?.schema) ?? [];
  await askAccess();
  await noteProcess();
  last.shardsTag = "";
  await pollEvents(true);
  state.link = "up";
  tell("link", "config", "access");
}

/** An empty batch changes nothing, and only who may change something may send one. */
async function askAccess() {
  const answer = await ask("POST", "/batch", { body: '{"operations":[]}' });
  state.access = answer.status === 403 ? "read" : "all";
  state.hasToken = hasToken();
}

function enumOf(schema) {
  if (!schema || typeof schema !== "object") return null;
  if (Array.isArray(schema.enum)) return schema.enum;
  const parts = [...(schema.anyOf ?? []), ...(schema.allOf ?? []), ...(schema.oneOf ?? [])];
  return parts.map(enumOf).find(Boolean) ?? null;
}

async function pollEvents(isFresh) {
  const since = isFresh ? 0 : last.event;
  const answer = await ask("GET", `/events?since=${since}`);
  const found = answer.data?.events;
  if (answer.status !== 200 || !found) return;
  if (!found.length && !isFresh) return;
  state.events = [...(isFresh ? [] : state.events), ...found].slice(-EVENTS_MAX);
  last.event = state.events.at(-1)?.number ?? 0;
  isPlaceOld = true;
  tell("events");
}

/** Whether the server that answers now is another process than the last one. */
async function noteProcess() {
  const answer = await ask("GET", `/metrics?name%5B%5D=${STARTED}`);
  const started = answer.text.split("\n").find((line) => line.startsWith(`${STARTED} `)) ?? "";
  state.wasRestarted = last.started !== "" && started !== "" && started !== last.started;
  last.started = started || last.started;
}

/** Looks at the shards now, before something that depends on them. */
export async function lookAtShards() {
  last.shardsAt = -Infinity;
  await pollShards();
}

/** Looks at the nodes now, before something that depends on them. */
export async function lookAtNodes() {
  const answer = await ask("GET", "/nodes");
  if (answer.status === 200 && Array.isArray(answer.data?.nodes)) takeNodes(answer);
}

/** The map of the shards; a large one is asked for less often. */
async function pollShards() {
  if (performance.now() < last.shardsAt + last.shardsCost * EASE_SHARDS) return;
  const headers = last.shardsTag ? { "If-None-Match": last.shardsTag } : {};
  const answer = await ask("GET", "/shards", { headers });
  last.shardsAt = performance.now();
  last.shardsCost = answer.ms;
  if (answer.status === 200 && answer.data?.shards) {
    last.shardsTag = answer.etag ?? "";
    state.shards = answer.data;
    tell("shards");
  } else if (answer.status === 404) {
    last.shardsCost = 1_500; // another engine, without shards: ask each minute
  }
}

/** The places that the page tells of: the selected key's, and that of the last request. */
async function pollPlaces() {
  await pollPlace();
  const { journey } = state;
  if (!journey || journey.key === state.key) return;
  const answer = await ask("GET", keyPath("replicas", journey.key));
  if (journey !== state.journey || answer.status !== 200) return;
  journey.place = answer.data;
  tell("since");
}

/** Looks up where the selected key lives. */
export async function pollPlace() {
  const key = state.key;
  if (!key) return;
  isPlaceOld = false;
  const answer = await ask("GET", keyPath("replicas", key));
  if (key !== state.key) return;
  state.placeProblem = answer.status === 200 ? "" : answer.data?.detail ?? "no answer";
  if (answer.status !== 200) return tell("place");
  if (JSON.stringify(answer.data) === JSON.stringify(state.place)) return;
  state.place = answer.data;
  tell("place");
}

/** Chooses the key whose place is shown, and looks it up. */
export async function chooseKey(key) {
  if (key !== state.key) {
    state.key = key;
    state.place = null;
    tell("key", "place");
  }
  await pollPlace();
}
