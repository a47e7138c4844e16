// The connections that streams hold. Browsers open six connections to a server, over all tabs,
// unless the server or a proxy in front of it speaks HTTP/2. A page that finds none free does not
// load, and a publication waits.

/** The maximum number of streams: one connection is left for requests. */
const MAX_STREAMS = 5;
const LOCK = "sse stream of the page ";
/** The lock under which one page holds the stream of live reload for all tabs. */
const RELOAD_LOCK = `${location.origin}/__hotreload`;

/** The number of streams of this tab. */
let own = 0;

const protocol = performance.getEntriesByType("navigation")[0]?.nextHopProtocol ?? "";
const isMultiplexed = protocol === "h2" || protocol === "h3";

/** Returns the number of streams in all tabs, or in this one where the others are not known. */
async function count() {
  // Locks exist in secure contexts only, such as https and loopback addresses.
  if (!navigator.locks) return own;
  const { held, pending } = await navigator.locks.query();
  const streams = [...held, ...pending].filter(({ name }) => name.startsWith(LOCK));
  return streams.length + held.filter(({ name }) => name === RELOAD_LOCK).length;
}

/** Returns why one more stream should not be opened, or `null` if it can. */
export async function obstacle() {
  if (isMultiplexed) return null;
  const streams = await count();
  if (streams < MAX_STREAMS) return null;
  return (
    `Not started: ${streams} streams are open in the tabs of this browser, which opens six ` +
    "connections to a server. Stop one, or start this stream anyway."
  );
}

/** Counts one stream until the returned function is called. */
export function hold() {
  own += 1;
  let release;
  const held = new Promise((resolve) => (release = resolve));
  navigator.locks?.request(LOCK + crypto.randomUUID(), () => held);
  return () => {
    own -= 1;
    release();
  };
}
