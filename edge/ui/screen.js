/**
 * The medium as the person sees it: their own file, played from where it is, with the boxes of the moment over it.
 *
 * What a browser can't show (or a file that is not at hand after a reload) has its boxes on an empty frame, and a clock of
 * our own.
 */
import { element } from "./elements.js";
import { Overlay } from "./overlay.js";

/** @typedef {import("./run.js").Run} Run */

const FRAME = { width: 16, height: 9 };
/** While following, least time between two jumps of the video, ms. */
const FOLLOW_MS = 200;
/** A jump of ours ends this near to where it was meant to, s. */
const OWN_SEEK_S = 0.05;

export class Screen {
  /**
   * @param {HTMLElement} frame @param {HTMLElement} note what is said where there is no picture
   * @param {{onTime: (time: number) => void, onSize: (run: Run) => void, filter: (seen: import("./boxes.js").Detection) => boolean}} told
   */
  constructor(frame, note, told) {
    this._frame = frame;
    this._note = note;
    this._told = told;
    this._overlay = new Overlay(/** @type {HTMLCanvasElement} */ (frame.querySelector("canvas")), frame);
    /** @type {Run | null} */
    this._run = null;
    /** @type {HTMLVideoElement | HTMLImageElement | null} */
    this._medium = null;
    this._url = "";
    /** The time that is shown, s. */
    this.time = 0;
    /** Whether the picture goes where the newest report is. */
    this.isFollowing = false;
    this._followedAt = 0;
  }

  /** Show a run, or none. @param {Run | null} run */
  open(run) {
    if (run === this._run) return;
    this._close();
    this._run = run;
    this.time = 0;
    this.isFollowing = run?.kind === "video" && !run.isOver && (run.upload !== "sent" || run.status === "Running");
    if (run?.file) this._load(run, run.file);
    else this._showNote(run ? "missing" : "");
    this.draw();
  }

  /** The person's own file of the open run, found again. @param {File} file */
  lend(file) {
    const run = this._run;
    if (!run) return;
    run.file = file;
    this._run = null;
    this.open(run);
  }

  /** Duration of the medium as far as it is known, s. */
  get duration() {
    const played = this._medium instanceof HTMLVideoElement ? this._medium.duration : 0;
    const known = this._run?.looks.end ?? 0;
    return Number.isFinite(played) && played > 0 ? Math.max(played, known) : known;
  }

  /** Go to a time. @param {number} time s */
  seek(time) {
    this.isFollowing = false;
    this._goTo(time);
  }

  /** Reports have come. */
  reported() {
    const newest = this._run?.looks.list.at(-1);
    const isOver = Boolean(this._run?.isOver);
    if (this.isFollowing && newest && newest.time !== null && (isOver || performance.now() - this._followedAt > FOLLOW_MS)) {
      this._followedAt = performance.now();
      this.isFollowing = !isOver;
      this._goTo(newest.time);
    } else if (!this._isPlaying) this.draw(); // else the next frame of the video does
  }

  get _isPlaying() {
    return this._medium instanceof HTMLVideoElement && !this._medium.paused;
  }

  /** The boxes of the moment that pass the filter. */
  get boxes() {
    return (this._run?.looks.at(this.time) ?? []).filter(this._told.filter);
  }

  draw() {
    const run = this._run;
    const size = run?.width ? { width: run.width, height: run.height } : FRAME;
    this._frame.style.setProperty("--aspect", String(size.width / size.height));
    this._overlay.show(this.boxes, size);
  }

  /** @param {number} time s */
  _goTo(time) {
    this.time = Math.max(0, this.duration ? Math.min(time, this.duration) : time);
    if (this._medium instanceof HTMLVideoElement && this._medium.readyState > 0) this._medium.currentTime = this.time;
    this._told.onTime(this.time);
    this.draw();
  }

  /** @param {Run} run @param {File} file */
  _load(run, file) {
    this._url = URL.createObjectURL(file);
    const medium = run.kind === "video" ? this._video(run) : this._picture(run);
    medium.addEventListener("error", () => this._cannotShow());
    medium.src = this._url;
    this._medium = medium;
    this._frame.prepend(medium);
    this._showNote("");
  }

  /** @param {Run} run */
  _video(run) {
    const video = element("video", { controls: true, muted: true, playsInline: true, preload: "auto", "controlslist": "nofullscreen", "aria-label": run.name });
    video.addEventListener("loadedmetadata", () => {
      this._sized(run, video.videoWidth, video.videoHeight);
      if (this.time) video.currentTime = this.time;
    });
    video.addEventListener("play", () => (this.isFollowing = false));
    video.addEventListener("seeking", () => {
      if (Math.abs(video.currentTime - this.time) > OWN_SEEK_S) this.isFollowing = false; // the person did, by the controls
    });
    const show = (/** @type {number} */ time) => {
      if (this._medium !== video || video.seeking) return;
      this.time = time;
      this._told.onTime(time);
      this.draw();
    };
    for (const name of ["seeked", "pause", "timeupdate"]) video.addEventListener(name, () => video.paused && show(video.currentTime));
    this._inStep(video, show);
    return video;
  }

  /**
   * Draw with every frame that the video shows, for its own time where the browser tells it.
   * @param {HTMLVideoElement} video @param {(time: number) => void} show
   */
  _inStep(video, show) {
    const hasFrames = "requestVideoFrameCallback" in video;
    const next = (/** @type {number} */ _now, /** @type {any} */ frame) => {
      if (this._medium !== video) return;
      if (hasFrames || !video.paused) show(frame?.mediaTime ?? video.currentTime);
      if (hasFrames) video.requestVideoFrameCallback(next);
      else requestAnimationFrame((now) => next(now, null));
    };
    if (hasFrames) video.requestVideoFrameCallback(next);
    else requestAnimationFrame((now) => next(now, null));
  }

  /** @param {Run} run */
  _picture(run) {
    const picture = element("img", { alt: run.name, decoding: "async" });
    picture.addEventListener("load", () => this._sized(run, picture.naturalWidth, picture.naturalHeight));
    return picture;
  }

  /** @param {Run} run @param {number} width @param {number} height */
  _sized(run, width, height) {
    if (!width) return this._cannotShow(); // sound alone, or a codec that this browser lacks
    Object.assign(run, { width, height });
    this._told.onSize(run);
    this.draw();
  }

  _cannotShow() {
    this._medium?.remove();
    this._medium = null;
    this._showNote("unplayable");
  }

  /** @param {"" | "missing" | "unplayable"} why */
  _showNote(why) {
    this._note.hidden = !why;
    this._note.dataset.why = why;
  }

  _close() {
    this._medium?.removeAttribute("src");
    this._medium?.remove();
    this._medium = null;
    if (this._url) URL.revokeObjectURL(this._url);
    this._url = "";
  }
}
