//! The load generator: subscribers and publishers of a server, all driven by one thread, so that it
//! takes little CPU time beside the server.

use std::net::SocketAddrV4;
use std::process;
use std::time::{Duration, Instant};

use servers::message::Message;
use servers::net::{Poller, set_nonblocking};

use crate::churn::{Goal, Until, churn};
use crate::clients::{Publisher, Subscriber};
use crate::peers::Peer;
use crate::process::cpu;

/// The read buffer size in bytes. Large enough for most of what a socket holds.
const BUFFER: usize = 1 << 20;

/// The time without progress after which a run fails.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum time of one poll.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// The maximum number of messages in flight at a given rate: a server that does not reach the rate
/// has no growing backlog, but the latency of this number of messages.
pub(crate) const IN_FLIGHT: u64 = 10;

/// The number of lazy subscribers to read from before publishers are served.
const LAZY_READS: usize = 4;

/// When the next message is published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// This number each second, with at most [`IN_FLIGHT`] messages in flight.
    PerSecond(f64),
    /// As soon as a publisher has its response, with at most this number of messages in flight, so
    /// that no server has to drop any.
    Window(u64),
    /// As soon as a publisher has its response, to a topic whose first subscriber has received all
    /// earlier messages.
    PerTopic,
}

/// The result of driving a load.
#[derive(Debug, Default)]
pub(crate) struct Driven {
    /// The number of published messages.
    pub(crate) published: u64,
    /// The number of deliveries to all subscribers.
    pub(crate) delivered: u64,
    /// The number of reads that these took.
    pub(crate) reads: u64,
    /// The time from the first publication to the last delivery.
    pub(crate) took: Duration,
    /// The number of publications per second.
    pub(crate) rate: f64,
    /// The CPU time of the load generator.
    pub(crate) generator_cpu: Duration,
    /// The latency of each delivery, with `Pace::PerSecond` only.
    pub(crate) latencies: Vec<Duration>,
    /// The time from each publication to its response.
    pub(crate) responses: Vec<Duration>,
    /// The delay of each publication behind its schedule.
    pub(crate) late: Vec<Duration>,
}

/// Connected subscribers and publishers of a server.
pub(crate) struct Load {
    poller: Poller,
    begun: Instant,
    buffer: Vec<u8>,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    /// The indices of publishers without a request in flight.
    idle: Vec<usize>,
    topics: u32,
    /// The number of subscribers of each topic.
    each: u64,
    /// The period in which lazy subscribers are read from, if there are any.
    lazy: Option<Duration>,
    /// Whether latencies are recorded.
    timed: bool,
    published: u64,
    delivered: u64,
    /// The number of messages published to each topic, and received by its first subscriber.
    sent: Vec<u64>,
    got: Vec<u64>,
}

impl Load {
    /// Connects `subscribers` subscribers to each topic, and the publishers.
    pub(crate) fn connect(
        peer: &Peer,
        to: SocketAddrV4,
        topics: u32,
        subscribers: u32,
        publishers: u32,
    ) -> Result<Self, String> {
        let poller = Poller::new().map_err(|error| error.to_string())?;
        let all = (topics * subscribers) as usize;
        let topic = |number: usize| u32::try_from(number).expect("few") % topics;
        let request = |number| get(&format!("{}t{}", peer.events, topic(number)));
        let kept = churn(to, request, Until::Head, Goal::Keep(all), TIMEOUT)?.kept;
        let mut load = Self {
            poller,
            begun: Instant::now(),
            buffer: vec![0; BUFFER],
            subscribers: Vec::new(),
            publishers: Vec::new(),
            idle: Vec::new(),
            topics,
            each: u64::from(subscribers),
            lazy: None,
            timed: true,
            published: 0,
            delivered: 0,
            sent: vec![0; topics as usize],
            got: vec![0; topics as usize],
        };
        for (number, socket) in kept.into_iter().enumerate() {
            set_nonblocking(&socket)
                .and_then(|()| load.poller.watch(&socket, number))
                .expect("epoll");
            load.subscribers.push(Subscriber::new(socket, topic(number)));
        }
        for number in 0..publishers {
            let publisher = Publisher::new(to, number, peer.publish, topics)?;
            load.idle.push(load.publishers.len());
            load.poller.watch(&publisher.socket, all + load.publishers.len()).expect("epoll");
            load.publishers.push(publisher);
        }
        Ok(load)
    }

    /// Sets the length of all further messages in bytes.
    pub(crate) fn set_message_len(&mut self, len: usize) {
        for publisher in &mut self.publishers {
            publisher.len = len;
        }
    }

    /// Makes all subscribers lazy, except the first of each topic: they are read from once per
    /// `period`, which takes little CPU time per message.
    pub(crate) fn make_subscribers_lazy(&mut self, period: Duration) {
        self.lazy = Some(period);
        for subscriber in self.subscribers.iter().skip(self.got.len()) {
            self.poller.forget(&subscriber.socket).expect("the socket is watched");
        }
    }

