// A stream on the page: its state, its response head, its chart and its events.

import { Chart } from "./chart.js";
import { hold, obstacle } from "./connections.js";
import { copy, curl } from "./curl.js";
import { element, gapNotice, row, setPretty, timeOfDay } from "./rows.js";
import { Source } from "./source.js";

/** The maximum number of rows, and of items that wait while the card is paused. */
const MAX_ROWS = 300;
/** The maximum number of types to filter by. */
const MAX_TYPES = 20;
/** The period over which the rate is measured, in milliseconds. */
const RATE_PERIOD = 5000;

/**
 * The labels of items that are no events. The key by which they are counted and filtered is their
 * kind after a colon, and that of an event is its type.
 */
const OTHERS = {
  comment: "comment",
  retry: "retry",
  id: "id only",
  connection: "connection",
};

/**
 * The kinds of items that share a row if they repeat. Otherwise keep-alive comments, or attempts to
 * reach a server that has stopped, would displace the events.
 */
const REPEATED = ["comment", "connection"];

const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

/** Returns the name of a stream: its topics, or else its path. */
function nameOf(path) {
  const url = new URL(path, location.origin);
  const topics = url.searchParams.getAll("topic");
  if (url.pathname === "/topics" && topics.length > 0) return topics.join(", ");
  try {
    if (url.pathname.startsWith("/topics/")) return decodeURIComponent(url.pathname.slice(8));
  } catch {
    // The path is not valid UTF-8.
  }
  return path;
}

export class Card {
  /** The element on the page. */
  node = document.getElementById("card").content.firstElementChild.cloneNode(true);

  #stream;
  #source;
  #chart;
  #release;
  #changed;
  #note = "";
  #opened = 0;
  #received = 0;
  /** The arrival times of recent events. */
  #recent = [];
  /** The number of items of each type. */
  #types = new Map();
  /** Items that are not shown yet. */
  #waiting = [];
  #isPaused = false;
  #isPretty = false;
  #isScheduled = false;
  #isClosed = false;
  #timer;

