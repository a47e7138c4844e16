// Reloads the page when watched files have changed since this script was loaded. If only style
// sheets have changed, replaces those of the page instead.
(() => {
  // Relative to this script, except in a module, where `currentScript` is null.
  const base = document.currentScript?.src ?? location.origin;
  const url = new URL("__hotreload?lastEventId={version}", base);
  // The version that the page shows: the start time of the server, and the number of changes since.
  let version = url.searchParams.get("lastEventId");
  // The name of the lock and of the channel that all pages with this stream share.
  const NAME = `${url.origin}${url.pathname}`;
  // The time in milliseconds to wait for the page to unload or to finish loading.
  const PATIENCE = 5000;
  let events, latest, channel, request, release, timer;

  // Browsers open few connections to a server, often six for all pages together. So one page holds
  // the stream and passes its events on to the others, which wait for the lock to take over. The
  // stream must not hold a connection that its own page needs, so it is opened last, and closed
  // before the page unloads.
  const close = () => {
    clearTimeout(timer);
    events?.close();
    channel?.close();
    request?.abort();
    release?.();
    events = latest = channel = request = release = undefined;
  };

  const listen = () => {
    close();
    // Browsers have locks in secure contexts only: over HTTPS and on this machine.
    if (!navigator.locks || !window.BroadcastChannel) return open();
    channel = new BroadcastChannel(NAME);
    channel.onmessage = ({ data }) => {
      if (data) handle(data);
      else if (latest) channel.postMessage({ ...latest, type: "connected" });
    };
    request = new AbortController();
    const { signal } = request;
    const hold = () =>
      new Promise((resolve) => {
        // The lock may have been granted just before `close`.
        if (signal.aborted) return resolve();
        release = resolve;
        open();
      });
    // Pages without an origin of their own, as in a sandbox, may not use locks.
    navigator.locks.request(NAME, { signal }, hold).catch(() => signal.aborted || open());
    // Requests the latest event, which may be newer than this page and was sent before it listened.
    channel.postMessage(null);
  };

  const listenIn = (milliseconds) => {
    close();
    timer = setTimeout(listen, milliseconds);
  };

  const open = () => {
    url.searchParams.set("lastEventId", version);
    const source = (events = new EventSource(url));
    for (const type of ["connected", "updated"]) {
      source.addEventListener(type, ({ data }) => {
        latest = { type, ...JSON.parse(data) };
        channel?.postMessage(latest);
        handle(latest);
      });
    }
    // An EventSource reconnects by itself, but not after an error response, such as a proxy's 502.
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, 1000);
    });
  };

  // Returns whether a version is newer than the page. An `updated` event of another run of the
  // server is, also if the clock was set back; other events may come from a page that has not
  // noticed the restart yet.
  const isNewer = (other, type) => {
    const [[start, count], [ownStart, ownCount]] = [other, version].map((v) => v.split("-").map(Number));
    return start === ownStart ? count > ownCount : type === "updated" || start > ownStart;
  };

  const handle = ({ type, version: current, reload: lastReload }) => {
    if (!isNewer(current, type)) return;
    if (isNewer(lastReload, type) || !replaceStyles(current)) reload(current);
    else version = current;
  };

  // The links that replace others, which stay until the new style sheet has loaded, so that the
  // page always has its styles.
  const replacements = new Map();

  // Loads the style sheets of the page again. Returns false if it has none of these servers.
  const replaceStyles = (current) => {
    const isOurs = ({ href }) => [location.origin, url.origin].some((origin) => href.startsWith(`${origin}/`));
    const links = [...document.querySelectorAll("link[rel~=stylesheet i][href]")];
    const olds = links.filter((link) => isOurs(link) && !replacements.has(link));
    for (const old of olds) {
      const link = old.cloneNode();
      const address = new URL(old.href);
      address.searchParams.set("__hotreload", current);
      link.href = address;
      link.addEventListener("load", () => removeReplaced(link), { once: true });
      link.addEventListener("error", () => (link.remove(), replacements.delete(old)), { once: true });
      replacements.set(old, link);
      old.after(link);
    }
    return olds.length > 0;
  };

  // Removes the links that this one replaces, directly or after another change.
  const removeReplaced = (link) => {
    for (const [old, by] of replacements) {
      if (by !== link) continue;
      replacements.delete(old);
      removeReplaced(old);
      old.remove();
    }
  };

  const reload = (current) => {
    // A cache that ignores `no-store` may serve this script with an old version each time. The page
    // is reloaded at most once for each new version, so that it does not reload for ever.
    try {
      const key = "__hotreload " + location.href;
      if (sessionStorage.getItem(key) === current) return;
      sessionStorage.setItem(key, current);
    } catch {
      // Storage is not available.
    }
    listenIn(PATIENCE);
    location.reload();
  };

  // The page may stay, if the user cancels or the link is a download. Then the stream is reopened.
  addEventListener("beforeunload", () => listenIn(PATIENCE));
  addEventListener("pagehide", close);
  addEventListener("pageshow", ({ persisted }) => persisted && listen());

  // No change before `listen` is missed, since the URL contains the version that was loaded.
  if (document.readyState === "complete") listen();
  else {
    listenIn(PATIENCE);
    addEventListener("load", listen, { once: true });
  }
})();