    /// Publishes for `time`, then waits until all messages have arrived.
    pub(crate) fn drive(&mut self, pace: Pace, time: Duration) -> Result<Driven, String> {
        self.timed = matches!(pace, Pace::PerSecond(_));
        let mut driven = Driven::default();
        let (begin, cpu_before) = (Instant::now(), cpu(process::id()));
        let (mut progress, mut turns) = (begin, 0);
        loop {
            let now = Instant::now();
            let more = now.duration_since(begin) < time;
            if !more && self.missing() == 0 && self.idle.len() == self.publishers.len() {
                break;
            }
            let mut wait = LONGEST_WAIT;
            if more {
                wait = wait.min(self.publish(pace, begin, &mut driven)?);
            }
            let before = driven.delivered;
            if let Some(period) = self.lazy {
                wait = self.read_lazy(period, begin, more, &mut turns, &mut driven)?.min(wait);
            }
            self.poll_once(wait, &mut driven)?;
            if driven.delivered != before || more {
                progress = now;
                driven.took = begin.elapsed();
            } else if now.duration_since(progress) > TIMEOUT {
                let responses = self.publishers.len() - self.idle.len();
                return Err(format!(
                    "{} deliveries and {responses} responses are missing",
                    self.missing()
                ));
            }
        }
        // Any further message would be a duplicate, which the order check reports.
        self.poll_once(Duration::from_millis(5), &mut driven)?;
        driven.generator_cpu = cpu(process::id()).saturating_sub(cpu_before);
        driven.rate = driven.published as f64 / time.as_secs_f64();
        Ok(driven)
    }

    /// Returns the number of outstanding deliveries.
    fn missing(&self) -> u64 {
        (self.published * self.each).saturating_sub(self.delivered)
    }

    /// Publishes due messages with idle publishers. Returns the time until the next one is due.
    fn publish(
        &mut self,
        pace: Pace,
        begin: Instant,
        driven: &mut Driven,
    ) -> Result<Duration, String> {
        while let Some(&publisher) = self.idle.last() {
            let turn = self.published % u64::from(self.topics);
            let mut topic = usize::try_from(turn).expect("few");
            let is_full = |most| self.missing() + self.each > most * self.each;
            match pace {
                Pace::PerSecond(rate) => {
                    let due = begin + Duration::from_secs_f64(driven.published as f64 / rate);
                    let now = Instant::now();
                    if due > now {
                        return Ok(due.duration_since(now));
                    }
                    if is_full(IN_FLIGHT) {
                        break;
                    }
                    driven.late.push(now.duration_since(due));
                }
                Pace::Window(most) if is_full(most) => break,
                Pace::Window(_) => {}
                Pace::PerTopic => {
                    let topics = self.sent.len();
                    let mut others = (topic..topics).chain(0..topic);
                    let Some(free) = others.find(|at| self.sent[*at] == self.got[*at]) else {
                        break;
                    };
                    topic = free;
                }
            }
            self.idle.pop();
            self.sent[topic] += 1;
            let topic = u32::try_from(topic).expect("few");
            self.publishers[publisher].publish(topic, self.begun.elapsed())?;
            self.published += 1;
            driven.published += 1;
        }
        Ok(LONGEST_WAIT)
    }

    /// Waits for sockets to be ready and reads from them.
    fn poll_once(&mut self, wait: Duration, driven: &mut Driven) -> Result<(), String> {
        self.poller.wait(wait).map_err(|error| error.to_string())?;
        for at in 0..self.poller.count() {
            let token = self.poller.ready(at).token;
            if let Some(publisher) = token.checked_sub(self.subscribers.len()) {
                if self.publishers[publisher].receive()? {
                    let requested = self.publishers[publisher].requested;
                    driven.responses.push(self.begun.elapsed().saturating_sub(requested));
                    self.idle.push(publisher);
                }
            } else {
                self.read(token, driven)?;
            }
        }
        Ok(())
    }

    /// Reads from the lazy subscribers that are due, a few per call, so that publishers never wait
    /// for all of them. Returns the time until the next one is due.
    fn read_lazy(
        &mut self,
        period: Duration,
        begin: Instant,
        more: bool,
        turns: &mut usize,
        driven: &mut Driven,
    ) -> Result<Duration, String> {
        let each = period.as_secs_f64() / self.subscribers.len() as f64;
        let due = |turn: usize| begin + Duration::from_secs_f64(each * turn as f64);
        for _ in 0..LAZY_READS {
            let until = due(*turns).saturating_duration_since(Instant::now());
            if until > Duration::ZERO && more {
                return Ok(until);
            }
            self.read(*turns % self.subscribers.len(), driven)?;
            *turns += 1;
        }
        Ok(Duration::ZERO)
    }

    fn read(&mut self, subscriber: usize, driven: &mut Driven) -> Result<(), String> {
        let (begun, timed) = (self.begun, self.timed);
        let mut count = 0;
        let mut now = None;
        let from = &mut self.subscribers[subscriber];
        let has_read = from.receive(&mut self.buffer, |Message { sent, .. }| {
            count += 1;
            if timed {
                let now = *now.get_or_insert_with(|| begun.elapsed());
                driven.latencies.push(now.saturating_sub(Duration::from_nanos(sent)));
            }
        })?;
        driven.reads += u64::from(has_read);
        if let Some(got) = self.got.get_mut(subscriber) {
            *got += count;
        }
        self.delivered += count;
        driven.delivered += count;
        Ok(())
    }
}

/// Returns a request for an event stream.
pub(crate) fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n").into()
}
