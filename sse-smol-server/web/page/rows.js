// The rows of a card: one for each event, and for what else happens on a stream.

import { isStructured, parse, pretty } from "./json.js";

/** The maximum length of IDs that are shown whole. */
const LONG_ID = 12;

/** Returns a new element. */
export function element(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Returns the time of day, with milliseconds. */
export function timeOfDay(date) {
  const milliseconds = `${date.getMilliseconds()}`.padStart(3, "0");
  return `${date.toTimeString().slice(0, 8)}.${milliseconds}`;
}

/** Returns the notice for the data of a gap event, or `undefined` if they are not those of a gap. */
export function gapNotice(data) {
  const { reason, requested, earliest, latest } = parse(data) ?? {};
  const why = {
    unknown: `the ID ${requested} is unknown, perhaps because the server was restarted`,
    evicted: `some events after ${requested} are no longer held`,
    lagged: "this page was too slow to receive them",
  }[reason];
  const next = earliest ? `Events held follow: ${earliest} to ${latest}.` : "No events are held.";
  return why && `Events may be missing: ${why}. ${next}`;
}

/** Returns a row for an item of a stream. `label` is the text in the place of the type. */
export function row(item, label) {
  const node = element("li", item.gap ? "gap" : item.kind);
  node.dataset.type = item.key;
  const data = element("pre", "data");
  data.textContent = item.kind === "retry" ? `${item.data} ms` : item.gap || item.data;
  node.append(
    element("time", "", timeOfDay(item.at)),
    item.id ? shortId(item.id) : element("span", "id none", "–"),
    element("span", "type", label),
    data,
  );
  if (item.kind === "event" && !item.gap && isStructured(item.data)) {
    node.raw = item.data;
    data.classList.add("json");
  }
  return node;
}

/** Shows the data of a row on several lines, or as they were sent, if they are JSON. */
export function setPretty(node, isPretty) {
  if (node.raw === undefined) return;
  node.classList.toggle("pretty", isPretty);
  const content = isPretty ? pretty(node.raw) : [node.raw];
  node.querySelector(".data").replaceChildren(...content);
}

/** Returns a button with the ends of an ID, which shows the whole when it is hovered or pressed. */
function shortId(id) {
  if (id.length <= LONG_ID) return element("span", "id", id);
  const short = `${id.slice(0, 4)}…${id.slice(-6)}`;
  const button = element("button", "id", short);
  button.type = "button";
  button.title = id;
  button.setAttribute("aria-expanded", "false");
  button.onclick = () => {
    const isWhole = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", isWhole);
    button.textContent = isWhole ? id : short;
  };
  return button;
}
