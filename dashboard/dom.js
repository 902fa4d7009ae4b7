// Making and changing elements, and writing numbers as people read them. Whatever a client
// or the server sent gets into the page as text only: nothing here takes markup.

/** The element with this id; a missing one is a mistake in index.html. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no element with the id ${id}`);
  return found;
}

/**
 * Makes an element. A property that begins with "on" is a listener, the others are
 * attributes; children are elements or texts.
 * @param {string} tag
 * @param {Object<string, any>} [properties]
 * @param {...(Node|string|null)} children
 */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** Makes an SVG element with these attributes. */
export function svg(tag, attributes = {}) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(made, name, value);
  return made;
}

/** Sets the text, if it is another one: an unchanged element costs no layout. */
export function setText(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Sets an attribute if it differs; null and false take it away. */
export function setAttribute(element, name, value) {
  if (value === null || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const wanted = value === true ? "" : String(value);
  if (element.getAttribute(name) !== wanted) element.setAttribute(name, wanted);
}

/** Shows or hides an element. */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/**
 * Makes the children of `parent` stand for `items`, in order, and makes only those anew that
 * were not there. `make(item)` gives an element, `update(element, item)` brings it up to date.
 */
export function syncList(parent, items, keyOf, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let element = known.get(key);
    if (!element) {
      element = make(item);
      element.dataset.key = key;
    }
    known.delete(key);
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const left of known.values()) left.remove();
}

const NUMBERS = new Intl.NumberFormat("en");

/** 12345 as "12,345"; a dash for what is not known. */
export const number = (value) => (value == null ? "–" : NUMBERS.format(value));

/** "1 key", "2 keys". */
export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** Bytes in the largest unit that fits; a dash for what is not known. */
export function bytes(count) {
  if (count == null) return "–";
  if (count < 1000) return plural(count, "byte");
  const units = ["kB", "MB", "GB", "TB"];
  let value = count / 1000;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** Seconds as "2 ms", "1.4 s" or "3 min". */
export function duration(seconds) {
  if (seconds < 0.001) return "under 1 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** A part of one, as "33 %". */
export function percent(part) {
  if (part > 0 && part < 0.01) return "under 1 %";
  if (part < 1 && part > 0.99) return "over 99 %";
  return `${Math.round(part * 100)} %`;
}

/** "node 0", "nodes 0 and 2", "nodes 0, 1 and 2"; a long list ends in "and 7 more". */
export function nodeNames(ids, longest = 6) {
  if (ids.length === 1) return `node ${ids[0]}`;
  if (ids.length > longest) {
    const shown = ids.slice(0, longest - 1).join(", ");
    return `nodes ${shown} and ${ids.length - longest + 1} more`;
  }
  return `nodes ${ids.slice(0, -1).join(", ")} and ${ids.at(-1)}`;
}

/** With a capital at its beginning. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** The time of day of a moment, "14:03:07". */
export function clockTime(moment) {
  const date = new Date(moment);
  if (Number.isNaN(date.getTime())) return "";
  return date.toLocaleTimeString("en-GB");
}

/** Whether someone asked the system for less movement. */
export function wantsStillness() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}
