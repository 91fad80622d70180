/**
 * A DOM element: properties by name, `data-`/`aria-` attributes by theirs, `on…` listeners, then its children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {Record<string, any>} [given] @param {...(Node | string | null | undefined | false)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.includes("-")) /** @type {any} */ (made)[name] = value;
    else made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map((child) => /** @type {Node} */ (child)));
  return made;
}

/**
 * The element of the page with an id.
 * @param {string} id @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Put other children into a place; the one that has the focus keeps it. @param {HTMLElement} place @param {HTMLElement[]} items */
export function fill(place, items) {
  if (items.length === place.children.length && items.every((item, index) => place.children[index] === item)) return;
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
  place.replaceChildren(...items);
  if (focused && place.contains(focused)) focused.focus({ preventScroll: true });
}

/** Write a text only if it is another one: screen readers are told of each change. @param {Element} node @param {string} text */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Texts and bars change no more often than they can be read, ms. */
const PACE_MS = 100;

/**
 * Call `draw` in the next frame, however often it is asked for, and then not again for a while.
 * @param {() => void} draw
 */
export function paced(draw) {
  let isDue = false;
  let drawnAt = -Infinity;
  return () => {
    if (isDue) return;
    isDue = true;
    const now = () => {
      isDue = false;
      drawnAt = performance.now();
      draw();
    };
    const wait = drawnAt + PACE_MS - performance.now();
    if (wait <= 0) requestAnimationFrame(now);
    else setTimeout(() => requestAnimationFrame(now), wait);
  };
}
