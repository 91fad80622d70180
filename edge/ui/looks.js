/**
 * What a task has reported, by time: what is to be seen at any moment, also between two reports.
 *
 * @typedef {import("./boxes.js").Detection} Detection
 * @typedef {{time: number | null, sequence: number, frameIndex: number | null, boxes: Detection[]}} Look
 * @typedef {{start: number, end: number}} Shot  in seconds
 */
import { secondsOf } from "./times.js";

const GAPS_KEPT = 50;
const GAP_S = { min: 0.3, max: 3 };
const HOLD_S = { min: 0.2, max: 3 };

export class Looks {
  constructor() {
    /** @type {Look[]} in order of time */
    this.list = [];
    /** @type {Shot[]} */
    this.shots = [];
    /** Grows with every change. */
    this.version = 0;
    this.lastSequence = 0;
    /** @type {number | null} */
    this._usualGap = null;
    this._known = new Set();
    this._pairs = new WeakMap();
  }

  /**
   * Take an event of the task; false if it is no report or was here before.
   * @param {any} event a DetectionEvent
   */
  add(event) {
    if (event.sequence == null || this._known.has(event.sequence)) return false;
    this._known.add(event.sequence);
    this.lastSequence = Math.max(this.lastSequence, event.sequence);
    if (event.mediaStatus !== "AIProcessing") return false;
    if (event.shots) this.shots.push(...event.shots.map(shotOf));
    if (!event.shots || event.annotations.length) this._insert(lookOf(event));
    this.version += 1;
    return true;
  }

  /** Longest pause between two reports over which boxes are moved, s. */
  get gapMax() {
    return Math.min(GAP_S.max, Math.max(GAP_S.min, 3 * this.usualGap));
  }

  /** How long boxes stay after their report where none follows soon, s. */
  get hold() {
    return Math.min(HOLD_S.max, Math.max(HOLD_S.min, 1.5 * this.usualGap));
  }

  /** The median pause between the last reports, s. */
  get usualGap() {
    if (this._usualGap === null) {
      const recent = this.list.slice(-GAPS_KEPT);
      const gaps = recent.slice(1).map((next, at) => (next.time ?? 0) - (recent[at].time ?? 0)).sort((a, b) => a - b);
      this._usualGap = gaps.length ? gaps[gaps.length >> 1] : 1 / 3;
    }
    return this._usualGap;
  }

  /** Whether a numbered event before the last one is missing. */
  get isGappy() {
    return this._known.size < this.lastSequence;
  }

  /** The time of the last look, 0 if there is none, s. */
  get end() {
    return Math.max(this.list.at(-1)?.time ?? 0, this.shots.at(-1)?.end ?? 0);
  }

  /**
   * What is to be seen at a time: boxes of one object in two reports glide, others come and go halfway; nothing if the
   * last report is too old. A picture's boxes are there at any time.
   * @param {number} time s @returns {Detection[]}
   */
  at(time) {
    const index = this.indexAt(time);
    if (index < 0) return this.list[0]?.time === null ? this.list[0].boxes : [];
    const [before, after] = [this.list[index], this.list[index + 1]];
    if (before.time === null) return before.boxes;
    const age = time - before.time;
    if (!after || after.time - before.time > this.gapMax) return age <= this.hold ? before.boxes : [];
    return between(before, after, age / (after.time - before.time), this._pairsOf(before, after));
  }

  /**
   * The last look at or before a time, -1 if there is none.
   * @param {number} time s
   */
  indexAt(time) {
    let [low, high] = [0, this.list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.list[middle].time ?? 0) <= time + 1e-6) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** @param {Look} look */
  _insert(look) {
    const place = this.indexAt(look.time ?? 0) + 1;
    this.list.splice(place, 0, look);
    this._usualGap = null;
  }

  /** @param {Look} before @param {Look} after */
  _pairsOf(before, after) {
    const cached = this._pairs.get(before);
    if (cached?.after === after) return cached.pairs;
    const pairs = pairUp(before.boxes, after.boxes);
    this._pairs.set(before, { after, pairs });
    return pairs;
  }
}

/**
 * Which boxes of two reports show the same object: of one class, the nearest first, not farther than 1.5 of their sides.
 * @param {Detection[]} before @param {Detection[]} after
 * @returns {[number, number][]} indices
 */
export function pairUp(before, after) {
  /** @type {[number, number, number][]} */
  const near = [];
  before.forEach((one, i) =>
    after.forEach((other, j) => {
      if (one.classNum !== other.classNum) return;
      const far = Math.max(
        Math.abs(one.centerX - other.centerX) / Math.max(one.width, other.width),
        Math.abs(one.centerY - other.centerY) / Math.max(one.height, other.height),
      );
      if (far <= 1.5) near.push([far, i, j]);
    }),
  );
  near.sort((a, b) => a[0] - b[0]);
  const [left, right] = [new Set(), new Set()];
  return near.flatMap(([, i, j]) => {
    if (left.has(i) || right.has(j)) return [];
    left.add(i);
    right.add(j);
    return [/** @type {[number, number]} */ ([i, j])];
  });
}

/**
 * @param {Look} before @param {Look} after @param {number} share of the way from one to the other, 0..1
 * @param {[number, number][]} pairs @returns {Detection[]}
 */
function between(before, after, share, pairs) {
  const mix = (/** @type {number} */ a, /** @type {number} */ b) => a + (b - a) * share;
  const moved = pairs.map(([i, j]) => {
    const [one, other] = [before.boxes[i], after.boxes[j]];
    return {
      ...(share < 0.5 ? one : other),
      centerX: mix(one.centerX, other.centerX),
      centerY: mix(one.centerY, other.centerY),
      width: mix(one.width, other.width),
      height: mix(one.height, other.height),
    };
  });
  const side = share < 0.5 ? 0 : 1;
  const paired = new Set(pairs.map((pair) => pair[side]));
  return [...moved, ...[before, after][side].boxes.filter((_, index) => !paired.has(index))];
}

/** @param {any} event @returns {Look} */
function lookOf(event) {
  const time = event.videoTime == null ? null : secondsOf(event.videoTime);
  return { time, sequence: event.sequence, frameIndex: event.frameIndex ?? null, boxes: event.annotations };
}

/** @param {any} shot @returns {Shot} */
function shotOf(shot) {
  const seconds = (/** @type {any} */ at) => (typeof at === "string" ? secondsOf(at) : Number(at));
  return { start: seconds(shot.startTime ?? shot.start), end: seconds(shot.endTime ?? shot.end) };
}
