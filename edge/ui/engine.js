/** The engine's state, from `/health`: a word, and the reason when it is opened. */
import { element, say } from "./elements.js";
import { Problem } from "./problems.js";

const EVERY_MS = 4_000;

/** @type {Record<string, [string, string, string]>} availability: tone, word, reason where the service gives none */
const STATES = {
  None: ["quiet", "Asleep", "The engine starts with the first file."],
  Downloading: ["busy", "Loading", "The model is being loaded. Files that are sent now wait for it."],
  Converting: ["busy", "Converting", "The model is being made faster for this machine. Files are looked at meanwhile."],
  Uploading: ["busy", "Storing", "The converted model is being stored. Files are looked at meanwhile."],
  Enabled: ["good", "Ready", "Files are looked at as they come."],
  Warning: ["warn", "Ready, with a warning", "Files are looked at, but not as well as they should be."],
  Error: ["bad", "Not working", "The model does not run. Tell whoever runs this service."],
};

export class EnginePill {
  /**
   * @param {import("./api.js").Api} api @param {HTMLDetailsElement} pill
   * @param {(colours: Record<string, string>) => void} onColours those that the model's class list states, by class number
   */
  constructor(api, pill, onColours) {
    this._api = api;
    this._onColours = onColours;
    this._pill = pill;
    this._word = /** @type {Element} */ (pill.querySelector(".word"));
    this._reason = /** @type {Element} */ (pill.querySelector(".reason"));
    this._turn();
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
  }

  async _turn() {
    if (!document.hidden) await this.look();
    setTimeout(() => this._turn(), EVERY_MS);
  }

  /** Ask now. */
  async look() {
    try {
      const health = await this._api.json("health");
      this._show(health);
      if (health.consumers.length) this._onColours(health.classColours);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this._say("bad", "Unreachable", "The service does not answer. The page goes on by itself when it is back.", []);
    }
  }

  /** @param {any} health */
  _show(health) {
    if (!health.consumers.length) {
      return this._say("bad", "Nobody there", "No worker is running. Files are stored and are looked at when one is back.", []);
    }
    const [tone, word, usual] = STATES[health.aiAvailability] ?? ["quiet", health.aiAvailability, ""];
    const workers = health.consumers.map((/** @type {any} */ each) => {
      const about = [each.engineType, each.model, each.busy ? "at work" : "idle", each.errorMessage];
      return `${each.host}: ${about.filter(Boolean).join(", ")}`;
    });
    this._say(tone, word, health.errorMessage || usual, workers);
  }

  /** @param {string} tone @param {string} word @param {string} reason @param {string[]} workers */
  _say(tone, word, reason, workers) {
    this._pill.dataset.tone = tone;
    say(this._word, word);
    const text = [reason, ...workers].join("\n");
    if (text === this._said) return;
    this._said = text;
    this._reason.replaceChildren(element("p", {}, reason), ...(workers.length ? [element("ul", {}, ...workers.map((each) => element("li", {}, each)))] : []));
  }
}
