// A connection to an event stream that reconnects and resumes, as an `EventSource` does. It reads
// with `fetch`, which gives access to the response head, to the body of an error, and to comments.

import { Decoder } from "./decoder.js";

const RECONNECTION_TIME = 3000;
const MIN_RECONNECTION_TIME = 500;
/** Reconnection times are no longer than this, also for a `retry` that does not fit into a timer. */
const MAX_RECONNECTION_TIME = 3_600_000;
/** The statuses of servers and proxies that are overloaded or being restarted. */
const TEMPORARY = [429, 502, 503, 504];

/** Encodes text as UTF-8 in the form in which `fetch` takes header values: one character a byte. */
const headerValue = (text) => String.fromCharCode(...new TextEncoder().encode(text));

/** Waits until the time in milliseconds has passed, or the signal aborts. */
function sleep(time, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, time);
    signal.addEventListener("abort", end);
  });
}

export class Source {
  /**
   * One of `idle`, `connecting`, `open`, `reconnecting`, `closed` (by the user), `finished` (the
   * server has no more events) and `failed`.
   */
  state = "idle";

  #path;
  #after;
  #on;
  #abort;

  /**
   * Creates a source for a path of this server. A stream begins after the event ID `after`.
   * `on.state(state, note)`, `on.head(response)` and `on.item(item)` are called as it changes.
   */
  constructor(path, after, on) {
    this.#path = path;
    this.#after = after;
    this.#on = on;
  }

  get isActive() {
    return ["connecting", "open", "reconnecting"].includes(this.state);
  }

  start() {
    this.#abort?.abort();
    this.#abort = new AbortController();
    this.#run(this.#abort.signal);
  }

  stop() {
    this.#abort?.abort();
    if (this.isActive) this.#set("closed");
  }

  #set(state, note = "") {
    this.state = state;
    this.#on.state(state, note);
  }

  async #run(signal) {
    const connection = { retry: RECONNECTION_TIME, lastEventId: this.#after };
    this.#set("connecting");
    for (;;) {
      const outcome = await this.#connect(connection, signal).catch((error) => error.message);
      if (signal.aborted) return;
      if (typeof outcome !== "string") return this.#set(outcome.state, outcome.note);
      const wait = Math.min(
        Math.max(connection.retryAfter ?? connection.retry, MIN_RECONNECTION_TIME),
        MAX_RECONNECTION_TIME,
      );
      this.#set("reconnecting", `${outcome}; next attempt after ${wait / 1000} s`);
      await sleep(wait, signal);
      if (signal.aborted) return;
    }
  }

  /**
   * Connects once and reads to the end of the stream. Returns why to reconnect as text, or the
   * final state.
   */
  async #connect(connection, signal) {
    connection.retryAfter = undefined;
    const headers = { Accept: "text/event-stream" };
    if (connection.lastEventId) headers["Last-Event-ID"] = headerValue(connection.lastEventId);
    let response;
    try {
      response = await fetch(this.#path, { headers, signal, cache: "no-store" });
    } catch {
      return "the server cannot be reached";
    }
    this.#on.head(response);
    if (response.status === 204) return { state: "finished", note: "204: no more events" };
    if (TEMPORARY.includes(response.status)) {
      const seconds = Number(response.headers.get("Retry-After") ?? NaN);
      if (seconds >= 0) connection.retryAfter = seconds * 1000;
      return `status ${response.status}`;
    }
    if (!response.ok) {
      const body = (await response.text()).trim().slice(0, 1000);
      const status = `${response.status} ${response.statusText}`.trim();
      // Errors of this server begin with the status.
      const text = body.startsWith(status) ? body.slice(status.length).trim() : body;
      return { state: "failed", note: text ? `${status}: ${text}` : status };
    }
    const type = response.headers.get("Content-Type") ?? "none";
    if (!/^text\/event-stream *(;|$)/i.test(type)) {
      response.body?.cancel();
      return { state: "failed", note: `no event stream: the content type is ${type}` };
    }
    this.#set("open");
    const decoder = new Decoder(connection.lastEventId);
    const reader = response.body.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (signal.aborted) return "";
        if (done) return "the server ended the stream";
        for (const item of decoder.decode(value)) {
          if (item.kind === "retry") connection.retry = Number(item.data);
          this.#on.item(item);
        }
        connection.lastEventId = decoder.lastEventId;
      }
    } catch {
      return "the connection broke";
    }
  }
}
