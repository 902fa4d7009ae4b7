// Colours for what is drawn on a canvas: those of the style sheet, and one for each node.
// Nodes keep away from red and amber, which mean that something is wrong.

const probe = document.createElement("span");
probe.hidden = true;
const resolved = new Map();

document.documentElement.addEventListener("themechange", () => resolved.clear());

/** The value that a colour of the style sheet ("--ok") has in the current theme. */
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  if (!resolved.has(name)) {
    probe.style.setProperty("color", `var(${name})`);
    resolved.set(name, getComputedStyle(probe).color);
  }
  return resolved.get(name);
}

/** Whether the page is dark now. */
export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen) return chosen === "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

const HUES = [258, 185, 315, 150, 285, 220, 340, 168];
const HUE_MIN = 145; // below it are amber and red
const HUE_SPAN = 200;

/** The colour of the node in this place of the list: told apart as well as can be. */
export function nodeColour(index) {
  const turn = Math.floor(index / HUES.length);
  const hue = HUE_MIN + ((HUES[index % HUES.length] - HUE_MIN + turn * 37) % HUE_SPAN);
  const step = [0, 0.1, -0.08][turn % 3];
  const lightness = (isDark() ? 0.7 : 0.56) + step;
  return `oklch(${lightness.toFixed(2)} 0.13 ${hue})`;
}
