//! A plain handler, polled once for everybody, as a stream.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use http::Method;
use smol::Timer;
use smol::future::FutureExt as _;
use smol::lock::Mutex as AsyncMutex;
use sse_proto::Event;

use crate::http::{Response, busy};
use crate::notifier::Notifier;
use crate::server::LONGEST;
use crate::{End, Frame, Request, not_allowed};

/// How a handler is polled.
#[derive(Clone, Copy, Debug)]
pub struct PolledConfig {
    /// How long after the first client came the handler is asked for the first time. Default: 0.
    pub initial: Duration,
    /// How long between two times. Default: 1 s.
    pub interval: Duration,
    /// Whether a body that is what it was is sent again. Default: no.
    pub repeat_unchanged: bool,
    /// One more stream is answered with 503. Default: 1000.
    pub max_streams: usize,
}

impl Default for PolledConfig {
    fn default() -> Self {
        Self {
            initial: Duration::ZERO,
            interval: Duration::from_secs(1),
            repeat_unchanged: false,
            max_streams: 1000,
        }
    }
}

type Source = dyn Fn() -> Pin<Box<dyn Future<Output = Result<Response, End>> + Send>> + Send + Sync;

/// Turns a plain handler into one that also streams: with `?stream=true`, exactly that, clients get
/// its body as an event, again and again; without, they get the response.
///
/// However many clients there are, the handler is asked once an interval, and while there is none,
/// not at all. Each new client gets the newest body at once; a slow one skips to it.
///
/// ```
/// use sse_smol_server::{End, Polled, PolledConfig, Request, text};
///
/// let load = Polled::new(PolledConfig::default(), || async {
///     Ok(text(http::StatusCode::OK, "0.7"))
/// });
/// async fn handler(load: &Polled, request: Request) -> Result<(), End> {
///     load.serve(request).await
/// }
/// ```
pub struct Polled {
    config: PolledConfig,
    source: Box<Source>,
    state: Mutex<State>,
    wake: Notifier,
    /// Whichever client's task holds this does the polling for all.
    poller: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct State {
    streams: usize,
    /// When the handler is to be asked next; `None` before the first client.
    next: Option<Instant>,
    latest: Option<Frame>,
    /// Counts the bodies that were sent.
    version: u64,
}

impl Polled {
    /// A source that polls `source`.
    pub fn new<S, F>(config: PolledConfig, source: S) -> Self
    where
        S: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response, End>> + Send + 'static,
    {
        let config = PolledConfig {
            initial: config.initial.min(LONGEST),
            interval: config.interval.min(LONGEST),
            ..config
        };
        Self {
            config,
            source: Box::new(move || Box::pin(source())),
            state: Mutex::default(),
            wake: Notifier::default(),
            poller: AsyncMutex::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while this lock is held")
    }

    /// Answers a request.
    ///
    /// # Errors
    ///
    /// An [`End`] if the peer is gone, or the source fails outside of a stream.
    pub async fn serve(&self, request: Request) -> Result<(), End> {
        let mut pairs = request.query().unwrap_or_default().split('&');
        if !pairs.any(|pair| pair == "stream=true") {
            if request.method() != Method::GET && request.method() != Method::HEAD {
                return request.respond(not_allowed("GET, HEAD")).await;
            }
            let response = (self.source)().await?;
            return request.respond(response).await;
        }
        let Some(_place) = self.place() else {
            let most = self.config.max_streams;
            let line = format!("No stream is free: there may be {most} of this source.");
            return request.respond(busy(&line)).await;
        };
        let mut stream = request.open().await?;
        let mut seen = 0;
        loop {
            let woken = self.wake.listen();
            let newest = {
                let state = self.state();
                (state.version > seen).then(|| (state.version, state.latest.clone()))
            };
            if let Some((version, latest)) = newest {
                seen = version;
                stream.send_all(latest).await?;
            } else {
                woken.or(self.poll_for_all()).await;
            }
        }
    }

    /// A place among the streams, if there is one.
    fn place(&self) -> Option<Place<'_>> {
        let mut state = self.state();
        if state.streams == self.config.max_streams {
            return None;
        }
        state.streams += 1;
        if state.streams == 1 {
            // What was seen before everybody left is old.
            state.next = Some(Instant::now() + self.config.initial);
            state.latest = None;
        }
        Some(Place(self))
    }

    /// Polls the source, from when it is this task's turn to do so until it is dropped.
    async fn poll_for_all(&self) {
        let _turn = self.poller.lock().await;
        let next = self.state().next.unwrap_or_else(Instant::now);
        Timer::at(next).await;
        let polled = (self.source)().await;
        let frame = match &polled {
            Ok(response) if response.status().is_success() => {
                let body = String::from_utf8_lossy(response.body());
                Some(Frame::from(Event::new(&*body)))
            }
            Ok(response) => {
                log::warn!("a polled source answered {}", response.status());
                None
            }
            Err(end) => {
                log::warn!("a polled source: {end}");
                None
            }
        };
        let is_new = {
            let mut state = self.state();
            state.next = Some((next + self.config.interval).max(Instant::now()));
            let same = |frame: &Frame| {
                state.latest.as_ref().is_some_and(|latest| latest.encoded() == frame.encoded())
            };
            let new = frame.filter(|frame| self.config.repeat_unchanged || !same(frame));
            let is_new = new.is_some();
            if is_new {
                state.latest = new;
                state.version += 1;
            }
            is_new
        };
        if is_new {
            self.wake.notify();
        }
    }
}

/// A place among the streams; free again when this is dropped.
struct Place<'p>(&'p Polled);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state().streams -= 1;
    }
}

impl fmt::Debug for Polled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polled").field("config", &self.config).finish_non_exhaustive()
    }
}
