/**
 * When each class was seen: a lane for each, with a switch that hides its boxes; shots above them. A click goes there.
 */
import { colourOf } from "./colours.js";
import { element, fill, say } from "./elements.js";
import { Lanes, nextSighting, rulerMarks } from "./lanes.js";
import { clockTime } from "./times.js";

const ROW_PX = 28;
const RULER_PX = 22;
const SHOTS_PX = 20;
/** Least time between two drawings while reports come, ms. */
const REDRAW_MS = 150;

export class Timeline {
  /**
   * @param {{names: HTMLElement, lanes: HTMLElement, canvas: HTMLCanvasElement, head: HTMLElement, empty: HTMLElement}} parts
   * @param {{onSeek: (time: number) => void, onFilter: () => void}} told
   */
  constructor(parts, told) {
    this._parts = parts;
    this._told = told;
    /** Classes that are switched off. @type {Set<number>} */
    this.hidden = new Set();
    this.threshold = 0;
    this._builder = new Lanes();
    /** @type {import("./lanes.js").Lane[]} */
    this._lanes = [];
    /** Colours by their names in the style sheet. @type {Record<string, string>} */
    this._inks = {};
    this._rows = new Map();
    this._duration = 0;
    this._time = 0;
    this._drawnFor = "";
    this._drawnAt = 0;
    this._timer = 0;
    /** Of the lanes, px; kept, since asking for it makes the browser lay out the page. */
    this._width = 0;
    /** @type {import("./run.js").Run | null} */
    this._run = null;
    this._listen();
  }

  /** @param {import("./run.js").Run | null} run @param {number} duration s */
  show(run, duration) {
    if (run !== this._run) {
      this.hidden.clear();
      this._drawnFor = "";
    }
    this._run = run;
    this._duration = duration;
    const wait = REDRAW_MS - (performance.now() - this._drawnAt);
    clearTimeout(this._timer);
    if (wait <= 0 || this._drawnFor === "") this._draw();
    else this._timer = setTimeout(() => this._draw(), wait);
  }

  /** @param {number} time s */
  point(time) {
    this._time = time;
    const { head, canvas } = this._parts;
    const share = this._duration ? Math.min(1, time / this._duration) : 0;
    head.style.transform = `translateX(${share * this._width}px)`;
    const now = time.toFixed(1);
    if (canvas.ariaValueNow === now) return;
    canvas.ariaValueNow = now;
    canvas.ariaValueText = clockTime(time);
  }

  _draw() {
    this._drawnAt = performance.now();
    const looks = this._run?.looks;
    const { lanes: frame, names, empty } = this._parts;
    const isVideo = this._run?.kind === "video";
    this._lanes = looks ? this._builder.of(looks.list, this.threshold, looks.hold, looks.gapMax) : [];
    frame.hidden = !isVideo || !(this._duration > 0);
    empty.hidden = this._lanes.length > 0 || !this._run || this._run.isUnread;
    const state = [looks?.version, this.threshold, this._duration, this._width, this._run?.key, [...this.hidden].join()].join("|");
    if (state === this._drawnFor) return;
    this._drawnFor = state;
    names.style.paddingTop = frame.hidden ? "0" : `${this._top}px`;
    this._listNames();
    if (!frame.hidden) this._paint();
    this.point(this._time);
  }

  /** Height above the first lane, px. */
  get _top() {
    return RULER_PX + (this._run?.looks.shots.length ? SHOTS_PX : 0);
  }

  _listNames() {
    for (const lane of this._lanes) if (!this._rows.has(lane.classNum)) this._rows.set(lane.classNum, this._row(lane));
    const rows = this._lanes.map((lane) => {
      const row = this._rows.get(lane.classNum);
      say(row.name, lane.label);
      say(row.count, String(lane.count));
      row.box.checked = !this.hidden.has(lane.classNum);
      return row.label;
    });
    fill(this._parts.names, rows);
  }

  /** @param {import("./lanes.js").Lane} lane */
  _row(lane) {
    const box = element("input", { type: "checkbox", checked: true });
    const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
    swatch.style.background = colourOf(lane.classNum);
    const [name, count] = [element("span", { className: "name" }), element("span", { className: "count" })];
    box.addEventListener("change", () => {
      this.hidden[box.checked ? "delete" : "add"](lane.classNum);
      this._draw();
      this._told.onFilter();
    });
    return { box, name, count, label: element("label", { className: "lane-name" }, box, swatch, name, count) };
  }

