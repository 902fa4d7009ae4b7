// The state of the whole store in one sentence, whether the server answers, what this page
// may do, and a word to screen readers when a node changes.

import {
  byId, el, nodeNames, percent, plural, sentence, setAttribute, setText, show, syncList,
} from "./dom.js";
import { lastAnswerAt } from "./poll.js";
import { protocol } from "./protocols.js";
import { sumShares } from "./shares.js";
import { copies, nodeOf, on, state } from "./state.js";

/** What a word of the summary means. */
const MEANINGS = {
  linearizable: () => "Each read sees the newest acknowledged write.",
  one: () => protocol().levelOne,
};
const BACK_MS = 8_000; // how long "the server is back" stays
const MANY = 3; // more changes than this at once are counted, not listed

let before = new Map();
let leadBefore = "";
let wasAway = false;
let ticking = 0;

/** Begins to show the summary. */
export function startSummary() {
  on("nodes shards config link access", draw);
  on("nodes", announce);
  on("link", drawBanner);
  draw();
}

function draw() {
  const { nodes, consistency } = state;
  const parts = nodes.length
    ? [`${plural(nodes.length, "node")}, each key on ${copies()}`, state.protocol, consistency,
      protocol().lead()]
    : ["Asking the server"];
  syncList(byId("summary"), parts.filter(Boolean), (part) => part, makePart, (element, part) => {
    setText(element.lastElementChild, part);
  });
  const [tone, text] = health();
  const isOld = state.link === "away" && state.nodes.length > 0;
  setText(byId("health"), isOld ? `Last known: ${text}` : text);
  setAttribute(byId("health"), "data-tone", tone);
  const title = "Key-value store";
  document.title = tone === "ok" || tone === "info" ? title : `${text} · ${title}`;
  drawLink();
  setAttribute(document.body, "data-link", state.link);
  for (const element of document.querySelectorAll("[data-only]")) {
    show(element, element.dataset.only === state.protocol);
  }
}

/** A part of the summary; a word that needs it has its meaning as a title. */
function makePart(part) {
  const title = part === state.protocol ? protocol().meaning : MEANINGS[part]?.() ?? null;
  return el("span", { class: "part" }, " ", el(title ? "abbr" : "span", { title }));
}

/** What is wrong, the worst first. @returns {[string, string]} tone and text */
export function health() {
  if (!state.nodes.length) return ["info", "…"];
  const unread = sumShares((shard) => !shard.readable);
  const unwritten = sumShares((shard) => !shard.writable);
  const down = state.nodes.filter((node) => node.status === "down").map((node) => node.node_id);
  const back = state.nodes.filter((n) => n.status === "recovering").map((n) => n.node_id);
  const late = state.nodes.filter(protocol().isLate);
  const stale = late.reduce((sum, node) => sum + node.stale_keys, 0);
  const { lag, problem: [problem], back: [, , one, many] } = protocol();
  const parts = [];
  const lost = sumShares((shard) => shard.lost);
  if (lost > 0) parts.push(`the data of ${percent(lost)} of the key space are lost`);
  if (unread > 0) parts.push(protocol().outage(unread));
  else if (unwritten > 0) {
    parts.push(`${percent(unwritten)} of the key space cannot be written`);
  }
  if (down.length) parts.push(`${nodeNames(down)} ${down.length > 1 ? "are" : "is"} down`);
  if (back.length) parts.push(`${nodeNames(back)} ${back.length > 1 ? many : one}`);
  if (stale) parts.push(lag.count(stale));
  const problems = state.nodes.filter((node) => node.problem && node.status !== "down");
  if (problems.length) parts.push(`${nodeNames(problems.map((n) => n.node_id))}: ${problem}`);
  const tone = unread || unwritten ? "bad" : parts.length ? "warn" : "ok";
  return [tone, parts.length ? sentence(parts.join(", ")) : "All up"];
}

const LINKS = {
  connecting: "connecting",
  up: "live",
  away: "no answer",
  locked: "token wanted",
};

function drawLink() {
  setText(byId("link"), LINKS[state.link]);
  setAttribute(byId("link"), "data-link", state.link);
  const isRead = state.access === "read";
  show(byId("access"), isRead || state.hasToken);
  setText(byId("access"), isRead ? "may only read" : "may change everything");
  setAttribute(byId("access"), "data-access", state.access);
  show(byId("token-forget"), state.hasToken);
  show(byId("metrics-link"), !state.hasToken && state.link !== "locked");
}

// --- When the server goes away ------------------------------------------------------------

function drawBanner() {
  clearInterval(ticking);
  const banner = byId("banner");
  if (state.link === "away") {
    wasAway = true;
    setAttribute(banner, "data-tone", "bad");
    setText(byId("banner-text"), `${state.trouble} Trying again.`);
    ticking = setInterval(drawAge, 1000);
    drawAge();
    show(banner, true);
  } else if (state.link === "up" && wasAway) {
    wasAway = false;
    setAttribute(banner, "data-tone", "ok");
    setText(byId("banner-text"), state.wasRestarted
      ? "The server is back. It was started anew."
      : "The server is back.");
    setText(byId("banner-age"), "");
    setTimeout(() => show(banner, state.link !== "up"), BACK_MS);
  } else {
    show(banner, false);
  }
}

/** Outside the alert, so that it is not read aloud each second. */
function drawAge() {
  const at = lastAnswerAt();
  const age = Math.round((Date.now() - at) / 1000);
  setText(byId("banner-age"), at ? `Last answer ${age} s ago.` : "It has not answered yet.");
}

// --- Screen readers -----------------------------------------------------------------------

const WORDS = { up: "is up", down: "is down", recovering: "is recovering" };

function announce() {
  const changed = state.nodes.filter((node) => {
    const old = before.get(node.node_id);
    return old !== undefined && old !== node.status;
  });
  before = new Map(state.nodes.map((node) => [node.node_id, node.status]));
  const lead = protocol().lead();
  const isNewLead = leadBefore !== "" && lead !== leadBefore;
  leadBefore = lead;
  if (!changed.length && !isNewLead) return;
  const text = changed.length > MANY
    ? `${changed.length} nodes changed. ${health()[1]}.`
    : changed.map(({ node_id: id }) => `Node ${id} ${WORDS[nodeOf(id).status]}.`).join(" ");
  setText(byId("announcer"), isNewLead ? `${text} ${sentence(lead)}.`.trim() : text);
}
