//! A plain handler as a source of event streams, polled once for all of them.

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

use crate::config::LONGEST;
use crate::http1::{Response, busy};
use crate::notifier::Notifier;
use crate::setters::setters;
use crate::{CloseReason, Error, Frame, Request};

/// The schedule and the limit of a [`Polled`] source.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PolledConfig {
    /// The delay from the first stream's start to the first poll. Default: 0.
    pub initial: Duration,
    /// The time between two polls. Default: 1 s.
    pub interval: Duration,
    /// Whether a body that equals the one before is sent again. Default: false.
    pub repeat_unchanged: bool,
    /// The maximum number of streams. Further ones are answered with 503. Default: 1000.
    pub max_streams: usize,
}

setters!(PolledConfig {
    with_initial => initial: Duration,
    with_interval => interval: Duration,
    with_repeat_unchanged => repeat_unchanged: bool,
    with_max_streams => max_streams: usize,
});

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

type Source =
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>> + Send + Sync;

type Matcher = dyn Fn(&Request) -> bool + Send + Sync;

/// A plain handler whose responses can also be followed as a stream.
///
/// Some requests get an event stream with the body of each successful response as an event: those
/// with `stream=true` in their query, in exactly this form, or those that the caller
/// [selects](Self::stream_if). Other requests call the handler and get its response.
///
/// For all streams together the handler is called once per interval, and not at all while there are
/// none. A new stream starts with the newest body; a slow one skips to it.
///
/// ```
/// use sse_smol_server::http;
/// use sse_smol_server::{Error, Polled, PolledConfig, Request, text};
///
/// let load = Polled::new(PolledConfig::default(), || async {
///     Ok(text(http::StatusCode::OK, "0.7"))
/// });
/// async fn handler(load: &Polled, request: Request) -> Result<(), Error> {
///     load.serve(request).await
/// }
/// ```
pub struct Polled {
    config: PolledConfig,
    source: Box<Source>,
    /// Selects the requests that get a stream. `None` stands for `stream=true`.
    streams: Option<Box<Matcher>>,
    state: Mutex<State>,
    wake: Notifier,
    /// Held by the task that polls the source for all streams.
    poller: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct State {
    streams: usize,
    /// The time of the next poll. `None` before the first stream.
    next: Option<Instant>,
    latest: Option<Frame>,
    /// The number of bodies that have been handed to the streams.
    version: u64,
}

impl Polled {
    /// Creates a source that polls `source`.
    pub fn new<S, F>(config: PolledConfig, source: S) -> Self
    where
        S: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response, Error>> + Send + 'static,
    {
        let config = PolledConfig {
            initial: config.initial.min(LONGEST),
            interval: config.interval.min(LONGEST),
            ..config
        };
        Self {
            config,
            source: Box::new(move || Box::pin(source())),
            streams: None,
            state: Mutex::default(),
            wake: Notifier::default(),
            poller: AsyncMutex::new(()),
        }
    }

    /// Selects the requests that get a stream by anything that a request contains, instead of by
    /// `stream=true`.
    ///
    /// A selected request gets a stream for any method. Of the others, only `GET` and `HEAD`
    /// are allowed. If the selection depends on `Accept`, responses should name that in `Vary`.
    ///
    /// ```
    /// use sse_smol_server::http::{self, Request as HttpRequest, StatusCode};
    /// use sse_smol_server::testing::TestServer;
    /// use sse_smol_server::{Polled, PolledConfig, text};
    /// use std::sync::Arc;
    ///
    /// let load = Polled::new(PolledConfig::default(), || async {
    ///     Ok(text(StatusCode::OK, "0.7"))
    /// });
    /// let load = Arc::new(load.stream_if(|request| {
    ///     let types = ["text/plain", "text/event-stream"];
    ///     request.preferred(&types) == Some("text/event-stream")
    /// }));
    ///
    /// let server = TestServer::new(move |request| {
    ///     let load = Arc::clone(&load);
    ///     async move { load.serve(request).await }
    /// });
    /// smol::block_on(async {
    ///     let request = HttpRequest::get("/").header("accept", "text/event-stream");
    ///     let mut answer = server.send(request.body("")?).await;
    ///     assert_eq!(answer.event().await.unwrap().data(), "0.7");
    ///     let answer = server.get("/?stream=true").await;
    ///     assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    ///     Ok::<(), http::Error>(())
    /// })?;
    /// # Ok::<(), http::Error>(())
    /// ```
    #[must_use]
    pub fn stream_if(self, select: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        Self { streams: Some(Box::new(select)), ..self }
    }

    /// Returns whether a request gets a stream.
    fn streams(&self, request: &Request) -> bool {
        if let Some(select) = &self.streams {
            return select(request);
        }
        let mut pairs = request.query().unwrap_or_default().split('&');
        let is_read = *request.method() == Method::GET || *request.method() == Method::HEAD;
        is_read && pairs.any(|pair| pair == "stream=true")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while this lock is held")
    }

    /// Answers a request with a stream or a response.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if the peer is gone, or if the source fails for a request without a
    /// stream.
    pub async fn serve(&self, request: Request) -> Result<(), Error> {
        if !self.streams(&request) {
            request.allow(&[Method::GET])?;
            let response = (self.source)().await?;
            return request.respond(response).await;
        }
        let Some(_slot) = self.stream_slot() else {
            let most = self.config.max_streams;
            let line = format!("This source has {most} streams, its maximum; try again later.");
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

    /// Counts one more stream, unless there are [`PolledConfig::max_streams`].
    fn stream_slot(&self) -> Option<StreamSlot<'_>> {
        let mut state = self.state();
        if state.streams == self.config.max_streams {
            return None;
        }
        state.streams += 1;
        if state.streams == 1 {
            // The body from before the last stream ended is outdated.
            state.next = Some(Instant::now() + self.config.initial);
            state.latest = None;
        }
        Some(StreamSlot(self))
    }

    /// Waits until no other task polls and the next poll is due, polls the source once, and wakes
    /// the streams if there is a body to send.
    async fn poll_for_all(&self) {
        let _turn = self.poller.lock().await;
        let next = self.state().next.unwrap_or_else(Instant::now);
        Timer::at(next).await;
        let polled = (self.source)().await;
        let frame = match polled {
            Ok(response) if response.status().is_success() => {
                let body = String::from_utf8_lossy(response.body());
                Some(Frame::from(Event::new(&*body)))
            }
            Ok(response) => {
                log::warn!("a polled source returned {} instead of a body", response.status());
                None
            }
            Err(error) => {
                log::warn!("a polled source returned no response: {}", CloseReason::from(error));
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

/// One of the counted streams. Dropping it frees the slot.
struct StreamSlot<'p>(&'p Polled);

impl Drop for StreamSlot<'_> {
    fn drop(&mut self) {
        self.0.state().streams -= 1;
    }
}

impl fmt::Debug for Polled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polled").field("config", &self.config).finish_non_exhaustive()
    }
}
