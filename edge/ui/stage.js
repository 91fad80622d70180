/** What is open: one run with its bars, its picture, its timeline and what can be done with it. */
import { download } from "./downloads.js";
import { byId, paced, say } from "./elements.js";
import { Problem, wordsFor } from "./problems.js";
import { Screen } from "./screen.js";
import { Timeline } from "./timeline.js";
import { clockTime } from "./times.js";
import { countsOf, foundIn, stateOf } from "./words.js";

/** @typedef {import("./run.js").Run} Run */

/** How often the boxes of the moment are told in words, ms. */
const NOW_MS = 500;

export class Stage {
  /** @param {import("./api.js").Api} api @param {import("./runs.js").Runs} runs @param {(run: Run) => void} onOpen another run */
  constructor(api, runs, onOpen) {
    this._api = api;
    this._runs = runs;
    this._onOpen = onOpen;
    /** @type {Run | null} */
    this.run = null;
    this._toldNowAt = 0;
    const names = { names: "names", lanes: "lanes", canvas: "timeline", head: "head", empty: "seen-nothing" };
    const parts = Object.fromEntries(Object.entries(names).map(([name, id]) => [name, byId(id)]));
    this._timeline = new Timeline(/** @type {any} */ (parts), { onSeek: (time) => this._screen.seek(time), onFilter: () => this._screen.draw() });
    this._screen = new Screen(byId("frame"), byId("frame-note"), {
      onTime: (time) => this._moved(time),
      onSize: () => this.update(),
      filter: (seen) => seen.confidence >= this._timeline.threshold && !this._timeline.hidden.has(seen.classNum),
    });
    this.update = paced(() => this._draw());
    this._listen();
  }

  /** Show a run, or that there is none. @param {Run | null} run */
  open(run) {
    this.run = run;
    byId("open").hidden = !run;
    byId("nothing").hidden = Boolean(run);
    this._screen.open(run);
    this._timeline.point(this._screen.time);
    this._toldNowAt = 0; // the words of the run before do not stay for their pace
    this._draw();
  }

  /** The colours of the page, or of the classes, have changed. */
  repaint() {
    this._timeline.repaint();
    this._screen.draw();
  }

  _draw() {
    const run = this.run;
    if (!run) return;
    const focused = document.activeElement; // a button that is hidden loses it
    const [tone, word] = stateOf(run);
    say(byId("open-title"), run.name);
    say(byId("open-state"), word);
    byId("open-state").dataset.tone = tone;
    this._drawBars(run);
    this._drawProblem(run);
    byId("cancel").hidden = run.isOver;
    byId("retry").hidden = !(run.isRepeatable || (run.status === "Failed" && run.id && this._runs.canRetry));
    byId("forget").hidden = !run.isOver;
    byId("follow").hidden = run.isOver || run.kind !== "video";
    byId("follow").setAttribute("aria-pressed", String(this._screen.isFollowing));
    byId("downloads").hidden = !run.looks.lastSequence || !run.id;
    say(byId("summary"), [foundIn(run), countsOf(run)].filter(Boolean).join("; "));
    byId("results").hidden = run.isOver && run.status !== "Succeeded" && !run.looks.lastSequence;
    if (focused?.closest("#open [hidden]")) byId("stage").focus({ preventScroll: true });
    this._screen.reported();
    this._timeline.show(run, this._screen.duration);
    this._tellNow();
  }

  /** @param {Run} run */
  _drawBars(run) {
    const sent = run.upload === "sent" ? 1 : run.size ? run.sent / run.size : 0;
    const looked = run.percent / 100;
    byId("bars").hidden = run.isOver;
    for (const [id, share] of /** @type {[string, number][]} */ ([["sent", sent], ["looked", looked]])) {
      byId(id).value = share;
      say(byId(`${id}-text`), `${Math.floor(share * 100)} %`);
    }
  }

  /** @param {Run} run */
  _drawProblem(run) {
    const place = byId("problem");
    place.hidden = !run.problem;
    if (!run.problem) return;
    const words = wordsFor(run.problem.code);
    const [title, advice, detail] = place.children;
    place.dataset.tone = run.problem.code === "cancelled" ? "quiet" : "bad";
    say(title, words.title);
    say(advice, words.advice);
    say(detail, run.problem.code === "cancelled" ? "" : run.problem.detail);
  }

  /** @param {number} time s */
  _moved(time) {
    this._timeline.point(time);
    this._tellNow();
  }

  _tellNow() {
    clearTimeout(this._nowTimer);
    const wait = NOW_MS - (performance.now() - this._toldNowAt);
    if (wait > 0) this._nowTimer = setTimeout(() => this._tellNow(), wait);
    else this._sayNow();
  }

  /** The boxes of the moment in words, for those who don't see them. */
  _sayNow() {
    this._toldNowAt = performance.now();
    if (!this.run) return;
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const seen of this._screen.boxes) counts.set(seen.label, (counts.get(seen.label) ?? 0) + 1);
    const seen = [...counts].map(([label, count]) => `${count} ${label}`).join(", ") || "nothing";
    say(byId("now"), this.run.kind === "video" ? `${clockTime(this._screen.time)}: ${seen}` : `Seen: ${seen}`);
  }

  _listen() {
    byId("threshold").addEventListener("input", (/** @type {any} */ event) => {
      this._timeline.threshold = Number(event.target.value);
      say(byId("threshold-text"), this._timeline.threshold.toFixed(2));
      this._screen.draw();
      this.update();
    });
    byId("cancel").addEventListener("click", () => this.run && this._runs.cancel(this.run));
    byId("retry").addEventListener("click", () => this._again());
    byId("forget").addEventListener("click", () => this.run && this._runs.forget(this.run));
    byId("follow").addEventListener("click", () => {
      this._screen.isFollowing = !this._screen.isFollowing;
      this.update();
    });
    byId("full").addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : byId("frame").requestFullscreen()));
    byId("lend").addEventListener("change", (/** @type {any} */ event) => this._lend(event.target));
    for (const button of byId("downloads").children) button.addEventListener("click", () => this._download(button.dataset.format));
  }

  async _again() {
    try {
      if (this.run) this._onOpen(await this._runs.retry(this.run));
    } catch (error) {
      this._failed(error);
    }
  }

  /** @param {HTMLInputElement} input */
  _lend(input) {
    const file = input.files?.[0];
    input.value = "";
    if (!file || !this.run) return;
    if (file.size === this.run.size) {
      this._screen.lend(file);
      return this.update();
    }
    this._failed(new Problem("another_file", `“${file.name}” has ${file.size} bytes, “${this.run.name}” had ${this.run.size}`));
  }

  /** @param {import("./downloads.js").Format} format */
  async _download(format) {
    const run = this.run;
    if (!run) return;
    try {
      if (format === "coco" && !run.width) throw new Problem("no_pixels");
      await download(this._api, run, format);
      if (!run.isOver || run.status === "Succeeded") run.problem = null;
    } catch (error) {
      this._failed(error);
    }
    this.update();
  }

  /** @param {unknown} error */
  _failed(error) {
    if (!(error instanceof Problem)) throw error;
    if (this.run) this.run.problem = error;
    this.update();
  }
}
