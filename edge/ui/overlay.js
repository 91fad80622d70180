/** Boxes over a picture: drawn on a canvas, told of under the pointer. */
import { hit, rectOf, shownIn } from "./boxes.js";
import { colourOf, inkOn } from "./colours.js";

/** @typedef {import("./boxes.js").Detection} Detection */

/** With more boxes their names would hide the picture; the pointer still tells. */
const NAMED_MAX = 16;
const FONT = "600 12px system-ui, sans-serif";
const CHIP_PX = 18;

export class Overlay {
  /** @param {HTMLCanvasElement} canvas over the whole frame @param {HTMLElement} frame */
  constructor(canvas, frame) {
    this._canvas = canvas;
    this._frame = frame;
    this._context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {Detection[]} */
    this._boxes = [];
    /** @type {import("./boxes.js").Rect[]} */
    this._rects = [];
    this._medium = { width: 0, height: 0 };
    /** @type {{x: number, y: number} | null} */
    this._pointer = null;
    frame.addEventListener("pointermove", (event) => this._point(event));
    frame.addEventListener("pointerleave", () => this._point(null));
    new ResizeObserver(() => this.draw()).observe(frame);
  }

  /**
   * Show other boxes.
   * @param {Detection[]} boxes @param {{width: number, height: number}} medium its own size, px
   */
  show(boxes, medium) {
    this._boxes = boxes;
    this._medium = medium;
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this._frame;
    const density = devicePixelRatio || 1;
    const [wide, high] = [Math.round(width * density), Math.round(height * density)];
    if (this._canvas.width !== wide || this._canvas.height !== high) Object.assign(this._canvas, { width: wide, height: high });
    const context = this._context;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    const shown = shownIn(width, height, this._medium.width, this._medium.height);
    this._rects = this._boxes.map((seen) => rectOf(seen, shown));
    const pointed = this._pointer ? hit(this._rects, this._pointer.x, this._pointer.y) : -1;
    const isNamed = this._boxes.length <= NAMED_MAX;
    this._boxes.forEach((seen, index) => this._drawBox(seen, this._rects[index], isNamed && index !== pointed ? seen.label : ""));
    if (pointed >= 0) this._drawPointed(this._boxes[pointed], this._rects[pointed]);
    this._canvas.dataset.boxes = String(this._boxes.length);
  }

  /** @param {PointerEvent | null} event */
  _point(event) {
    const frame = this._frame.getBoundingClientRect();
    this._pointer = event && { x: event.clientX - frame.x, y: event.clientY - frame.y };
    this.draw();
  }

  /** @param {Detection} seen @param {import("./boxes.js").Rect} rect @param {string} name */
  _drawBox(seen, rect, name, lineWidth = 2) {
    const context = this._context;
    context.lineJoin = "round";
    context.lineWidth = lineWidth + 2; // dark below light: seen on any ground
    context.strokeStyle = "rgb(0 0 0 / 0.55)";
    context.strokeRect(rect.x, rect.y, rect.width, rect.height);
    context.lineWidth = lineWidth;
    context.strokeStyle = colourOf(seen.classNum);
    context.strokeRect(rect.x, rect.y, rect.width, rect.height);
    if (name) this._drawChip(name, rect, colourOf(seen.classNum));
  }

  /** @param {Detection} seen @param {import("./boxes.js").Rect} rect */
  _drawPointed(seen, rect) {
    this._context.fillStyle = "rgb(255 255 255 / 0.18)";
    this._context.fillRect(rect.x, rect.y, rect.width, rect.height);
    this._drawBox(seen, rect, `${seen.label} ${Math.round(seen.confidence * 100)} %`, 3);
  }

  /** @param {string} text @param {import("./boxes.js").Rect} rect @param {string} colour */
  _drawChip(text, rect, colour) {
    const context = this._context;
    context.font = FONT;
    const width = context.measureText(text).width + 10;
    const x = Math.max(0, Math.min(rect.x - 1, this._frame.clientWidth - width));
    const y = rect.y >= CHIP_PX ? rect.y - CHIP_PX : rect.y + rect.height;
    context.fillStyle = colour;
    context.beginPath();
    context.roundRect(x, y, width, CHIP_PX, 3);
    context.fill();
    context.fillStyle = inkOn(colour);
    context.textBaseline = "middle";
    context.fillText(text, x + 5, y + CHIP_PX / 2 + 0.5);
  }
}
