// The form that publishes.

import { copy, curl } from "./curl.js";
import { keptToken, takeToken } from "./links.js";
import { element } from "./rows.js";

const form = document.getElementById("publish");
const answer = document.getElementById("answer");
const fields = form.elements;

/** Returns the request that the form describes. */
function request() {
  const value = (name) => fields[name].value.trim();
  const headers = { "Content-Type": "application/json" };
  if (value("token")) headers.Authorization = `Bearer ${value("token")}`;
  const event = { data: fields.data.value };
  for (const name of ["type", "id", "key"]) if (value(name)) event[name] = value(name);
  if (value("retry")) event.retry = Number(value("retry"));
  const path = `/topics/${encodeURIComponent(value("topic"))}`;
  return [path, { method: "POST", headers, body: JSON.stringify(event) }];
}

/** Publishes the event, and shows the response. */
async function publish() {
  const button = form.querySelector(".primary");
  button.disabled = true;
  try {
    const [path, options] = request();
    const response = await fetch(path, options);
    const text = await response.text();
    if (response.status === 401) throw new Error(`${text}Enter the token above.`);
    if (!response.ok) throw new Error(text || `The server answered with ${response.status}.`);
    const { id, duplicate } = JSON.parse(text);
    const result = duplicate ? "The key was used before; published as " : "Published as ";
    answer.replaceChildren(result, element("code", "", id));
    answer.className = "";
  } catch (error) {
    answer.textContent = error.message;
    answer.className = "bad";
  } finally {
    button.disabled = false;
  }
}

/** Takes the token of a link. */
export function updateToken() {
  fields.token.value = takeToken() ?? (fields.token.value || keptToken() || "");
}

/**
 * Makes the form work. `published` is called after each publication, and `follow` with a topic to
 * subscribe to.
 */
export function initPublish(published, follow) {
  form.onsubmit = async (event) => {
    event.preventDefault();
    await publish();
    published();
  };
  form.onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  };
  const button = document.getElementById("publish-curl");
  button.onclick = () => copy(curl(...request()), button);
  document.getElementById("follow").onclick = () => follow(fields.topic.value.trim());
  updateToken();
}
