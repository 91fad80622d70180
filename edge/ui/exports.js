/** Results as files: the same JSON lines and CSV that the service writes, and COCO, which is made here. */

/**
 * COCO's object detection format: a picture for each look, boxes in pixels from the upper left corner.
 * @param {any[]} events DetectionEvents in order @param {{name: string, width: number, height: number}} medium in pixels
 */
export function toCoco(events, medium) {
  const looks = events.filter((event) => event.mediaStatus === "AIProcessing" && event.sequence != null && (event.annotations.length || !event.shots));
  const categories = new Map(looks.flatMap((event) => event.annotations.map((/** @type {any} */ seen) => [seen.classNum, seen.label])));
  let id = 0;
  return {
    info: { description: `Detections in ${medium.name}` },
    images: looks.map((event) => ({
      id: event.sequence,
      file_name: event.videoTime == null ? medium.name : frameName(medium.name, event.frameIndex),
      width: medium.width,
      height: medium.height,
      ...(event.videoTime == null ? {} : { frame_index: event.frameIndex, video_time: event.videoTime }),
    })),
    annotations: looks.flatMap((event) =>
      event.annotations.map((/** @type {any} */ seen) => ({
        id: (id += 1),
        image_id: event.sequence,
        category_id: seen.classNum,
        bbox: [
          round((seen.centerX - seen.width / 2) * medium.width),
          round((seen.centerY - seen.height / 2) * medium.height),
          round(seen.width * medium.width),
          round(seen.height * medium.height),
        ],
        area: round(seen.width * medium.width * seen.height * medium.height),
        score: seen.confidence,
        iscrowd: 0,
      })),
    ),
    categories: [...categories].sort((a, b) => a[0] - b[0]).map(([number, name]) => ({ id: number, name })),
  };
}

/**
 * The events in a text of JSON lines.
 * @param {string} text @returns {any[]}
 */
export function fromJsonLines(text) {
  return text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

/**
 * `street.mp4` and `jsonl` give `street.jsonl`.
 * @param {string} name @param {string} extension
 */
export function renamed(name, extension) {
  return `${name.replace(/\.[^.]*$/, "") || "detections"}.${extension}`;
}

/** @param {string} name @param {number} index */
const frameName = (name, index) => `${name.replace(/\.[^.]*$/, "")}_${String(index).padStart(6, "0")}.jpg`;

/** @param {number} pixels */
const round = (pixels) => Math.round(pixels * 100) / 100;
