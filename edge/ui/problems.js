/**
 * Every failure in words: what happened, and what the person can do. The service's own detail goes below them.
 *
 * @typedef {{title: string, advice: string}} Words
 */

/** @type {Record<string, [string, string]>} code: what happened, what to do */
const WORDS = {
  malformed_message: ["The request could not be read", "Reload the page and try again. If it stays, tell whoever runs this service."],
  unknown_type: ["The request could not be read", "Reload the page and try again. If it stays, tell whoever runs this service."],
  unknown_version: ["The page and the service do not fit together", "Reload the page: the service was updated."],
  malformed_options: ["The settings could not be read", "Set them back to their defaults and try again."],
  options_out_of_range: ["A setting is outside of what is allowed", "Correct the setting that is named below and try again."],
  malformed_request: ["The request could not be read", "Rename the file to something short and plain, then try again."],
  unsupported_content_type: ["The request could not be read", "Reload the page and try again."],
  forbidden_path: ["The file may not be looked at there", "Choose another file."],
  task_id_in_use: ["This upload is known already", "Try again: it gets a new number."],
  idempotency_key_in_use: ["The same request is being worked on", "Wait for its result in the list."],
  idempotency_key_reused: ["The same request was sent with another file", "Try again."],
  length_required: ["The size of the file could not be told", "Choose the file again."],
  too_large: ["The file is too large", "Cut or shrink it, or ask whoever runs this service for a higher limit."],
  unauthenticated: ["You are not signed in", "Paste a token (button at the top). If you have, it is wrong or has expired."],
  forbidden: ["Your token does not allow this", "Ask for a token that may detect, then paste it (button at the top)."],
  empty_media: ["The file is empty", "Choose another file, or copy this one again from where it came from."],
  unsupported_media: ["This kind of file can't be looked at", "Convert it: MP4, MOV, WebM and MKV videos or JPEG, PNG and WebP pictures work."],
  unreadable_media: ["The file is damaged, or is not what its name says", "See whether it opens in a player. If it does, convert it to MP4 or JPEG."],
  no_video_stream: ["There is no picture in this video", "It may be sound only. Choose another file."],
  no_frames: ["There is not a single picture in this video", "Choose another file, or copy this one again."],
  too_many_pixels: ["The picture has too many pixels", "Shrink it or cut it into parts."],
  medium_missing: ["The file is gone from the service", "Send it again."],
  decoder_crashed: ["The video broke the decoder", "Convert it to MP4 and try again. What was found until then is kept."],
  decoder_hung: ["The decoder got stuck in the video", "Convert it to MP4 and try again. What was found until then is kept."],
  upload_aborted: ["The upload was cut off", "Try again. What was found until then is kept."],
  upload_abandoned: ["The upload was cut off", "Try again. What was found until then is kept."],
  upload_stalled: ["The upload stood still for too long", "Check your connection and try again."],
  upload_not_found: ["The upload can't be gone on with", "Send the file again."],
  upload_gone: ["The upload was cut off for too long", "Send the file again. What was found until then is kept."],
  upload_busy: ["The file is being sent by another connection", "Wait for it to end, or send the file again."],
  upload_completed: ["The file has been sent already", "Its run is in the list."],
  upload_offset_mismatch: ["The upload got out of step", "Send the file again."],
  upload_length_inconsistent: ["The file changed while it was sent", "Wait until it is finished (a recording, a copy), then try again."],
  headers_stalled: ["The request took too long to begin", "Check your connection and try again."],
  headers_too_large: ["The file's name is too long", "Give it a shorter name and try again."],
  task_abandoned: ["The service gave up on this run", "It showed no life for days. Send the file again."],
  task_not_failed: ["This run has not failed", "Its results are below."],
  length_mismatch: ["The file changed while it was sent", "Wait until it is finished (a recording, a copy), then try again."],
  cancelled: ["Cancelled", "What was found until then is kept. Run it again if you want the rest."],
  task_not_found: ["The service does not know this run any more", "Results are kept for a limited time. Send the file again."],
  task_ended: ["This run has ended already", "Its results are below."],
  media_not_found: ["The service does not know this file", "Send it again."],
  media_busy: ["This file is being looked at already", "Wait for that run to end, or cancel it."],
  inference_failed: ["The model failed on this file", "Try again. If other files work, convert this one to MP4 or JPEG."],
  duration_limit: ["The video is longer than is allowed", "Cut it into parts. What was found until the limit is kept."],
  poison: ["The service broke down on this file several times", "Convert it to MP4 or JPEG and try again, and tell whoever runs this service."],
  delivered_too_often: ["The service broke down on this file several times", "Convert it to MP4 or JPEG and try again, and tell whoever runs this service."],
  engine_unavailable: ["Nobody is there to look at files", "Try again in a minute. If it stays, tell whoever runs this service."],
  model_missing: ["The detection model is missing", "Tell whoever runs this service: a model has to be put in place."],
  model_corrupt: ["The detection model can't be read", "Tell whoever runs this service: the model file is damaged."],
  model_not_a_detector: ["The model that is in place is no detector", "Tell whoever runs this service: another model has to be chosen."],
  edge_stops: ["The service is being restarted", "Try again in a minute."],
  broker_unavailable: ["The service can't pass work on at the moment", "A file that was sent is stored and is looked at as soon as this is mended."],
  storage_full: ["The service has no room for the file", "Try again later, or tell whoever runs this service."],
  storage_unavailable: ["The service can't store anything at the moment", "Try again later, or tell whoever runs this service."],
  identity_unavailable: ["Your token can't be checked at the moment", "Try again in a minute."],
  no_answer: ["It took too long", "Try again later: many others may be waiting."],
  annotations_unavailable: ["The Annotations service can't be reached", "Try again later."],
  annotations_timeout: ["The Annotations service took too long", "Try again later."],
  annotations_refused: ["The Annotations service refused this", "See the reason below."],
  too_many_requests: ["The service is busy", "Try again in a minute."],
  internal: ["Something went wrong in the service", "Try again. If it stays, tell whoever runs this service the number below."],
  // the page's own
  offline: ["The service can't be reached", "Check your connection. The page goes on by itself when the service is back."],
  another_file: ["That is another file", "Choose the one that was sent in this run."],
  no_pixels: ["COCO needs the size of the picture", "Choose the file again (above), in a format that this browser can show; or take JSONL or CSV."],
  file_unreadable: ["The file can't be read any more", "It was moved, changed or deleted. Choose it again."],
};

