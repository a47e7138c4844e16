//! `/__hotreload`: a stream with an event for each change of the watched files. `/__hotreload.js`:
//! the script for pages that follows the stream, and reloads them.

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

/// The number of changes of the watched files since the start.
#[derive(Debug)]
struct Changes(Mutex<State>);

#[derive(Debug)]
struct State {
    count: u64,
    /// A channel without messages. It is replaced at the next change, which closes it and so wakes
    /// all streams that wait for that.
    next: (Sender<Infallible>, Receiver<Infallible>),
}

impl Changes {
    fn new() -> Self {
        Self(Mutex::new(State { count: 0, next: channel::bounded(1) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> u64 {
        self.state().count
    }

    /// Counts a change, and wakes the streams.
    fn add(&self) {
        let mut state = self.state();
        state.count += 1;
        let passed = mem::replace(&mut state.next, channel::bounded(1));
        drop(state);
        // Wakes tasks, so the lock is released first.
        drop(passed);
    }

    /// Waits until the number of changes differs from `seen`, and returns it.
    async fn after(&self, seen: u64) -> u64 {
        loop {
            let next = {
                let state = self.state();
                if state.count != seen {
                    return state.count;
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
            shared.add();
        })?;
        Ok(Self { start, changes, drain })
    }

    /// Serves the script, with the current version in it.
    pub(super) async fn script(&self, mut request: Request) -> Result<(), Error> {
        const SCRIPT: &str = include_str!("../../../../web/hotreload.js");
        let no_store = HeaderValue::from_static("no-store");
        request.response_headers_mut().insert(CACHE_CONTROL, no_store);
        let script = SCRIPT.replace("{version}", &self.version(self.changes.count()));
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

        let mut sent = self.changes.count();
        let version = self.version(sent);
        if seen.is_empty() || seen == version {
            stream.send_all([retry(), event(CONNECTED, &version, true)]).await?;
        } else {
            // Only `updated` has the ID, so that a client that does not get it reconnects with its
            // old ID.
            let connected = event(CONNECTED, &version, false);
            stream.send_all([retry(), connected, event(UPDATED, &version, true)]).await?;
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
            stream.send(event(UPDATED, &self.version(sent), true)).await?;
        }
    }

    fn version(&self, changes: u64) -> String {
        format!("{}-{changes}", self.start)
    }
}

fn event(event_type: EventType<'_>, version: &str, with_id: bool) -> Frame {
    let data = serde_json::json!({ "version": version }).to_string();
    let event = Event::new(&data).with_type(event_type);
    match EventId::new(version) {
        Ok(id) if with_id => event.with_id(id).into(),
        _ => event.into(),
    }
}
