// Reloads the page when something has changed since this script was loaded.
(() => {
  // Next to this script, wherever that is; a module does not know where.
  const base = document.currentScript?.src ?? location.origin;
  const url = new URL("__hotreload?lastEventId={version}", base);

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
    location.reload();
  };

  const listen = () => {
    const events = new EventSource(url);
    events.addEventListener("updated", reload);
    // An EventSource comes back by itself, unless it got an answer: a proxy's 502, say.
    events.addEventListener("error", () => {
      if (events.readyState === EventSource.CLOSED) setTimeout(listen, 1000);
    });
  };
  listen();
})();
