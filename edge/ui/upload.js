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

/**
 * @typedef {{file: File, kind: "video" | "image", taskId: string, config: Record<string, any>,
 *   onSent: (bytes: number, total: number) => void, signal: AbortSignal}} Sending
 * @typedef {{taskId: string, mediaId: string}} Started
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
    return post(api, "detect", { Prefer: "respond-async" }, form, sending);
  }
  const tail = await readable(tailBytes(sending.file));
  const headers = {
    "Content-Type": "application/octet-stream",
    "X-Filename": encodeURIComponent(sending.file.name),
    "X-Config": config,
    "X-Task-Id": sending.taskId,
    ...(tail && { "X-Tail-Bytes": String(tail) }),
  };
  return post(api, "detect/video", headers, tailFirst(sending.file, tail), sending);
}

/**
 * XMLHttpRequest, since `fetch` does not say how much of a body has left.
 * @param {import("./api.js").Api} api @param {string} path @param {Record<string, string>} headers
 * @param {XMLHttpRequestBodyInit} body @param {Sending} sending @returns {Promise<Started>}
 */
function post(api, path, headers, body, sending) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", api.url(path));
    for (const [name, value] of Object.entries({ ...api.headers, ...headers })) request.setRequestHeader(name, value);
    request.upload.onprogress = (progress) => sending.onSent(progress.loaded, progress.total);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(api.refused(request.status, request.responseText));
    };
    request.onerror = () => readable(tailBytes(sending.file)).then(() => reject(new Problem("offline", "the connection broke")), reject);
    request.onabort = () => reject(new Problem("cancelled"));
    sending.signal.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

/**
 * What a read of the file gives. @template T @param {Promise<T>} read @returns {Promise<T>} @throws {Problem}
 */
async function readable(read) {
  try {
    return await read;
  } catch (error) {
    throw new Problem("file_unreadable", String(error));
  }
}
