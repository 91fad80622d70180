/**
 * The runs that this page knows: files that were sent, and what the service said of them.
 *
 * Reports come by the event stream. What it may have missed (before it opened, over a break, over a reload) is read from
 * `/tasks/{id}` and its results; a report's number says whether it was here before.
 */
import { uuid } from "./api.js";
import { fromJsonLines } from "./exports.js";
import { Problem } from "./problems.js";
import { OVER, Run } from "./run.js";
import { kindOf, send } from "./upload.js";

const KEY = "detections.runs";
const KEPT_MAX = 100;
const SENDING_MAX = 2;
/** A run of which nothing was heard for so long is asked for, ms. */
const SILENCE_MS = 10_000;
const OPEN_MS = 2_000;
/** A run that is younger may not have begun: another page of this browser is about to send its file. */
const BEGINS_MS = 60_000;

export class Runs {
  /**
   * @param {import("./api.js").Api} api @param {import("./stream.js").EventStream} stream
   * @param {(run: Run | null) => void} changed told of every change, null: of the list
   */
  constructor(api, stream, changed) {
    this._api = api;
    this._stream = stream;
    this._changed = changed;
    this._reading = new Set();
    /** What is on the screen. @type {Run | null} */
    this._open = null;
    /** Whether the service runs a failed task again by itself. */
    this.canRetry = false;
    /** Whether an upload goes on after its connection broke. */
    this.canResume = false;
    /** @type {Run[]} the newest first */
    this.list = stored();
    this._watch();
    setInterval(() => this._ask(), SILENCE_MS / 2);
    addEventListener("storage", (event) => event.key === KEY && this._adopt());
    addEventListener("pageshow", (event) => event.persisted && this._adopt()); // gone back to: nobody told it meanwhile
  }

  /** Another page of this browser has changed the list. */
  _adopt() {
    const theirs = stored();
    const ours = this.list.filter((run) => !run.isOver || !run.id || theirs.some((each) => each.id === run.id));
    const added = theirs.filter((run) => !ours.some((each) => each.id === run.id));
    this.list = [...added, ...ours].sort((a, b) => b.addedAt - a.addedAt);
    for (const run of added) this.read(run);
    this._stream.want(this.list.some((run) => !run.isOver));
    this._changed(null);
  }

  /** Send files, one after the other. @param {Iterable<File>} files @param {Record<string, any>} config */
  add(files, config) {
    const added = [...files].map((file) => {
      const kind = kindOf(file.name);
      const run = new Run({ name: file.name, kind: kind ?? "video", size: file.size, addedAt: Date.now() });
      Object.assign(run, { file, config, upload: "waiting", id: kind === "video" && file.size ? uuid() : "" });
      if (!kind) this._end(run, "Failed", new Problem("unsupported_media", `“${file.name}”`));
      else if (!file.size) this._end(run, "Failed", new Problem("empty_media", `“${file.name}” has 0 bytes`));
      return run;
    });
    this.list.unshift(...added.toReversed());
    this._changed(null);
    this.sendNext();
    return added;
  }

  /** A run is on the screen, or none: of one that was over before, the reports are read now. @param {Run | null} run */
  show(run) {
    this._open = run;
    if (run?.isUnread) this.read(run);
  }

  /** Take an event of the stream. @param {any} event */
  hear(event) {
    const run = this.list.find((each) => each.id === event.taskId);
    if (!run || run.isOver) return;
    run.heardAt = Date.now();
    run.looks.add(event);
    run.percent = Math.max(run.percent, event.mediaPercent);
    run.waitingFor = event.waitingFor ?? "";
    run.counts = event.counts ?? run.counts;
    run.status = "Running";
    if (event.mediaStatus !== "AIProcessing") {
      run.isPartial = event.partial ?? false;
      const status = event.mediaStatus === "AIProcessed" ? "Succeeded" : event.error?.code === "cancelled" ? "Cancelled" : "Failed";
      this._end(run, status, event.error);
    }
    if (run.looks.isGappy) this.read(run);
    this._changed(run);
  }

  /** Read all that may have been missed. */
  catchUp() {
    for (const run of this.list) if (!run.isOver && (run.upload === "sent" || run.heardAt)) this.read(run);
  }

  /** Ask the service where a run stands and what it reported; what nobody looks at is over and large. @param {Run} run */
  async read(run) {
    if (!run.id || this._reading.has(run)) return;
    this._reading.add(run);
    try {
      const view = await this._api.json(`tasks/${run.id}`);
      const isUnread = OVER.has(view.status) && run !== this._open && !run.looks.lastSequence;
      const lines = isUnread ? "" : await this._api.text(`tasks/${run.id}/results`); // after the view: an ended task's are whole
      for (const event of fromJsonLines(lines)) run.looks.add(event);
      run.isUnread = isUnread;
      run.heardAt = Date.now();
      if (!run.isOver || OVER.has(view.status)) this._stands(run, view); // else the end was heard while we read
    } catch (error) {
      this._couldNotRead(run, error);
    } finally {
      this._reading.delete(run);
    }
    this._changed(run);
  }

