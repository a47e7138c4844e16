// The page: streams side by side, the form that subscribes, and what the URL names.

import { Card } from "./card.js";
import { isOwnPath, linkTo, linkedStreams } from "./links.js";
import { initPublish, updateToken } from "./publish.js";
import { initTopics, refreshTopics } from "./topics.js";

/** The streams of a URL that names none: the topic of the printed commands, and a demo. */
const DEFAULT_STREAMS = [
  { path: "/topics/news", after: "earliest" },
  { path: `${document.body.dataset.demos}/score?stream=true`, after: "" },
];

const box = document.getElementById("cards");
const form = document.getElementById("subscribe");
const fields = form.elements;
let cards = [];

/** Adds a stream to the page. */
function add(stream) {
  const card = new Card(stream, updateLink);
  cards.push(card);
  box.append(card.node);
  card.node.querySelector("[data-action=close]").onclick = () => {
    close(card);
    updateLink();
  };
  showEmpty();
  return card;
}

function close(card) {
  cards = cards.filter((other) => other !== card);
  card.close();
  showEmpty();
}

/** Adds a stream that the user chose, and shows it. A stream with the same path is replaced. */
function choose(path, after = "") {
  cards.filter(({ stream }) => stream.path === path).forEach(close);
  const card = add({ path, after, types: new Set() });
  card.start().then(refreshTopics);
  card.node.scrollIntoView({ block: "nearest" });
  updateLink();
}

function showEmpty() {
  document.getElementById("empty").hidden = cards.length > 0;
}

function updateLink() {
  linkTo(cards.map(({ stream }) => stream));
}

/** Replaces the streams on the page. */
async function replaceAll(streams) {
  cards.forEach(close);
  // One after the other, since each counts for the limit of the next.
  for (const card of streams.map(add)) await card.start();
}

/** Returns the path that the form describes. */
function path() {
  const target = fields.target.value.trim();
  if (isOwnPath(target)) return target;
  const names = target.split(",").map((name) => name.trim()).filter(Boolean);
  if (names.length === 1) return topicPath(names[0]);
  return `/topics?${new URLSearchParams(names.map((name) => ["topic", name]))}`;
}

const topicPath = (name) => `/topics/${encodeURIComponent(name)}`;

function subscribe() {
  const after = fields.start.value === "after" ? fields.after.value : fields.start.value;
  choose(path(), after);
}

form.onsubmit = (event) => {
  event.preventDefault();
  subscribe();
};
fields.start.onchange = () => {
  fields.after.closest("label").hidden = fields.start.value !== "after";
};
document.getElementById("demos").onclick = ({ target }) => {
  if (target.dataset.path) choose(target.dataset.path);
};
// Not links, since the fragment of the URL names the streams.
for (const button of document.querySelectorAll("nav button")) {
  button.onclick = () => document.getElementById(button.dataset.section).scrollIntoView();
}
document.getElementById("host").textContent = location.host;

// A link that differs only in its fragment does not reload the page.
onhashchange = () => {
  updateToken();
  const streams = linkedStreams();
  if (streams.length > 0) replaceAll(streams);
};
initPublish(refreshTopics, (topic) => choose(topicPath(topic)));
initTopics((name) => choose(topicPath(name), "earliest"));
const linked = linkedStreams();
const streams = linked.length > 0 ? linked : DEFAULT_STREAMS;
replaceAll(streams.map((stream) => ({ types: new Set(), ...stream })));
