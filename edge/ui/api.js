/** The service's HTTP, with the token that the person pasted; it is kept here, in memory, and nowhere else. */
import { Problem } from "./problems.js";

/** How long an answer may take, ms; uploads have their own way. */
const TIMEOUT_MS = 30_000;

export class Api {
  constructor() {
    /** @type {string} */
    this.token = "";
    /** Whether this service asks for a token. */
    this.asksForToken = false;
    /** @type {() => void} called when a token is missing, wrong or expired */
    this.onRefused = () => {};
  }

  /** @param {string} path below the page's own address, so that a proxy may serve it under any prefix */
  url(path) {
    return new URL(path, document.baseURI).href;
  }

  /** Whether nothing can be asked for before the person gives a token. */
  get lacksToken() {
    return this.asksForToken && !this.token;
  }

  /** @returns {Record<string, string>} */
  get headers() {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }

  /**
   * An answer that is no refusal.
   * @param {string} path @param {RequestInit} [init]
   * @throws {Problem}
   */
  async request(path, init = {}) {
    const headers = { ...this.headers, ...init.headers };
    const response = await arrived(fetch(this.url(path), { ...init, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) }));
    if (!response.ok) throw this.refused(response.status, await response.text().catch(() => ""));
    return response;
  }

  /** @param {string} path @param {RequestInit} [init] @throws {Problem} */
  async json(path, init) {
    return arrived((await this.request(path, init)).json());
  }

  /** @param {string} path @param {string} [accept] @throws {Problem} */
  async text(path, accept = "application/x-ndjson") {
    return arrived((await this.request(path, { headers: { Accept: accept } })).text());
  }

  /**
   * The problem in an answer; a refused token is told of.
   * @param {number} status @param {string} text
   */
  refused(status, text) {
    const problem = Problem.of(status, text);
    if (status === 401) {
      const isNews = this.token || !this.asksForToken;
      this.token = ""; // wrong or expired: it opens nothing any more
      this.asksForToken = true;
      if (isNews) this.onRefused(); // told once: whoever does not want to give one is left alone
    }
    return problem;
  }

  /** A ticket for the event stream, which can't send a token; empty where none is asked for. @throws {Problem} */
  async ticket() {
    const answer = await this.json("detect/stream/ticket", { method: "POST" });
    return this.token ? answer.ticket : "";
  }
}

/**
 * What comes of a connection, which may break at the beginning of an answer or in the middle of its body.
 * @template T @param {Promise<T>} awaited @returns {Promise<T>}
 * @throws {Problem} offline
 */
async function arrived(awaited) {
  try {
    return await awaited;
  } catch (error) {
    throw new Problem("offline", String(error));
  }
}

/** A UUID; `crypto.randomUUID` is missing on pages that came without TLS. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
