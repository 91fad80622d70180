/**
 * The event stream, open while a task runs. A browser has few connections to one service, and all of its pages share them.
 *
 * Nothing is lost over a break: the browser comes back with `Last-Event-ID`; where it can't (a ticket is good once, an edge
 * that refused), we come back with the last id in the address; and after every break `onOpen` reads what was missed.
 */
import { Problem } from "./problems.js";

const RETRY_MS = { min: 500, max: 10_000 };
/** A page that nobody looks at for so long lets go of its connection, ms: six such pages would leave none for an upload. */
const HIDDEN_MS = 20_000;
const ID_KEY = "detections.lastEventId";

export class EventStream {
  /**
   * @param {import("./api.js").Api} api
   * @param {{onEvent: (event: any) => void, onOpen: () => void, onGap: () => void, onState: (isOpen: boolean, problem?: Problem) => void}} told
   */
  constructor(api, told) {
    this._api = api;
    this._told = told;
    this._isWanted = false;
    /** @type {EventSource | null} */
    this._source = null;
    this._retryMs = RETRY_MS.min;
    this._timer = 0;
    this._hiddenTimer = 0;
    /** Kept over a reload of this tab. */
    this._lastId = sessionStorage.getItem(ID_KEY) ?? "";
    document.addEventListener("visibilitychange", () => this._looked());
    addEventListener("pagehide", () => sessionStorage.setItem(ID_KEY, this._lastId));
  }

  /** Listen, or stop. @param {boolean} isWanted */
  want(isWanted) {
    if (isWanted === this._isWanted) return;
    this._isWanted = isWanted;
    if (isWanted) this._connect();
    else {
      this._close();
      this._told.onState(true); // a connection that nobody wants is not missed
      this._lastId = ""; // nothing of ours happens now: what others do until the next time need not come then
    }
  }

  /** Connect anew, with the token that is there now. */
  restart() {
    this._close();
    if (this._isWanted) this._connect();
  }

  /** Resolves when events arrive, at the latest after a while: what was missed is read later. @param {number} withinMs */
  async opened(withinMs) {
    const deadline = performance.now() + withinMs;
    while (this._source?.readyState !== EventSource.OPEN && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Listen where somebody looks; what a hidden page has missed is read when it is looked at again. */
  _looked() {
    clearTimeout(this._hiddenTimer);
    if (document.hidden) this._hiddenTimer = setTimeout(() => this._close(), HIDDEN_MS);
    else if (this._isWanted && !this._source) this._connect();
  }

  async _connect() {
    this._close();
    if (document.hidden || this._api.lacksToken) return; // `_looked` comes, or `restart` with the token
    const attempt = (this._attempt = {});
    let ticket = "";
    try {
      ticket = this._api.token ? await this._api.ticket() : "";
    } catch (error) {
      if (attempt === this._attempt) this._later(error instanceof Problem ? error : undefined);
      return;
    }
    if (attempt !== this._attempt || !this._isWanted) return;
    const query = new URLSearchParams({ ...(ticket && { ticket }), ...(this._lastId && { lastEventId: this._lastId }) });
    const source = (this._source = new EventSource(this._api.url(`detect/stream?${query}`)));
    source.onopen = () => this._opened();
    source.onmessage = (message) => {
      this._lastId = message.lastEventId;
      this._told.onEvent(JSON.parse(message.data));
    };
    source.addEventListener("gap", (message) => {
      this._lastId = message.lastEventId;
      this._told.onGap();
    });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED || ticket) this._later();
      else this._told.onState(false); // the browser comes back by itself
    };
  }

  _opened() {
    this._retryMs = RETRY_MS.min;
    this._told.onState(true);
    this._told.onOpen();
  }

  /** @param {Problem} [problem] */
  _later(problem) {
    this._close();
    this._told.onState(false, problem);
    this._timer = setTimeout(() => this._connect(), this._retryMs);
    this._retryMs = Math.min(RETRY_MS.max, this._retryMs * 2);
  }

  _close() {
    clearTimeout(this._timer);
    this._attempt = undefined;
    this._source?.close();
    this._source = null;
  }
}
