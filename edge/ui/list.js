/** The list of runs: one button each, the newest first. */
import { element, fill, say } from "./elements.js";
import { sizeText } from "./times.js";
import { stateOf } from "./words.js";

/** @typedef {import("./run.js").Run} Run */

export class RunList {
  /** @param {HTMLElement} list @param {(run: Run) => void} onOpen */
  constructor(list, onOpen) {
    this._list = list;
    this._onOpen = onOpen;
    /** @type {Map<Run, {item: HTMLElement, button: HTMLElement, state: HTMLElement, bar: HTMLElement}>} */
    this._items = new Map();
  }

  /** @param {Run[]} runs @param {Run | null} open */
  show(runs, open) {
    fill(this._list, runs.map((run) => this._itemOf(run).item));
    for (const known of this._items.keys()) if (!runs.includes(known)) this._items.delete(known);
    for (const run of runs) this.update(run, open);
  }

  /** @param {Run} run @param {Run | null} open */
  update(run, open) {
    const { item, button, state, bar } = this._itemOf(run);
    const [tone, word] = stateOf(run);
    const share = run.upload === "sending" && !run.isOver ? run.sent / run.size : run.percent / 100;
    item.dataset.tone = tone;
    const shown = run.isOver || !share ? "" : ` ${Math.floor(share * 100)} %`;
    say(state, word + shown);
    bar.style.width = run.isOver ? "0" : `${share * 100}%`;
    if (run === open) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }

  /** @param {Run} run */
  _itemOf(run) {
    const known = this._items.get(run);
    if (known) return known;
    const state = element("span", { className: "state" });
    const bar = element("span", { className: "share", "aria-hidden": "true" });
    const size = element("span", { className: "size" }, run.kind === "image" ? `picture, ${sizeText(run.size)}` : sizeText(run.size));
    const button = element("button", { type: "button", onclick: () => this._onOpen(run) }, element("span", { className: "name" }, run.name), state, size, bar);
    const made = { item: element("li", {}, button), button, state, bar };
    this._items.set(run, made);
    return made;
  }
}
