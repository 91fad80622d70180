/** The settings of the next run: a form made of the ranges in the service's OpenAPI document. */
import { element } from "./elements.js";
import { configFields } from "./schema.js";

/** @typedef {import("./schema.js").Field} Field */

const KEY = "detections.settings";

/** What the page starts with in place of the service's default: boxes that follow the picture. */
const PAGE_DEFAULTS = { frame_recognition_seconds: 0 };

/** Names for people; a field that is not here is called by its own name. @type {Record<string, string>} */
const LABELS = {
  frame_period_recognition: "Look at every Nth frame",
  frame_recognition_seconds: "Seconds between reports",
  probability_threshold: "Least confidence",
  tracking_distance_confidence: "Movement that is news",
  tracking_probability_increase: "Confidence gain that is news",
  tracking_intersection_threshold: "Overlap that is one object",
  model_batch_size: "Frames at a time",
  big_image_tile_overlap_percent: "Overlap of tiles, %",
  tiling: "Cut large pictures into tiles",
  camera_config: "Camera",
  shots: "Find shots too",
};

export class Settings {
  /** @param {HTMLFormElement} form */
  constructor(form) {
    this._form = form;
    /** @type {{field: Field, input: HTMLInputElement | HTMLSelectElement, path: string[]}[]} */
    this._inputs = [];
  }

  /** Make the form anew. @param {any} openapi */
  build(openapi) {
    this._inputs = [];
    const fields = configFields(openapi);
    const saved = this._saved();
    this._form.replaceChildren(
      ...fields.map((field) => this._make(field, [], saved)),
      element("button", { type: "button", className: "plain", onclick: () => this._reset() }, "Back to the defaults"),
    );
    this._form.addEventListener("input", () => this._save());
  }

  /** What differs from the service's defaults; null if something is out of its range, which is then shown. */
  read() {
    if (!this._form.checkValidity()) {
      this._form.closest("details")?.setAttribute("open", "");
      this._form.reportValidity();
      return null;
    }
    return this._values((value, field) => value !== field.default);
  }

  /** What is set and passes. @param {(value: any, field: Field) => boolean} passes */
  _values(passes) {
    /** @type {Record<string, any>} */
    const values = {};
    for (const { field, input, path } of this._inputs) {
      const value = valueOf(field, input);
      if (value === null || !passes(value, field)) continue;
      let place = values;
      for (const name of path) place = place[name] ??= {};
      place[field.name] = value;
    }
    return values;
  }

  /** @param {Field} field @param {string[]} path @param {any} saved @returns {HTMLElement} */
  _make(field, path, saved) {
    if (field.kind === "group") {
      const within = (field.fields ?? []).map((each) => this._make(each, [...path, field.name], saved?.[field.name]));
      return element("fieldset", {}, element("legend", {}, labelOf(field)), ...within);
    }
    const id = ["set", ...path, field.name].join("-");
    const hint = element("span", { className: "hint", id: `${id}-hint` }, hintOf(field));
    const input = inputOf(field, { id, name: id, "aria-describedby": hint.id });
    this._inputs.push({ field, input, path });
    put(field, input, saved?.[field.name] ?? startOf(field));
    const label = element("label", { htmlFor: id }, labelOf(field));
    return element("div", { className: `field ${field.kind}` }, label, input, hint);
  }

  _reset() {
    for (const { field, input } of this._inputs) put(field, input, startOf(field));
    this._save();
  }

  _save() {
    if (!this._form.checkValidity()) return;
    const chosen = this._values((value, field) => value !== startOf(field)); // the service's own default may be one of them
    localStorage.setItem(KEY, JSON.stringify(chosen));
  }

  _saved() {
    try {
      return JSON.parse(localStorage.getItem(KEY) ?? "null");
    } catch {
      return null;
    }
  }
}

/** @param {Field} field */
const startOf = (field) => PAGE_DEFAULTS[/** @type {"frame_recognition_seconds"} */ (field.name)] ?? field.default;

/** @param {Field} field */
function labelOf(field) {
  const plain = field.name.replaceAll("_", " ");
  return LABELS[field.name] ?? plain[0].toUpperCase() + plain.slice(1);
}

/** What it means, and what is allowed. @param {Field} field */
function hintOf(field) {
  const range = field.above === undefined ? `${field.min} to ${field.max}` : `more than ${field.above}, up to ${field.max}`;
  return [field.description, field.kind === "number" && range].filter(Boolean).join("; ");
}

/** @param {Field} field @param {Record<string, any>} given @returns {HTMLInputElement | HTMLSelectElement} */
function inputOf(field, given) {
  if (field.kind === "switch") return element("input", { ...given, type: "checkbox" });
  if (field.kind === "choice") return element("select", given, ...(field.choices ?? []).map((choice) => element("option", {}, choice)));
  const step = field.isWhole ? 1 : "any";
  return element("input", { ...given, type: "number", min: field.min ?? (field.above === undefined ? null : String(field.above)), max: field.max, step, required: field.default !== null, inputMode: field.isWhole ? "numeric" : "decimal" });
}

/** @param {Field} field @param {any} input */
function valueOf(field, input) {
  if (field.kind === "switch") return input.checked;
  if (field.kind === "choice") return input.value;
  return input.value === "" ? null : Number(input.value);
}

/** @param {Field} field @param {any} input @param {any} value */
function put(field, input, value) {
  if (field.kind === "switch") input.checked = Boolean(value);
  else input.value = value ?? "";
}
