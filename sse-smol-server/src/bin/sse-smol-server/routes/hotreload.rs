//! `/__hotreload`: a stream with an event for each change of the watched files. `/__hotreload.js`:
//! the script for pages that follows the stream, and reloads them or their style sheets.

use std::convert::Infallible;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use http::header::{CACHE_CONTROL, HeaderValue};
use smol::channel::{self, Receiver, Sender};
use smol::future::FutureExt as _;
use sse_proto::{Event, EventId, EventType};
use sse_smol_server::{Drain, Error, Frame, Request};

use super::reply::show;
use crate::args::Args;
use crate::watch::watch;

const CONNECTED: EventType<'static> = EventType::from_static("connected");
const UPDATED: EventType<'static> = EventType::from_static("updated");

/// The reconnection time. It is short, so that pages are reloaded as soon as a
/// restarted server is back.
const RETRY: Duration = Duration::from_millis(25);

/// The routes for live reload, and the version of the watched files.
#[derive(Debug)]
pub(super) struct HotReload {
    /// The start time of the server in microseconds. It is part of each version, so that a restart
    /// of the server counts as a change.
    start: u128,
    changes: Arc<Changes>,
    drain: Drain,
}

/// The changes of the watched files since the start.
#[derive(Debug)]
struct Changes(Mutex<State>);

/// The numbers of changes since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    all: u64,
    /// The number of changes up to the last one for which pages have to be reloaded. After it, only
    /// style sheets have changed.
    to_reload: u64,
}

#[derive(Debug)]
struct State {
    counts: Counts,
    /// A channel without messages. It is replaced at the next change, which closes it and so wakes
    /// all streams that wait for that.
    next: (Sender<Infallible>, Receiver<Infallible>),
}

impl Changes {
    fn new() -> Self {
        Self(Mutex::new(State { counts: Counts::default(), next: channel::bounded(1) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Counts a change, and wakes the streams.
    fn add(&self, are_styles: bool) {
        let mut state = self.state();
        state.counts.all += 1;
        if !are_styles {
            state.counts.to_reload = state.counts.all;
        }
        let passed = mem::replace(&mut state.next, channel::bounded(1));
        drop(state);
        // Wakes tasks, so the lock is released first.
        drop(passed);
    }

    /// Waits until the numbers of changes differ from `seen`, and returns them.
    async fn after(&self, seen: Counts) -> Counts {
        loop {
            let next = {
                let state = self.state();
                if state.counts != seen {
                    return state.counts;
                }
                state.next.1.clone()
            };
            // An error means that the channel is closed: there is a change.
            let _ = next.recv().await;
        }
    }
}

impl HotReload {
    pub(super) fn new(args: &Args, drain: Drain) -> Result<Self, String> {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let changes = Arc::new(Changes::new());
        let shared = Arc::clone(&changes);
        watch(args.watch.clone(), &args.ignore, move |changes| {
            log::info!("files changed: {changes}");
            shared.add(changes.are_styles());
        })?;
        Ok(Self { start, changes, drain })
    }

    /// Serves the script, with the current version in it.
    pub(super) async fn script(&self, mut request: Request) -> Result<(), Error> {
        const SCRIPT: &str = include_str!("../../../../web/hotreload.js");
        let no_store = HeaderValue::from_static("no-store");
        request.response_headers_mut().insert(CACHE_CONTROL, no_store);
        let script = SCRIPT.replace("{version}", &self.version(self.changes.counts().all));
        show(request, "text/javascript; charset=utf-8", script.into()).await
    }

    /// Serves the stream. A page of another version gets `updated` at once.
    pub(super) async fn serve(&self, request: Request) -> Result<(), Error> {
        let seen = match request.last_event_id() {
            Ok(seen) => seen,
            Err(error) => return request.respond(error.response()).await,
        };
        request.allow(&[Method::GET])?;
        let mut stream = request.open().await?;
        let retry = || Frame::from(Event::without_data().with_retry(RETRY));

        let mut sent = self.changes.counts();
        if seen.is_empty() || seen == self.version(sent.all) {
            stream.send_all([retry(), self.event(CONNECTED, sent, true)]).await?;
        } else {
            // Only `updated` has the id, so that a client that does not get it reconnects with its
            // old id.
            let connected = self.event(CONNECTED, sent, false);
            stream.send_all([retry(), connected, self.event(UPDATED, sent, true)]).await?;
        }
        loop {
            let change = async { Some(self.changes.after(sent).await) };
            let drained = async {
                self.drain.begun().await;
                None
            };
            let Some(changes) = drained.or(change).await else {
                // The server would close these streams one after another, so that clients do not
                // all reconnect at once. They end at once instead: pages should reconnect together,
                // and a restart waits for this server to exit.
                stream.send(retry()).await?;
                return Err(Error::Drained);
            };
            sent = changes;
            stream.send(self.event(UPDATED, sent, true)).await?;
        }
    }

    fn version(&self, changes: u64) -> String {
        format!("{}-{changes}", self.start)
    }

    /// Returns an event with the current version. Pages older than `reload` in its data have to be
    /// reloaded; for others, new style sheets are enough.
    fn event(&self, event_type: EventType<'_>, counts: Counts, with_id: bool) -> Frame {
        let version = self.version(counts.all);
        let reload = self.version(counts.to_reload);
        let data = serde_json::json!({ "version": version, "reload": reload }).to_string();
        let event = Event::new(&data).with_type(event_type);
        match EventId::new(&version) {
            Ok(id) if with_id => event.with_id(id).into(),
            _ => event.into(),
        }
    }
}
