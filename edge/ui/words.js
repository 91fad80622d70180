/** What is said of a run: its state in a word, and what has come of it. */

/** @typedef {import("./run.js").Run} Run */

/**
 * A tone for the colour, and the word itself.
 * @param {Run} run @returns {[string, string]}
 */
export function stateOf(run) {
  switch (run.status) {
    case "Succeeded":
      return run.isPartial ? ["warn", "Done in part"] : ["good", "Done"];
    case "Failed":
      return ["bad", "Failed"];
    case "Cancelled":
      return ["quiet", "Cancelled"];
    case "Lost":
      return ["quiet", "Gone"];
    default:
      return underWay(run);
  }
}

/** @param {Run} run @returns {[string, string]} */
function underWay(run) {
  if (run.upload === "waiting") return ["quiet", "Waiting"];
  if (run.waitingFor === "moov") return ["busy", "Waiting for the file's index"];
  if (run.upload === "sending") return ["busy", run.looks.lastSequence ? "Sending, looking" : "Sending"];
  return run.status === "Running" ? ["busy", "Looking"] : ["busy", "In the queue"];
}

/**
 * What was found, in a line.
 * @param {Run} run
 */
export function foundIn(run) {
  if (run.isUnread) return "";
  const { boxes, list: { length: looks } } = run.looks;
  const shots = run.looks.shots.length;
  if (!looks && !shots && !run.isOver) return "";
  const found = counted(boxes, "detection");
  if (run.kind === "image") return found;
  return `${found} in ${counted(looks, "report")}${shots ? `, ${counted(shots, "shot")}` : ""}`;
}

/** @param {number} count @param {string} noun */
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/**
 * How the frames add up, once a run is over.
 * @param {Run} run
 */
export function countsOf(run) {
  const counts = run.counts;
  if (!run.isOver || !counts || run.kind !== "video") return "";
  const failed = counts.failed ? `, ${counts.failed} failed` : "";
  const cut = run.isPartial ? "; the file is cut or damaged, this is what could be read" : "";
  return `${counts.decoded} frames read, ${counts.inferred} looked at${failed}${cut}`;
}
