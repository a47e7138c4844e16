//! `/__hotreload`: tells pages that something they were made of has changed. `/__hotreload.js` is
//! the script for pages that listens to it, and reloads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use event_listener::Event as Wake;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use smol::future::FutureExt as _;
use sse_proto::{Event, EventId, EventType};
use sse_smol_server::{Drain, End, Frame, Request, text};

use super::query;
use crate::args::Args;
use crate::watch::watch;

const CONNECTED: EventType<'static> = EventType::from_static("connected");
const UPDATED: EventType<'static> = EventType::from_static("updated");

/// In milliseconds: a server that is back has its pages back before anyone could look at them.
const RETRY: u64 = 25;

/// Counts the changes.
#[derive(Debug)]
pub(super) struct HotReload {
    /// Sets the versions of this run apart from those of all others: to pages, a server that was
    /// started again is a change.
    start: u128,
    state: Arc<State>,
    drain: Drain,
}

#[derive(Debug)]
struct State {
    changes: AtomicU64,
    wake: Wake,
}

impl HotReload {
    pub(super) fn new(args: &Args, drain: Drain) -> Result<Self, String> {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let state = Arc::new(State { changes: AtomicU64::new(0), wake: Wake::new() });
        let shared = Arc::clone(&state);
        watch(args.watch.clone(), move || {
            log::info!("files changed");
            shared.changes.fetch_add(1, Ordering::SeqCst);
            shared.wake.notify(usize::MAX);
        })?;
        Ok(Self { start, state, drain })
    }

    /// The script, which has the version that the page is of.
    pub(super) async fn script(&self, mut request: Request) -> Result<(), End> {
        const SCRIPT: &str = include_str!("../../../../web/hotreload.js");
        let no_store = HeaderValue::from_static("no-store");
        request.response_headers_mut().insert(CACHE_CONTROL, no_store);
        let script = SCRIPT.replace("{version}", &self.version(self.changes()));
        super::show(request, "text/javascript; charset=utf-8", script.into()).await
    }

    /// The stream. A page that is not of the current version is told so at once.
    pub(super) async fn serve(&self, request: Request) -> Result<(), End> {
        let seen = match query::last_event_id(&request) {
            Ok(seen) => seen,
            Err(why) => return request.respond(text(StatusCode::BAD_REQUEST, &why)).await,
        };
        let mut stream = request.open().await?;
        let retry = || Frame::from(Event::without_data().with_retry(RETRY));

        let mut told = self.changes();
        let version = self.version(told);
        if seen.is_empty() || seen == version {
            stream.send_all([retry(), event(CONNECTED, &version, true)]).await?;
        } else {
            // The id comes with `updated`: a client that got no further asks with its old one again.
            let connected = event(CONNECTED, &version, false);
            stream.send_all([retry(), connected, event(UPDATED, &version, true)]).await?;
        }
        loop {
            let change = async { Some(self.after(told).await) };
            let drained = async {
                self.drain.begun().await;
                None
            };
            let Some(changes) = drained.or(change).await else {
                // Streams end one after the other so that not all come back at once. Here all shall,
                // and whoever starts the server anew waits for this one to be gone.
                stream.send(retry()).await?;
                return Err(End::Drained);
            };
            told = changes;
            stream.send(event(UPDATED, &self.version(told), true)).await?;
        }
    }

    fn changes(&self) -> u64 {
        self.state.changes.load(Ordering::SeqCst)
    }

    fn version(&self, changes: u64) -> String {
        format!("{}-{changes}", self.start)
    }

    /// Waits until there are other changes than were told.
    async fn after(&self, told: u64) -> u64 {
        loop {
            let listener = self.state.wake.listen();
            let changes = self.changes();
            if changes != told {
                return changes;
            }
            listener.await;
        }
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