  _paint() {
    const { canvas } = this._parts;
    const [width, height] = [this._width, this._top + this._lanes.length * ROW_PX];
    const density = devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * density), Math.round(height * density)];
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
    canvas.style.height = `${height}px`;
    canvas.ariaValueMax = this._duration.toFixed(1);
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    const ink = (/** @type {string} */ name) => (this._inks[name] ??= getComputedStyle(canvas).getPropertyValue(name));
    const at = (/** @type {number} */ time) => (time / this._duration) * width;
    this._paintRuler(context, at, width, ink);
    this._paintShots(context, at, ink);
    this._lanes.forEach((lane, index) => {
      const y = this._top + index * ROW_PX;
      context.fillStyle = ink("--lane");
      context.fillRect(0, y + 3, width, ROW_PX - 6);
      context.globalAlpha = this.hidden.has(lane.classNum) ? 0.25 : 1;
      context.fillStyle = colourOf(lane.classNum);
      for (const [start, end] of lane.spans) context.fillRect(at(start), y + 5, Math.max(2, at(Math.min(end, this._duration)) - at(start)), ROW_PX - 10);
      context.globalAlpha = 1;
    });
  }

  /** @param {CanvasRenderingContext2D} context @param {(time: number) => number} at @param {number} width @param {(name: string) => string} ink */
  _paintRuler(context, at, width, ink) {
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const mark of rulerMarks(this._duration, width)) {
      context.fillStyle = ink("--line");
      context.fillRect(Math.round(at(mark)), 0, 1, RULER_PX - 4);
      context.fillStyle = ink("--quiet");
      const text = clockTime(mark).replace(/\.0$/, "");
      if (at(mark) + context.measureText(text).width + 6 < width) context.fillText(text, at(mark) + 4, RULER_PX / 2 - 2);
    }
  }

  /** @param {CanvasRenderingContext2D} context @param {(time: number) => number} at @param {(name: string) => string} ink */
  _paintShots(context, at, ink) {
    this._run?.looks.shots.forEach((shot, index) => {
      context.fillStyle = ink(index % 2 ? "--shot-odd" : "--shot-even");
      context.fillRect(at(shot.start), RULER_PX, Math.max(1, at(shot.end) - at(shot.start) - 1), SHOTS_PX - 4);
    });
  }

  _listen() {
    const { canvas, lanes: frame } = this._parts;
    const timeAt = (/** @type {PointerEvent} */ event) => {
      const place = canvas.getBoundingClientRect();
      return (Math.min(place.width, Math.max(0, event.clientX - place.x)) / place.width) * this._duration;
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this._told.onSeek(timeAt(event));
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && this._told.onSeek(timeAt(event)));
    canvas.addEventListener("keydown", (event) => {
      const time = this._timeOfKey(event.key);
      if (time === null) return;
      event.preventDefault();
      this._told.onSeek(time);
    });
    new ResizeObserver(() => {
      this._width = canvas.clientWidth;
      this._draw();
    }).observe(frame);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.repaint());
  }

  /** Draw anew, since the colours are others. */
  repaint() {
    this._inks = {};
    this._rows.clear();
    this._drawnFor = "";
    this._draw();
  }

  /** @param {string} key @returns {number | null} s */
  _timeOfKey(key) {
    const shown = this._lanes.filter((lane) => !this.hidden.has(lane.classNum));
    const starts = [...shown, { classNum: -1, label: "", count: 0, spans: (this._run?.looks.shots ?? []).map((shot) => /** @type {[number, number]} */ ([shot.start, shot.end])) }];
    switch (key) {
      case "ArrowLeft":
        return Math.max(0, this._time - 1);
      case "ArrowRight":
        return Math.min(this._duration, this._time + 1);
      case "PageUp":
        return nextSighting(starts, this._time, -1);
      case "PageDown":
        return nextSighting(starts, this._time, 1);
      case "Home":
        return 0;
      case "End":
        return this._duration;
      default:
        return null;
    }
  }
}
