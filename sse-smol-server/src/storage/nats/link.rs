//! The connection to the engine, and requests over it.
//!
//! Replies come to one subscription, and are passed on by the number at the end of their subject.
//! The client's own requests would leave an entry for each reply that never comes, and would not
//! fail when the connection is lost. Messages that a consumer delivers have subjects of their own,
//! so each request for them has its own subscription.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, iter};

use async_nats::{
    Client, ConnectError, ConnectErrorKind, Event, HeaderMap, Message, StatusCode, Subscriber,
    rustls,
};
use bytes::Bytes;
use smol::future::poll_once;
use smol::stream::StreamExt as _;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::config::NatsConfig;
use super::failure::Failure;
use super::message::Stored;
use crate::storage::{StorageError, StorageErrorKind};

/// The maximum time of one attempt of a request.
const ATTEMPT: Duration = Duration::from_secs(2);

/// The time between two attempts to connect for the first time.
const RETRY: Duration = Duration::from_millis(200);

/// The maximum number of commands that wait for the connection.
const COMMANDS: usize = 1024;

/// The maximum number of replies, or of messages of one consumer, that wait in the client. More
/// would be dropped, as if they had been lost. Fewer are requested at the same time.
const REPLIES: usize = 4096;

/// The state of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) is_open: bool,
    /// The number of times the connection was lost.
    pub(super) losses: u64,
    /// The number of times it was established again.
    pub(super) reconnects: u64,
}

/// Where replies go, by the number of the request.
type Receivers = Arc<Mutex<HashMap<u64, oneshot::Sender<Message>>>>;

/// A connection, which is opened again when it is lost.
pub(super) struct Link {
    client: Client,
    /// The subject of replies without the number.
    inbox: String,
    receivers: Receivers,
    numbers: AtomicU64,
    state: watch::Receiver<State>,
}

impl Link {
    /// Connects. Retries until the deadline.
    pub(super) async fn open(config: &NatsConfig, until: Instant) -> Result<Self, StorageError> {
        let unavailable = |why: &str| {
            let why = format!("NATS: cannot connect to {}: {why}", config.shown());
            StorageError::new(StorageErrorKind::Unavailable, why)
        };
        let addresses = config.addresses()?;
        let (sender, state) = watch::channel(State { is_open: true, ..State::default() });
        let sender = Arc::new(sender);
        let mut logged = String::new();
        let client = loop {
            let (sender, shown) = (Arc::clone(&sender), config.shown());
            let options = config
                .options()?
                .name("sse-smol-server")
                .connection_timeout(ATTEMPT)
                // A lost connection is noticed after three intervals without an answer.
                .ping_interval(Duration::from_secs(3))
                .client_capacity(COMMANDS)
                .subscription_capacity(REPLIES)
                .reconnect_delay_callback(|attempts| match attempts {
                    0 | 1 => Duration::ZERO,
                    _ => Duration::from_millis(100 << attempts.min(5)).min(ATTEMPT),
                })
                .event_callback(move |event| {
                    log_event(&event, &shown);
                    note(&sender, &event);
                    async {}
                });
            let error = match timeout_at(until, options.connect(addresses.clone())).await {
                Ok(Ok(client)) => break client,
                // Another attempt would fail, too.
                Ok(Err(error)) if is_refused(&error) => {
                    return Err(unavailable(&format!("{}: {error}", config.shown_access())));
                }
                Ok(Err(error)) => match tls_failure(&error) {
                    Some(failure) => return Err(unavailable(&failure)),
                    None => error.to_string(),
                },
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() + RETRY >= until {
                return Err(unavailable(&error));
            }
            if logged != error {
                log::warn!("{}; trying again", unavailable(&error));
                logged = error;
            }
            tokio::time::sleep(RETRY).await;
        };
        let inbox = client.new_inbox();
        let subscribed = client.subscribe(format!("{inbox}.*")).await;
        let replies = subscribed.map_err(|error| unavailable(&error.to_string()))?;
        let receivers = Receivers::default();
        tokio::spawn(pass_on(replies, Arc::clone(&receivers)));
        Ok(Self { client, inbox, receivers, numbers: AtomicU64::new(0), state })
    }

    pub(super) fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Returns the identity of the engine's process, which changes when the engine is restarted.
    /// Returns `None` if the server is not the engine, but connected to it.
    ///
    /// The client updates it before it returns to the runtime, which has a single thread. So it is
    /// always the one of the open connection.
    pub(super) fn process(&self) -> Option<String> {
        let server = self.client.server_info();
        server.jetstream.then_some(server.server_id)
    }

    /// Returns the size in bytes of the largest message that the server accepts.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// Waits until there is a connection.
    pub(super) async fn ready(&self, until: Instant) -> Result<(), Failure> {
        let mut state = self.state.clone();
        match timeout_at(until, state.wait_for(|state| state.is_open)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Failure::Lost("there is no connection".to_owned())),
        }
    }

