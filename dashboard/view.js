// What of the page one sees. The head, the ring on a narrow page and the tour are stuck to the
// edges of the window: their sizes become properties, from which the style sheets make the
// `scroll-padding`. So neither the browser nor this page puts under them what one goes to.

import { byId } from "./dom.js";

const STUCK = { "--head": "head", "--pinned": "ring-card", "--dock": "tour" };
const root = document.documentElement;
let watched = []; // what was brought into view last

/** Begins to keep what one looks at in view. */
export function startView() {
  const observer = new ResizeObserver(measure);
  for (const id of [...Object.values(STUCK), "banner"]) observer.observe(byId(id));
}

function measure() {
  const isSeen = watched.length > 0 && isInView(watched[0]);
  for (const [property, id] of Object.entries(STUCK)) {
    root.style.setProperty(property, `${heightOf(byId(id))}px`);
  }
  if (isSeen) bringIntoView(...watched);
}

/** On a narrow page only the banner is stuck, of all that the head has. */
function heightOf(element) {
  if (getComputedStyle(element).display !== "contents") return element.offsetHeight;
  return byId("banner").offsetHeight;
}

/** The part of the window that nothing is stuck over, from its top to its bottom. */
function freePart() {
  const { scrollPaddingTop, scrollPaddingBottom } = getComputedStyle(root);
  return [parseFloat(scrollPaddingTop), window.innerHeight - parseFloat(scrollPaddingBottom)];
}

function isInView(element) {
  const [top, bottom] = freePart();
  const box = element.getBoundingClientRect();
  return box.top >= top - 1 && box.bottom <= bottom + 1;
}

/** The ring, where it is not stuck to the top anyway. */
function ring() {
  return getComputedStyle(byId("ring-card")).position === "sticky" ? [] : [byId("ring-stage")];
}

/**
 * Scrolls as little as is needed to see these elements at once, and the ring with them. The
 * first ones count most: the others are left out where there is no room for all.
 */
export function bringIntoView(...elements) {
  watched = elements.filter((element) => element.getClientRects().length);
  const [top, bottom] = freePart();
  const [first, ...others] = [...watched, ...ring()].map((one) => one.getBoundingClientRect());
  if (!first) return;
  let [from, to] = [first.top, first.bottom];
  for (const box of others) {
    const [above, below] = [Math.min(from, box.top), Math.max(to, box.bottom)];
    if (below - above > bottom - top) continue;
    [from, to] = [above, below];
  }
  const by = from < top ? from - top : Math.max(0, Math.min(to - bottom, from - top));
  if (by) window.scrollBy(0, by);
}
