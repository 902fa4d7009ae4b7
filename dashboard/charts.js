// Three small charts with one axis of time: operations a second, latency, stale keys. The
// time in which a node was not up is shaded. Their captions say the current values, or those
// under the pointer, so that nothing can be seen only in colour.

import { colour } from "./colours.js";
import { byId, el, number, setText, show } from "./dom.js";
import { between, readCounters } from "./metrics.js";
import { protocol } from "./protocols.js";
import { on, state } from "./state.js";

const KEPT_SECONDS = 310;
const SAMPLE_GAP = 6; // seconds without a sample that show as a gap
const { uPlot } = window;

const rate = (value) => (value < 10 ? value.toFixed(1) : number(Math.round(value)));
const millis = (value) => (value < 10 ? value.toFixed(2) : number(Math.round(value)));

/** [id, [[name, field, colour, dash], ...], how values are written, unit] */
const CHARTS = [
  ["chart-rate", [
    ["reads", "reads", "--chart-1", []],
    ["writes", "writes", "--chart-2", [7, 4]],
    ["deletes", "deletes", "--chart-3", [2, 3]],
    ["errors", "errors", "--bad", [10, 3, 2, 3]],
  ], rate, "/s"],
  ["chart-latency", [
    ["median", "median", "--chart-1", []],
    ["99th percentile", "high", "--chart-2", [7, 4]],
  ], millis, " ms"],
  ["chart-stale", [["all nodes", "stale", "--warn", []]], (value) => number(value), ""],
];

/** @type {Object<string, ?number>[]} */
const samples = [];
const outages = new Map(); // node -> {from, to}; to is null while it lasts
const past = []; // ended outages
let plots = [];
let last = null;

/** Begins to draw. */
export function startCharts() {
  on("nodes", noteOutages);
  on("config", drawTitle);
  makePlots();
  byId("chart-span").addEventListener("change", redraw);
  document.documentElement.addEventListener("themechange", () => {
    plots.forEach(({ plot }) => plot.destroy());
    makePlots();
  });
  new ResizeObserver(resize).observe(byId("charts"));
}

/** Takes one sample; called by the loop of polls. */
export async function sample() {
  const reading = await readCounters();
  show(byId("charts-none"), !reading);
  const stale = state.nodes.reduce((sum, node) => sum + node.stale_keys, 0);
  const figures = reading && last ? between(last, reading) : null;
  last = reading;
  const at = Date.now() / 1000;
  if (samples.length && at - samples.at(-1).at > SAMPLE_GAP) samples.push({ at: at - 1 });
  samples.push({ ...figures, at, stale });
  while (samples[0].at < at - KEPT_SECONDS) samples.shift();
  redraw();
}

function noteOutages() {
  const now = Date.now() / 1000;
  for (const { node_id: id, status } of state.nodes) {
    if (status !== "up" && !outages.has(id)) outages.set(id, { from: now, to: null });
    if (status === "up" && outages.has(id)) {
      past.push({ ...outages.get(id), to: now });
      outages.delete(id);
    }
  }
  while (past.length && past[0].to < now - KEPT_SECONDS) past.shift();
}

/** What nodes lack has a name of its own with each protocol. */
function drawTitle() {
  setText(byId("chart-stale-title"), protocol().lag.title);
}

function columns(series) {
  return [
    samples.map((one) => one.at),
    ...series.map(([, field]) => samples.map((one) => one[field] ?? null)),
  ];
}

const span = () => Number(byId("chart-span").value);

function redraw() {
  const max = Date.now() / 1000;
  for (const { plot, series, caption } of plots) {
    plot.batch(() => {
      plot.setData(columns(series), false);
      plot.setScale("x", { min: max - span(), max });
    });
    caption();
  }
}

function resize() {
  for (const { plot, box } of plots) plot.setSize(sizeOf(box));
}

function sizeOf(box) {
  const unit = parseFloat(getComputedStyle(box).fontSize);
  const isStacked = byId("charts").clientWidth < box.clientWidth * 2;
  const height = Math.round(unit * (isStacked ? 11 : 8.5));
  return { width: Math.max(120, box.clientWidth), height };
}

function makePlots() {
  plots = CHARTS.map(([id, series, write, unit]) => {
    const box = byId(id);
    const captionOf = captionMaker(byId(`${id}-now`), series, write, unit);
    const plot = new uPlot(optionsOf(box, series, captionOf), columns(series), box);
    return { plot, series, box, caption: () => captionOf(plot) };
  });
  redraw();
}

function optionsOf(box, series, captionOf) {
  const font = `${getComputedStyle(box).fontSize} system-ui, sans-serif`;
  const unit = parseFloat(getComputedStyle(box).fontSize);
  const axis = {
    stroke: colour("--muted"), font, grid: { stroke: colour("--grid"), width: 1 },
    ticks: { show: false },
  };
  return {
    ...sizeOf(box),
    legend: { show: false },
    cursor: { sync: { key: "kv" }, y: false, drag: { x: false, y: false } },
    padding: [unit * 0.6, unit * 2.2, 0, 0],
    axes: [
      {
        ...axis, size: unit * 2.2, gap: unit * 0.7, space: unit * 5,
        values: (_, at) => at.map(timeOf),
      },
      { ...axis, size: unit * 3.4, space: unit * 2, values: (_, at) => at.map(short) },
    ],
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(1, high * 1.15)] } },
    series: [{}, ...series.map(([, , name, dash]) => ({
      stroke: colour(name), width: unit / 8, dash, spanGaps: false,
      points: { show: true, size: unit / 3, filter: alone, fill: colour(name) },
    }))],
    hooks: { drawClear: [shade], setCursor: [captionOf] },
  };
}

/** Only a value that has no neighbour needs a point: no line shows it. */
function alone(plot, series) {
  const values = plot.data[series];
  return [...values.keys()].filter((index) => values[index] != null &&
    values[index - 1] == null && values[index + 1] == null);
}

function timeOf(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit",
    second: "2-digit" });
}

function short(value) {
  if (value >= 10_000) return `${Math.round(value / 1000)}k`;
  return String(Math.round(value * 100) / 100);
}

/** Shades the time in which some node was not up. */
function shade(plot) {
  const { ctx: pen, bbox: box } = plot;
  const now = Date.now() / 1000;
  pen.save();
  pen.beginPath();
  pen.rect(box.left, box.top, box.width, box.height);
  pen.clip();
  pen.beginPath(); // one path: where two nodes were down it is no darker
  for (const { from, to } of [...past, ...outages.values()]) {
    const left = plot.valToPos(from, "x", true);
    const right = plot.valToPos(to ?? now, "x", true);
    if (right > box.left) pen.rect(left, box.top, Math.max(1, right - left), box.height);
  }
  pen.fillStyle = colour("--shade");
  pen.fill();
  pen.restore();
}

/** Writes the values under the pointer, or the newest, into a chart's caption. */
function captionMaker(element, series, write, unit) {
  const items = series.map(([name, , own, dash]) => {
    const value = el("b");
    const swatch = el("span", { class: "swatch", "data-dash": dash.length, "aria-hidden": "true" });
    swatch.style.setProperty("--own", `var(${own})`);
    return { value, item: el("li", {}, swatch, `${name} `, value) };
  });
  element.replaceChildren(...items.map(({ item }) => item));
  return (plot) => {
    const index = plot.cursor.idx ?? samples.length - 1;
    items.forEach(({ value }, place) => {
      const found = plot.data[place + 1]?.[index];
      setText(value, found == null ? "–" : `${write(found)}${unit}`);
    });
  };
}