    /// Sends a request, and waits for the reply.
    pub(super) async fn request(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        until: Instant,
    ) -> Result<Message, Failure> {
        let until = until.min(Instant::now() + ATTEMPT);
        self.ready(until).await?;
        let mut connection = self.connection();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.receivers).insert(number, sender);
        let _entry = Entry { number, receivers: &self.receivers };
        let reply = format!("{}.{number}", self.inbox);
        self.send(subject, reply, headers, payload, until).await?;
        connection.receive(async { receiver.await.ok() }, until).await
    }

    /// Sends a request for messages that a consumer delivers.
    pub(super) async fn request_messages(
        &self,
        subject: &str,
        payload: Bytes,
        until: Instant,
    ) -> Result<Deliveries, Failure> {
        self.ready(until).await?;
        let connection = self.connection();
        let inbox = self.client.new_inbox();
        let subscribed = timeout_at(until, self.client.subscribe(inbox.clone())).await;
        let messages = subscribed.map_err(|_| full())?;
        let messages = messages.map_err(|error| Failure::Lost(error.to_string()))?;
        self.send(subject, inbox, None, payload, until).await?;
        Ok(Deliveries { messages, connection })
    }

    async fn send(
        &self,
        subject: &str,
        reply: String,
        headers: Option<HeaderMap>,
        payload: Bytes,
        until: Instant,
    ) -> Result<(), Failure> {
        let (client, subject) = (&self.client, subject.to_owned());
        let sent = async {
            match headers {
                Some(headers) => {
                    client.publish_with_reply_and_headers(subject, reply, headers, payload).await
                }
                None => client.publish_with_reply(subject, reply, payload).await,
            }
        };
        let sent = timeout_at(until, sent).await.map_err(|_| full())?;
        sent.map_err(|error| Failure::Lost(error.to_string()))
    }

    fn connection(&self) -> Connection {
        Connection { losses: self.state().losses, state: self.state.clone() }
    }
}

/// Returns whether the server has refused the credentials.
fn is_refused(error: &ConnectError) -> bool {
    use ConnectErrorKind::{Authentication, AuthorizationViolation};
    matches!(error.kind(), Authentication | AuthorizationViolation)
}

/// Returns the reason if the error is that a certificate or a key, of either side, is refused or
/// cannot be used.
fn tls_failure(error: &ConnectError) -> Option<String> {
    if error.kind() == ConnectErrorKind::Tls {
        return Some(error.to_string());
    }
    iter::successors(error.source(), |cause| (*cause).source()).find_map(|cause| {
        let inner = cause.downcast_ref::<io::Error>()?.get_ref()?;
        Some(format!("TLS: {}", inner.downcast_ref::<rustls::Error>()?))
    })
}

fn full() -> Failure {
    Failure::Lost("the connection takes no data".to_owned())
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// The connection on which a request was sent.
#[derive(Debug)]
struct Connection {
    losses: u64,
    state: watch::Receiver<State>,
}

impl Connection {
    /// Waits for a message, unless the connection is lost.
    async fn receive(
        &mut self,
        message: impl Future<Output = Option<Message>>,
        until: Instant,
    ) -> Result<Message, Failure> {
        let losses = self.losses;
        let message = tokio::select! {
            // In this order, so that no message that has arrived is missed.
            biased;
            message = message => message,
            _ = self.state.wait_for(|state| state.losses != losses) => {
                return Err(Failure::Lost("the connection was lost".to_owned()));
            }
            () = sleep_until(until) => {
                return Err(Failure::Lost("no answer in time".to_owned()));
            }
        };
        check(message)
    }
}

/// Returns a message that has arrived, or an error if there is none or the request had no receiver.
fn check(message: Option<Message>) -> Result<Message, Failure> {
    match message {
        Some(message)
            if message.status == Some(StatusCode::NO_RESPONDERS)
                && !Stored::is_stored(&message) =>
        {
            Err(Failure::Lost("the stream is not available".to_owned()))
        }
        Some(message) => Ok(message),
        None => Err(Failure::Lost("the connection is closed".to_owned())),
    }
}

/// The entry of a request that waits for a reply.
struct Entry<'l> {
    number: u64,
    receivers: &'l Receivers,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(self.receivers).remove(&self.number);
    }
}

/// The messages that a consumer delivers to a request.
#[derive(Debug)]
pub(super) struct Deliveries {
    messages: Subscriber,
    connection: Connection,
}

impl Deliveries {
    /// Waits for the next message.
    pub(super) async fn next(&mut self, until: Instant) -> Result<Message, Failure> {
        self.connection.receive(self.messages.next(), until).await
    }

    /// Returns the next message if it has arrived already. This takes less time than [`next`], which
    /// needs a timer.
    ///
    /// [`next`]: Self::next
    pub(super) async fn arrived(&mut self) -> Option<Result<Message, Failure>> {
        poll_once(self.messages.next()).await.map(check)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes replies on to the requests that wait for them.
async fn pass_on(mut replies: Subscriber, receivers: Receivers) {
    while let Some(message) = replies.next().await {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        let sender = number.and_then(|number: u64| lock(&receivers).remove(&number));
        if let Some(sender) = sender {
            // The request may have been given up.
            let _ = sender.send(message);
        }
    }
}

/// Updates the state of the connection after an event of the client.
fn note(state: &watch::Sender<State>, event: &Event) {
    match event {
        Event::Connected => state.send_modify(|state| {
            // The state is open from the start, so the first connection is not counted.
            state.reconnects += u64::from(!state.is_open);
            state.is_open = true;
        }),
        Event::Disconnected | Event::Closed => state.send_modify(|state| {
            state.is_open = false;
            state.losses += 1;
        }),
        _ => {}
    }
}

fn log_event(event: &Event, servers: &str) {
    match event {
        Event::Connected => log::info!("connected to NATS at {servers}"),
        Event::Disconnected => log::warn!("the connection to NATS at {servers} was lost"),
        Event::LameDuckMode => log::info!("the NATS server is about to stop"),
        Event::SlowConsumer(_) => log::warn!("replies of NATS were dropped: too many were waiting"),
        Event::ServerError(error) => log::warn!("NATS: {error}"),
        Event::ClientError(error) => log::debug!("NATS: {error}"),
        Event::Draining | Event::Closed => {}
    }
}
