// The list of topics, with their subscribers and rates.

import { element } from "./rows.js";

/** The maximum number of topics that are listed. */
const MAX_TOPICS = 100;
/**
 * The shortest and the longest time between two requests, in milliseconds. Each is a line in the log
 * of the server, so the list is requested less often while nothing changes.
 */
const [SHORTEST, LONGEST] = [2000, 10_000];
const TIMEOUT = 5000;

const body = document.querySelector("#topics tbody");
const note = document.getElementById("topics-note");

let timer;
let delay = SHORTEST;
/** The list of the previous response as text. */
let previous = "";
/** The number of events published to each topic at the time of the previous response. */
let published = new Map();
let time;
let choose;

/** Requests the list, shows it, and does so again later while the page is visible. */
async function update() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const signal = AbortSignal.timeout(TIMEOUT);
    const response = await fetch(`/topics?limit=${MAX_TOPICS}`, { signal, cache: "no-store" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const text = await response.text();
    delay = text === previous ? Math.min(delay * 1.5, LONGEST) : SHORTEST;
    previous = text;
    show(JSON.parse(text));
  } catch (error) {
    note.textContent = `The list cannot be loaded: ${error.message}.`;
  }
  clearTimeout(timer);
  timer = setTimeout(update, delay);
}

function show({ topics, next }) {
  const now = performance.now();
  const rows = topics.map((topic) => {
    const before = published.get(topic.name);
    // A topic that was forgotten meanwhile is counted from zero again.
    const events = topic.published - (before <= topic.published ? before : 0);
    const rate = before === undefined ? 0 : (events * 1000) / (now - time);
    return row(topic, rate);
  });
  published = new Map(topics.map((topic) => [topic.name, topic.published]));
  time = now;
  body.replaceChildren(...rows);
  document.getElementById("totals").textContent = next ? `${topics.length}+` : topics.length;
  note.textContent = next
    ? `These are the first ${topics.length} by name.`
    : topics.length === 0
      ? "None holds events or has subscribers."
      : "";
}

function row({ name, subscribers, events }, rate) {
  const button = element("button", "link", name);
  button.type = "button";
  button.title = `Subscribe to ${name}`;
  button.dataset.topic = name;
  const cells = [button, subscribers, events, rate === 0 ? "0" : rate.toFixed(1)];
  return element("tr", "", ...cells.map((cell) => element("td", "", cell)));
}

/** Requests the list now. */
export function refreshTopics() {
  delay = SHORTEST;
  update();
}

/** Shows the list. `chosen` is called with the name of a topic that the user chooses. */
export function initTopics(chosen) {
  choose = chosen;
  // Not on the buttons, which are replaced with each response, perhaps during a click.
  body.onclick = ({ target }) => target.dataset.topic && choose(target.dataset.topic);
  document.addEventListener("visibilitychange", update);
  update();
}
