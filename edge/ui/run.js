/** One file and its task: what the page knows of it. */
import { uuid } from "./api.js";
import { Looks } from "./looks.js";

export const OVER = new Set(["Succeeded", "Failed", "Cancelled", "Lost"]);

export class Run {
  /** @param {{name: string, kind: "video" | "image", size: number, addedAt: number, id?: string, width?: number, height?: number}} made */
  constructor(made) {
    this.key = uuid();
    this.id = made.id ?? "";
    this.name = made.name;
    this.kind = made.kind;
    this.size = made.size;
    this.addedAt = made.addedAt;
    /** Of the medium, px; 0 while unknown. */
    this.width = made.width ?? 0;
    this.height = made.height ?? 0;
    /** @type {"waiting" | "sending" | "sent"} */
    this.upload = "sent";
    /** @type {"" | "Queued" | "Running" | "Succeeded" | "Failed" | "Cancelled" | "Lost"} as the service says; `Lost`: it does not know it */
    this.status = "";
    this.sent = 0;
    this.percent = 0;
    /** @type {any} */
    this.counts = null;
    this.isPartial = false;
    this.waitingFor = "";
    /** @type {{code: string, detail: string} | null} */
    this.problem = null;
    this.looks = new Looks();
    /** Whether it was over when this page came to know it, and its reports were not read. */
    this.isUnread = false;
    /** @type {File | null} the person's own file, while this page lives */
    this.file = null;
    /** @type {Record<string, any>} */
    this.config = {};
    this.heardAt = 0;
    this.abort = new AbortController();
  }

  get isOver() {
    return OVER.has(this.status);
  }

  get isSending() {
    return this.upload !== "sent" && !this.isOver;
  }

  /** Whether the same file can be sent once more. */
  get isRepeatable() {
    return this.isOver && this.file !== null;
  }
}
