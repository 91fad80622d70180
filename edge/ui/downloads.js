/** Results as files: asked from the service, so that they are whole, and named after the medium. */
import { fromJsonLines, renamed, toCoco } from "./exports.js";

/** @typedef {"jsonl" | "csv" | "coco"} Format */

/**
 * Save what a run reported.
 * @param {import("./api.js").Api} api @param {import("./run.js").Run} run @param {Format} format
 * @throws {import("./problems.js").Problem}
 */
export async function download(api, run, format) {
  const path = `tasks/${run.id}/results`;
  switch (format) {
    case "csv":
      return save(renamed(run.name, "csv"), await api.text(path, "text/csv"), "text/csv");
    case "coco": {
      const medium = { name: run.name, width: run.width, height: run.height };
      const coco = toCoco(fromJsonLines(await api.text(path)), medium);
      return save(renamed(run.name, "coco.json"), JSON.stringify(coco, null, 1), "application/json");
    }
    default:
      return save(renamed(run.name, "jsonl"), await api.text(path), "application/x-ndjson");
  }
}

/** @param {string} name @param {string} text @param {string} type */
function save(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