  /** Take over how the service says that a run stands. @param {Run} run @param {any} view */
  _stands(run, view) {
    run.percent = Math.max(run.percent, view.percent);
    run.counts = view.counts;
    run.isPartial = view.isPartial;
    if (OVER.has(view.status)) this._end(run, view.status, view.error);
    else Object.assign(run, { status: view.status, problem: null });
  }

  /** @param {Run} run @param {unknown} error */
  _couldNotRead(run, error) {
    if (!(error instanceof Problem)) throw error;
    run.heardAt = Date.now(); // asked again after the next silence
    if (error.status === 404 && run.upload === "sent" && Date.now() - run.addedAt > BEGINS_MS) this._end(run, "Lost", error);
    else if (error.status !== 404) run.problem = error;
  }

  /** Stop a run; what it found stays. @param {Run} run */
  async cancel(run) {
    const isOurs = run.upload !== "sent";
    try {
      if (run.id && run.upload !== "waiting") await this._api.request(`tasks/${run.id}`, { method: "DELETE" });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status !== 404 && error.status !== 409) run.problem = error;
      else this.read(run);
    }
    if (isOurs) {
      run.abort.abort();
      this._end(run, "Cancelled", new Problem("cancelled"));
    }
    this._changed(run);
  }

  /** Run it again: by the service where it can, else by sending the file once more. @param {Run} run */
  async retry(run) {
    if (this.canRetry && run.status === "Failed" && run.id && !run.file) {
      const started = await this._api.json(`tasks/${run.id}/retry`, { method: "POST" });
      const known = this.list.find((each) => each.id === started.taskId); // a task is done again once
      const again = known ?? new Run({ ...run, id: started.taskId, addedAt: Date.now() });
      if (!known) this.list.unshift(again);
      this._watch();
      this._changed(null);
      return again;
    }
    return run.file ? this.add([run.file], run.config)[0] : run;
  }

  /** Take it off the list; the service keeps what it has. @param {Run} run */
  forget(run) {
    this.list = this.list.filter((each) => each !== run);
    this._changed(null);
    this._keep();
  }

  /** Send what waits, as much as goes at a time; without a token that is asked for it goes on waiting. */
  sendNext() {
    this._watch();
    if (this._api.lacksToken) return;
    const waiting = this.list.filter((run) => run.upload === "waiting" && !run.isOver);
    const sending = this.list.filter((run) => run.upload === "sending" && !run.isOver);
    for (const run of waiting.reverse().slice(0, Math.max(0, SENDING_MAX - sending.length))) this._send(run);
  }

  /** @param {Run} run */
  async _send(run) {
    Object.assign(run, { upload: "sending", problem: null });
    this._changed(run);
    await this._stream.opened(OPEN_MS); // boxes while it is sent
    try {
      const started = await send(this._api, {
        file: /** @type {File} */ (run.file),
        kind: run.kind,
        taskId: run.id,
        config: run.config,
        isResumable: this.canResume,
        signal: run.abort.signal,
        onSent: (bytes) => {
          run.sent = bytes;
          this._changed(run);
        },
      });
      run.id = started.taskId;
      run.sent = run.size;
      run.upload = "sent";
      if (run.kind === "image" || !run.heardAt) this.read(run);
    } catch (error) {
      await this._sendingFailed(run, error);
    }
    this.sendNext();
    this._changed(run);
  }

  /** @param {Run} run @param {unknown} error */
  async _sendingFailed(run, error) {
    if (!(error instanceof Problem)) throw error;
    if (run.isOver) return; // the stream has told why
    if (error.status === 401) return Object.assign(run, { upload: "waiting", sent: 0, problem: error }); // for another token
    if (error.status) run.id = error.taskId; // refused without a task: there is nothing to ask for later
    const isStored = error.code === "broker_unavailable" && error.taskId;
    if (isStored || error.code === "offline") {
      run.upload = "sent";
      await this.read(run); // the service may have ended the task and closed before it could answer
    }
    if (run.isOver && run.status !== "Lost") return;
    if (isStored) run.problem = error;
    else this._end(run, "Failed", error.code === "offline" ? new Problem("upload_aborted", error.detail) : error);
  }

  /** @param {Run} run @param {Run["status"]} status @param {{code: string, detail: string} | null} [problem] */
  _end(run, status, problem) {
    run.status = status;
    run.problem = problem ?? null;
    run.percent = status === "Succeeded" ? 100 : run.percent;
    this._watch();
  }

  /** Listen while something runs, and keep the list. */
  _watch() {
    this._stream.want(this.list.some((run) => !run.isOver));
    this._keep();
  }

  _ask() {
    if (document.hidden) return;
    const before = Date.now() - SILENCE_MS;
    const isLacking = (/** @type {Run} */ run) => !run.isOver || (run.isUnread && run === this._open);
    for (const run of this.list) if (isLacking(run) && run.upload === "sent" && run.heardAt < before) this.read(run);
  }

  _keep() {
    const kept = this.list.filter((run) => run.id && run.upload !== "waiting");
    const made = kept.slice(0, KEPT_MAX).map(({ id, name, kind, size, addedAt, width, height }) => ({ id, name, kind, size, addedAt, width, height }));
    localStorage.setItem(KEY, JSON.stringify(made));
  }
}

/** @returns {Run[]} */
function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "[]").map((/** @type {any} */ made) => new Run(made));
  } catch {
    return []; // of another version
  }
}
