// Reloads the page when something has changed since this script was loaded.
(() => {
  // Relative to this script. In a module there is no `currentScript`.
  const base = document.currentScript?.src ?? location.origin;
  const url = new URL("__hotreload?lastEventId={version}", base);
  // How long a page that was about to go, or to finish loading, is waited for.
  const PATIENCE = 5000;
  let events, timer;

  // Browsers open few connections to a server, often six for all pages together. So a stream must not
  // hold one that its own page waits for: it is opened last, and closed before the page goes.
  const close = () => {
    clearTimeout(timer);
    events?.close();
  };

  const listen = () => {
    close();
    events = new EventSource(url);
    events.addEventListener("updated", reload);
    // An EventSource reconnects by itself, unless the response was an error: a proxy's 502, say.
    events.addEventListener("error", () => {
      if (events.readyState === EventSource.CLOSED) listenIn(1000);
    });
  };

  const listenIn = (milliseconds) => {
    close();
    timer = setTimeout(listen, milliseconds);
  };

  const reload = ({ lastEventId }) => {
    // From a cache that keeps what it should not, this script comes with an old version each time.
    // So a page is reloaded once for each new one, or that would go on for ever.
    try {
      const key = "__hotreload " + location.href;
      if (sessionStorage.getItem(key) === lastEventId) return;
      sessionStorage.setItem(key, lastEventId);
    } catch {
      // No storage here.
    }
    listenIn(PATIENCE);
    location.reload();
  };

  // The page may stay nevertheless: the user cancels, or the link is a download.
  addEventListener("beforeunload", () => listenIn(PATIENCE));
  addEventListener("pagehide", close);
  addEventListener("pageshow", ({ persisted }) => persisted && listen());

  // No change is missed until then: the URL has the version that was loaded.
  if (document.readyState === "complete") listen();
  else {
    listenIn(PATIENCE);
    addEventListener("load", listen, { once: true });
  }
})();
