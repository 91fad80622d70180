/**
 * Where boxes lie on the screen, and in which colour.
 *
 * @typedef {{centerX: number, centerY: number, width: number, height: number, classNum: number, label: string, confidence: number}} Detection
 *   Coordinates are fractions of the whole displayed picture.
 * @typedef {{x: number, y: number, width: number, height: number}} Rect  in CSS pixels
 */

/**
 * The part of a frame in which a medium is shown whole and in its own proportions (CSS `object-fit: contain`).
 * @param {number} frameWidth @param {number} frameHeight @param {number} mediumWidth @param {number} mediumHeight
 * @returns {Rect}
 */
export function shownIn(frameWidth, frameHeight, mediumWidth, mediumHeight) {
  if (!(mediumWidth > 0 && mediumHeight > 0)) return { x: 0, y: 0, width: frameWidth, height: frameHeight };
  const scale = Math.min(frameWidth / mediumWidth, frameHeight / mediumHeight);
  const [width, height] = [mediumWidth * scale, mediumHeight * scale];
  return { x: (frameWidth - width) / 2, y: (frameHeight - height) / 2, width, height };
}

/**
 * A detection on the screen, cut at the picture's edges.
 * @param {Detection} seen @param {Rect} shown @returns {Rect}
 */
export function rectOf(seen, shown) {
  const [left, right] = [-0.5, 0.5].map((side) => clamp(seen.centerX + side * seen.width));
  const [top, bottom] = [-0.5, 0.5].map((side) => clamp(seen.centerY + side * seen.height));
  return {
    x: shown.x + left * shown.width,
    y: shown.y + top * shown.height,
    width: (right - left) * shown.width,
    height: (bottom - top) * shown.height,
  };
}

/**
 * The smallest of the rectangles that hold a point, -1 if none does: a small box within a large one can be reached.
 * @param {Rect[]} rects @param {number} x @param {number} y @param {number} [slackPx]
 */
export function hit(rects, x, y, slackPx = 3) {
  let best = -1;
  rects.forEach((rect, index) => {
    const inside =
      x >= rect.x - slackPx && x <= rect.x + rect.width + slackPx && y >= rect.y - slackPx && y <= rect.y + rect.height + slackPx;
    if (inside && (best < 0 || area(rect) < area(rects[best]))) best = index;
  });
  return best;
}

/** @param {Rect} rect */
const area = (rect) => rect.width * rect.height;

/** @param {number} share */
const clamp = (share) => Math.min(1, Math.max(0, share));
