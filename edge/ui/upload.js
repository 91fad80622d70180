/** Files on their way to the service; nothing of them is held in memory. */
import { tailBytes, tailFirst } from "./moov.js";
import { Problem } from "./problems.js";

const VIDEO = new Set("mp4 mov webm mkv avi m4v ts mpg wmv flv 3gp".split(" "));
const IMAGE = new Set("jpg jpeg png bmp webp tif tiff".split(" "));

/**
 * What a file's name promises, as the service reads it; null for what it does not take.
 * @param {string} name @returns {"video" | "image" | null}
 */
export function kindOf(name) {
  const extension = name.includes(".") ? name.split(".").at(-1).toLowerCase() : "";
  return VIDEO.has(extension) ? "video" : IMAGE.has(extension) ? "image" : null;
}

/** How long an upload that makes no headway is gone on with, ms, and the waits between two tries. */
const GIVE_UP_MS = 100_000;
const WAIT_MS = { min: 200, max: 5_000 };
/** Statuses after which asking again may help; an expired token may be replaced meanwhile. */
const PASSING = new Set([401, 408, 409, 429, 500, 502, 503, 504]);
/** Codes of a video that was broken off and waits for its rest: the line, the service's end, or we fell silent. */
const BROKEN_OFF = new Set(["offline", "edge_stops", "upload_stalled"]);

/**
 * @typedef {{file: File, kind: "video" | "image", taskId: string, config: Record<string, any>, isResumable: boolean,
 *   onSent: (bytes: number) => void, signal: AbortSignal}} Sending
 * @typedef {{taskId: string, mediaId: string}} Started
 * @typedef {{method: string, path: string, headers: Record<string, string>, body: XMLHttpRequestBodyInit}} Request
 */

/**
 * Send a file: a video streams as task `taskId`, a picture goes as a form and gets an id from the service.
 * @param {import("./api.js").Api} api @param {Sending} sending @returns {Promise<Started>}
 * @throws {Problem}
 */
export async function send(api, sending) {
  const config = JSON.stringify(sending.config);
  if (sending.kind === "image") {
    const form = new FormData();
    form.append("config", config);
    form.append("file", sending.file);
    return carry(api, { method: "POST", path: "detect", headers: { Prefer: "respond-async" }, body: form }, sending, 0);
  }
  const tail = await readable(tailBytes(sending.file));
  const body = tailFirst(sending.file, tail);
  const headers = {
    "Content-Type": "application/octet-stream",
    "X-Filename": encodeURIComponent(sending.file.name),
    "X-Config": config,
    "X-Task-Id": sending.taskId,
    ...(tail && { "X-Tail-Bytes": String(tail) }),
    ...(sending.isResumable && { "Upload-Complete": "?1" }),
  };
  try {
    return await carry(api, { method: "POST", path: "detect/video", headers, body }, sending, 0);
  } catch (error) {
    if (!sending.isResumable || !(error instanceof Problem) || !BROKEN_OFF.has(error.code)) throw error;
    return goOn(api, body, sending, error);
  }
}

/**
 * The rest of a video whose connection broke: ask how much of it is there, and send what is not.
 * @param {import("./api.js").Api} api @param {Blob} body @param {Sending} sending @param {Problem} broken what is told if it stays so
 * @returns {Promise<Started>}
 */
async function goOn(api, body, sending, broken) {
  const path = `uploads/${sending.taskId}`;
  let [reached, since, wait] = [0, performance.now(), WAIT_MS.min];
  while (performance.now() - since < GIVE_UP_MS && !sending.signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
    wait = Math.min(WAIT_MS.max, wait * 2);
    try {
      const standing = (await api.request(path, { method: "HEAD" })).headers;
      const offset = Number(standing.get("upload-offset"));
      if (standing.get("upload-complete") === "?1") return { taskId: sending.taskId, mediaId: "" };
      if (offset > reached) [reached, since, wait] = [offset, performance.now(), WAIT_MS.min];
      const headers = { "Content-Type": "application/partial-upload", "Upload-Offset": String(offset), "Upload-Complete": "?1" };
      return await carry(api, { method: "PATCH", path, headers, body: body.slice(offset) }, sending, offset);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (!PASSING.has(error.status) && error.code !== "offline") throw error;
    }
  }
  throw broken;
}

/**
 * One request. XMLHttpRequest, since `fetch` does not say how much of a body has left.
 * @param {import("./api.js").Api} api @param {Request} request @param {Sending} sending @param {number} before bytes that were sent earlier
 * @returns {Promise<Started>}
 */
function carry(api, request, sending, before) {
  return new Promise((resolve, reject) => {
    if (sending.signal.aborted) return reject(new Problem("cancelled")); // before there was anything to abort
    const carrier = new XMLHttpRequest();
    carrier.open(request.method, api.url(request.path));
    for (const [name, value] of Object.entries({ ...api.headers, ...request.headers })) carrier.setRequestHeader(name, value);
    carrier.upload.onprogress = (progress) => sending.onSent(Math.min(sending.file.size, before + progress.loaded)); // a form is longer than its file
    carrier.onload = () => {
      if (carrier.status >= 200 && carrier.status < 300) resolve(JSON.parse(carrier.responseText));
      else reject(api.refused(carrier.status, carrier.responseText));
    };
    carrier.onerror = () => readable(tailBytes(sending.file)).then(() => reject(new Problem("offline", "the connection broke")), reject);
    carrier.onabort = () => reject(new Problem("cancelled"));
    sending.signal.addEventListener("abort", () => carrier.abort());
    carrier.send(request.body);
  });
}

/**
 * What a read of the file gives.
 * @template T @param {Promise<T>} read @returns {Promise<T>}
 * @throws {Problem} a file that was moved or changed can't be read any more
 */
async function readable(read) {
  try {
    return await read;
  } catch (error) {
    throw new Problem("file_unreadable", String(error));
  }
}