  /**
   * Creates a card for `{ path, after, types }`, where `types` are the keys of the types to show, or
   * empty to show all. `changed` is called when the types change.
   */
  constructor(stream, changed) {
    this.#stream = stream;
    this.#changed = changed;
    this.#chart = new Chart(this.#find("figure"));
    this.#source = new Source(stream.path, stream.after, {
      state: (state, note) => this.#setState(state, note),
      head: (response) => this.#showHead(response),
      item: (item) => this.#receive(item),
    });
    this.#find("h2").textContent = nameOf(stream.path);
    this.#find("h2").title = stream.path;
    for (const type of stream.types) this.#types.set(type, 0);
    const actions = {
      toggle: () => (this.#source.isActive ? this.#source.stop() : this.#open()),
      pause: () => this.#pause(),
      clear: () => this.#clear(),
      pretty: () => this.#togglePretty(),
      curl: (button) => copy(this.#curl(), button),
    };
    for (const [name, action] of Object.entries(actions)) {
      const button = this.#find(`[data-action=${name}]`);
      button.onclick = () => action(button);
    }
    this.#find(".events").onclick = ({ target }) => {
      const shown = target.closest(".json") && target.closest("li");
      // A click that ends a selection of text does not change the text.
      if (shown && getSelection().isCollapsed) {
        setPretty(shown, !shown.classList.contains("pretty"));
      }
    };
    this.#timer = setInterval(() => this.#showCounts(), 1000);
    this.#showTypes();
    this.#setState("idle");
  }

  get stream() {
    return this.#stream;
  }

  #find(selector) {
    return this.node.querySelector(selector);
  }

  /** Opens the stream if the browser has a connection left for it. */
  async start() {
    const why = await obstacle();
    if (this.#isClosed) return;
    if (why) this.#setState("idle", why);
    else this.#open();
  }

  #open() {
    this.#opened = 0;
    this.#source.start();
  }

  /** Closes the stream for good. */
  close() {
    this.#isClosed = true;
    this.#source.stop();
    clearInterval(this.#timer);
    this.node.remove();
  }

  #curl() {
    const { path, after } = this.#stream;
    return curl(path, { headers: after ? { "Last-Event-ID": after } : {} });
  }

  #setState(state, note = "") {
    if (this.#source?.isActive) this.#release ??= hold();
    else {
      this.#release?.();
      this.#release = undefined;
    }
    this.#note = note;
    if (state === "open") {
      this.#opened += 1;
      if (this.#opened > 1) this.#add({ kind: "connection", data: "reconnected" });
    } else if (["reconnecting", "finished", "failed"].includes(state)) {
      this.#add({ kind: "connection", data: note });
    }
    this.#find(".state").textContent = this.#find(".state").dataset.state = state;
    this.#find("[data-action=toggle]").textContent = this.#source?.isActive ? "Stop" : "Start";
    this.#showCounts();
  }

  /** Shows the events received, their rate and the reconnections. */
  #showCounts() {
    const since = Date.now() - RATE_PERIOD;
    while (this.#recent[0] < since) this.#recent.shift();
    const rate = (this.#recent.length * 1000) / RATE_PERIOD;
    const parts = [count(this.#received, "event")];
    if (this.#source?.isActive) parts.push(`${rate.toFixed(1)}/s`);
    if (this.#opened > 1) parts.push(count(this.#opened - 1, "reconnection"));
    if (this.#note) parts.push(this.#note);
    this.#find(".note").textContent = parts.join(" · ");
    const pause = this.#find("[data-action=pause]");
    const waiting = this.#waiting.length === MAX_ROWS ? `${MAX_ROWS}+` : this.#waiting.length;
    pause.textContent = this.#isPaused ? `Resume (${waiting})` : "Pause";
  }

  #showHead(response) {
    const head = this.#find(".head");
    head.hidden = false;
    const status = `${response.status} ${response.statusText}`.trim();
    head.querySelector("summary").textContent = `Response: ${status}`;
    const fields = [...response.headers].flatMap(([name, value]) => [
      element("dt", "", name),
      element("dd", "", value),
    ]);
    head.querySelector("dl").replaceChildren(...fields);
  }

  #receive(item) {
    if (item.kind === "event") {
      this.#received += 1;
      this.#recent.push(Date.now());
    }
    this.#add(item);
  }

  /** Adds an item to those that are shown next. */
  #add(item) {
    item.at = new Date();
    item.key = item.kind === "event" ? item.type : `:${item.kind}`;
    item.gap = item.kind === "event" && gapNotice(item.data);
    this.#waiting.push(item);
    if (!this.#types.has(item.key) && this.#types.size >= MAX_TYPES) item.key = ":more";
    this.#types.set(item.key, (this.#types.get(item.key) ?? 0) + 1);
    if (item.gap) this.#chart.mark(+item.at, "gap");
    else if (item.kind === "event") this.#chart.add(+item.at, item.data);
    else if (item.data === "reconnected" && item.kind === "connection") {
      this.#chart.mark(+item.at, "reconnection");
    }
    // Only the row is dropped: the item is already in the counts and in the chart.
    if (this.#waiting.length > MAX_ROWS) this.#waiting.shift();
    this.#schedule();
  }

  /** Shows the waiting items with the next frame, all at once. */
  #schedule() {
    if (this.#isPaused || this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      if (!this.#isPaused) this.#show();
    });
  }

  #show() {
    const list = this.#find(".events");
    for (const item of this.#waiting) {
      const newest = list.firstElementChild;
      const label = OTHERS[item.kind] ?? item.type;
      const text = REPEATED.includes(item.kind) ? `${item.kind} ${item.data}` : null;
      if (text !== null && newest?.text === text) {
        newest.count += 1;
        newest.querySelector("time").textContent = timeOfDay(item.at);
        newest.querySelector(".type").textContent = `${label} ×${newest.count}`;
        continue;
      }
      const node = row(item, label);
      [node.text, node.count] = [text, 1];
      node.hidden = !this.#isShown(item.key);
      setPretty(node, this.#isPretty);
      list.prepend(node);
    }
    this.#waiting = [];
    while (list.children.length > MAX_ROWS) list.lastElementChild.remove();
    this.#chart.draw();
    this.#showTypes();
    this.#showCounts();
  }

  #isShown(key) {
    const { types } = this.#stream;
    return types.size === 0 || types.has(key);
  }

  /** Shows a button for each type, once there are two to choose from. */
  #showTypes() {
    const box = this.#find(".types");
    box.hidden = this.#types.size < 2 && this.#stream.types.size === 0;
    for (const [key, number] of this.#types) {
      let button = [...box.children].find((other) => other.dataset.type === key);
      if (!button) {
        const label = key[0] === ":" ? (OTHERS[key.slice(1)] ?? "other types") : key;
        button = element("button", "", `${label} `, element("b"));
        button.type = "button";
        button.dataset.type = key;
        button.onclick = () => this.#filter(key);
        box.append(button);
      }
      button.querySelector("b").textContent = number;
      button.setAttribute("aria-pressed", this.#stream.types.has(key));
    }
  }

  /** Adds a type to those that are shown, or removes it. */
  #filter(key) {
    const { types } = this.#stream;
    if (!types.delete(key)) types.add(key);
    for (const node of this.#find(".events").children) {
      node.hidden = !this.#isShown(node.dataset.type);
    }
    this.#showTypes();
    this.#changed();
  }

  #pause() {
    this.#isPaused = !this.#isPaused;
    this.#find("[data-action=pause]").setAttribute("aria-pressed", this.#isPaused);
    this.#showCounts();
    this.#schedule();
  }

  #clear() {
    [this.#waiting, this.#recent, this.#received] = [[], [], 0];
    this.#types.clear();
    for (const type of this.#stream.types) this.#types.set(type, 0);
    this.#find(".events").replaceChildren();
    this.#find(".types").replaceChildren();
    this.#chart.clear();
    this.#showTypes();
    this.#showCounts();
  }

  #togglePretty() {
    this.#isPretty = !this.#isPretty;
    this.#find("[data-action=pretty]").setAttribute("aria-pressed", this.#isPretty);
    for (const node of this.#find(".events").children) setPretty(node, this.#isPretty);
  }
}
