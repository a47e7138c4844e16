// Links to the page: the streams that it shows, and the token, are in the fragment of its URL, which
// is not sent to servers.

/** Returns the parameters of the fragment. */
const fragment = () => new URLSearchParams(location.hash.slice(1));

/**
 * Returns the streams that the URL names. Each is a parameter `stream` with a path of this server,
 * which the parameters `after` and `type` of that stream follow.
 */
export function linkedStreams() {
  const streams = [];
  for (const [name, value] of fragment()) {
    if (name === "stream" && isOwnPath(value)) {
      streams.push({ path: value, after: "", types: new Set() });
    }
    if (name === "after" && streams.length > 0) streams.at(-1).after = value;
    if (name === "type" && streams.length > 0) streams.at(-1).types.add(value);
  }
  return streams;
}

/** Replaces the URL by one that names these streams. */
export function linkTo(streams) {
  const parameters = streams.flatMap(({ path, after, types }) => [
    ["stream", path],
    ...(after ? [["after", after]] : []),
    ...[...types].map((type) => ["type", type]),
  ]);
  setFragment(parameters);
}

function setFragment(parameters) {
  // Slashes need no escape in a fragment, and paths are easier to read with them.
  const encode = (value) => encodeURIComponent(value).replaceAll("%2F", "/");
  const text = parameters.map(([name, value]) => `${name}=${encode(value)}`).join("&");
  history.replaceState(null, "", location.pathname + location.search + (text && `#${text}`));
}

/** Returns whether a path cannot lead to another server. */
export function isOwnPath(path) {
  if (!path.startsWith("/")) return false;
  try {
    return new URL(path, location.origin).origin === location.origin;
  } catch {
    return false;
  }
}

/** Removes the token from a link such as `/#token=...`, and keeps it for this tab. */
export function takeToken() {
  const token = fragment().get("token");
  if (token === null) return null;
  setFragment([...fragment()].filter(([name]) => name !== "token"));
  try {
    sessionStorage.setItem("token", token);
  } catch {
    // Without storage, the token is lost when the page is reloaded.
  }
  return token;
}

/** Returns the token that this tab has kept. */
export function keptToken() {
  try {
    return sessionStorage.getItem("token");
  } catch {
    return null;
  }
}
