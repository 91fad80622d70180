/**
 * The timeline: for each class, when it was seen.
 *
 * @typedef {{classNum: number, label: string, count: number, spans: [number, number][]}} Lane  spans in seconds
 */

/**
 * One lane for each class, the most frequent first. A class is listed also if the threshold leaves nothing of it.
 * @param {import("./looks.js").Look[]} list @param {number} threshold least confidence
 * @param {number} hold how long a sighting without a next one lasts, s @param {number} gapMax sightings nearer than that are one, s
 * @returns {Lane[]}
 */
export function lanes(list, threshold, hold, gapMax) {
  /** @type {Map<number, Lane>} */
  const byClass = new Map();
  for (const look of list) {
    for (const seen of look.boxes) {
      let lane = byClass.get(seen.classNum);
      if (!lane) byClass.set(seen.classNum, (lane = { classNum: seen.classNum, label: seen.label, count: 0, spans: [] }));
      if (seen.confidence < threshold) continue;
      lane.count += 1;
      if (look.time !== null) extend(lane.spans, look.time, hold, gapMax);
    }
  }
  return [...byClass.values()].sort((a, b) => b.count - a.count || a.classNum - b.classNum);
}

/** @param {[number, number][]} spans @param {number} time @param {number} hold @param {number} gapMax */
function extend(spans, time, hold, gapMax) {
  const last = spans.at(-1);
  if (last && time <= last[1] - hold + gapMax) last[1] = Math.max(last[1], time + hold);
  else spans.push([time, time + hold]);
}

/**
 * Where the next sighting begins after a time, or the one before it; null if there is none.
 * @param {Lane[]} shown @param {number} time s @param {1 | -1} direction
 */
export function nextSighting(shown, time, direction) {
  const starts = shown.flatMap((lane) => lane.spans.map((span) => span[0])).sort((a, b) => a - b);
  const found = direction > 0 ? starts.find((start) => start > time + 0.05) : starts.findLast((start) => start < time - 0.05);
  return found ?? null;
}

/**
 * Marks of a ruler: round times, as many as there is room for.
 * @param {number} duration s @param {number} widthPx
 * @returns {number[]} s
 */
export function rulerMarks(duration, widthPx) {
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  const step = steps.find((each) => (each / duration) * widthPx >= 64) ?? steps[steps.length - 1];
  return Array.from({ length: Math.floor(duration / step) + 1 }, (_, index) => index * step);
}