/**
 * What happened and what to do about it.
 * @param {string} code @returns {Words}
 */
export function wordsFor(code) {
  const [title, advice] = WORDS[code] ?? ["Something went wrong", "Try again. If it stays, tell whoever runs this service."];
  return { title, advice };
}

/** A request that was refused or could not be made; `code` is one of the service's, or `offline`. */
export class Problem extends Error {
  /**
   * @param {string} code @param {string} [detail] of the service @param {number} [status] of HTTP, 0 without an answer
   * @param {string} [taskId] of the task that the refused request had made
   */
  constructor(code, detail = "", status = 0, taskId = "") {
    super(`${code}: ${detail}`);
    this.code = code;
    this.detail = detail;
    this.status = status;
    this.taskId = taskId;
  }

  /**
   * The problem in an answer; `type` and text as RFC 9457 has them, anything else by its status.
   * @param {number} status @param {string} text
   */
  static of(status, text) {
    try {
      const { code, detail, taskId } = JSON.parse(text);
      if (code) return new Problem(code, detail, status, taskId);
    } catch {
      // not ours: a proxy's page
    }
    const byStatus = { 401: "unauthenticated", 403: "forbidden", 413: "too_large", 429: "too_many_requests", 502: "offline", 503: "offline", 504: "no_answer" };
    return new Problem(byStatus[/** @type {401} */ (status)] ?? "internal", `HTTP ${status}`, status);
  }
}
