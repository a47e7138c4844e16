// Reloads the page when watched files have changed since this script was loaded.
(() => {
  // Relative to this script, except in a module, where `currentScript` is null.
  const base = document.currentScript?.src ?? location.origin;
  const url = new URL("__hotreload?lastEventId={version}", base);
  // The time in milliseconds to wait for the page to unload or to finish loading.
  const PATIENCE = 5000;
  let events, timer;

  // Browsers open few connections to a server, often six for all pages together. The stream must
  // not hold one that its own page needs, so it is opened last, and closed before the page unloads.
  const close = () => {
    clearTimeout(timer);
    events?.close();
  };

  const listen = () => {
    close();
    events = new EventSource(url);
    events.addEventListener("updated", reload);
    // An EventSource reconnects by itself, but not after an error response, such as a proxy's 502.
    events.addEventListener("error", () => {
      if (events.readyState === EventSource.CLOSED) listenIn(1000);
    });
  };

  const listenIn = (milliseconds) => {
    close();
    timer = setTimeout(listen, milliseconds);
  };

  const reload = ({ lastEventId }) => {
    // A cache that ignores `no-store` may serve this script with an old version each time. The page
    // is reloaded at most once for each new version, so that it does not reload for ever.
    try {
      const key = "__hotreload " + location.href;
      if (sessionStorage.getItem(key) === lastEventId) return;
      sessionStorage.setItem(key, lastEventId);
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
