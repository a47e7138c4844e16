//! Subscribers and publishers of a server, driven by one thread, which costs so little that what is
//! measured is the server.

use std::net::SocketAddrV4;
use std::process;
use std::time::{Duration, Instant};

use servers::message::Message;
use servers::net::{Poller, do_not_wait};

use crate::churn::{Enough, Until, churn};
use crate::ends::{Publisher, Subscriber};
use crate::peers::Peer;
use crate::process::cpu;

/// As much as a socket may hold, so that a read mostly takes all.
const BUFFER: usize = 1 << 20;

/// How long nothing may happen while something is to.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long nothing is looked at but what is ready.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// How many lazy subscribers are read from before publishers are looked after.
const TURNS: usize = 4;

/// When there is a next message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many each second, whether or not the last has arrived.
    PerSecond(f64),
    /// As soon as a publisher has its answer, but with no more than so many on their way: what is
    /// sent is not to be more than a server is willing to hold.
    Window(u64),
    /// As soon as a publisher has its answer, but to a topic only when its first subscriber has got
    /// what was sent there before.
    Topicwise,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Driven {
    /// How many messages were published.
    pub(crate) published: u64,
    /// How many arrived, all told.
    pub(crate) delivered: u64,
    /// From the first publication to the last arrival.
    pub(crate) took: Duration,
    /// How many were published each second.
    pub(crate) rate: f64,
    /// The time on processors that driving took.
    pub(crate) own: Duration,
    /// From the publication of each message to each of its arrivals, if the pace was given.
    pub(crate) latencies: Vec<Duration>,
    /// How much later than they were to be messages were sent.
    pub(crate) late: Vec<Duration>,
}

/// Both ends of a server, connected.
pub(crate) struct Load {
    poller: Poller,
    begun: Instant,
    buffer: Vec<u8>,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    /// Those of them that have got an answer to all they sent.
    idle: Vec<usize>,
    topics: u32,
    /// How many subscribers each topic has.
    each: u64,
    /// How often subscribers are read from, if not as soon as there is something.
    lazy: Option<Duration>,
    /// Whether it matters how long each delivery took.
    timed: bool,
    published: u64,
    delivered: u64,
    /// How many were published to each topic, and how many of these its first subscriber has got.
    sent: Vec<u64>,
    got: Vec<u64>,
}

impl Load {
    /// Connects so many subscribers to each of so many topics, and publishers to all of them.
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
        let ask = |number| get(&format!("{}t{}", peer.events, topic(number)));
        let kept = churn(to, ask, Until::Head, Enough::Kept(all), PATIENCE)?.kept;
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
            do_not_wait(&socket).and_then(|()| load.poller.watch(&socket, number)).expect("epoll");
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

    /// Has subscribers, but the first of each topic, read from now on only so often: many messages at a
    /// time, which costs little.
    pub(crate) fn be_lazy(&mut self, period: Duration) {
        self.lazy = Some(period);
        for subscriber in self.subscribers.iter().skip(self.got.len()) {
            self.poller.forget(&subscriber.socket).expect("it is watched");
        }
    }

    /// Publishes for some time, and waits until all has arrived.
    pub(crate) fn drive(&mut self, pace: Pace, time: Duration) -> Result<Driven, String> {
        self.timed = matches!(pace, Pace::PerSecond(_));
        let mut driven = Driven::default();
        let (begin, own) = (Instant::now(), cpu(process::id()));
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
                wait = self.read_some(period, begin, more, &mut turns, &mut driven)?.min(wait);
            }
            self.turn(wait, &mut driven)?;
            if driven.delivered != before || more {
                progress = now;
                driven.took = begin.elapsed();
            } else if now.duration_since(progress) > PATIENCE {
                let answers = self.publishers.len() - self.idle.len();
                return Err(format!(
                    "{} deliveries and {answers} answers are missing",
                    self.missing()
                ));
            }
        }
        // Nothing is to come after that; what does is out of order.
        self.turn(Duration::from_millis(5), &mut driven)?;
        driven.own = cpu(process::id()).saturating_sub(own);
        driven.rate = driven.published as f64 / time.as_secs_f64();
        Ok(driven)
    }

    /// How many deliveries are on their way.
    fn missing(&self) -> u64 {
        (self.published * self.each).saturating_sub(self.delivered)
    }

    /// Publishes what is due, as far as publishers are idle. Gives how long it is until more is.
    fn publish(
        &mut self,
        pace: Pace,
        begin: Instant,
        driven: &mut Driven,
    ) -> Result<Duration, String> {
        while let Some(&publisher) = self.idle.last() {
            let turn = self.published % u64::from(self.topics);
            let mut topic = usize::try_from(turn).expect("few");
            match pace {
                Pace::PerSecond(rate) => {
                    let due = begin + Duration::from_secs_f64(driven.published as f64 / rate);
                    let now = Instant::now();
                    if due > now {
                        return Ok(due.duration_since(now));
                    }
                    driven.late.push(now.duration_since(due));
                }
                Pace::Window(most) if self.missing() + self.each > most * self.each => break,
                Pace::Window(_) => {}
                Pace::Topicwise => {
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

    /// Waits for whoever is ready, and reads.
    fn turn(&mut self, wait: Duration, driven: &mut Driven) -> Result<(), String> {
        self.poller.wait(wait).map_err(|error| error.to_string())?;
        for at in 0..self.poller.count() {
            let token = self.poller.ready(at).token;
            if let Some(publisher) = token.checked_sub(self.subscribers.len()) {
                if self.publishers[publisher].receive()? {
                    self.idle.push(publisher);
                }
            } else {
                self.read(token, driven)?;
            }
        }
        Ok(())
    }

    /// Reads from those lazy subscribers whose turn it is: one after the other, so that publishers
    /// never wait for all of them. Gives how long it is until the next one's turn.
    fn read_some(
        &mut self,
        period: Duration,
        begin: Instant,
        more: bool,
        turns: &mut usize,
        driven: &mut Driven,
    ) -> Result<Duration, String> {
        let each = period.as_secs_f64() / self.subscribers.len() as f64;
        let due = |turn: usize| begin + Duration::from_secs_f64(each * turn as f64);
        for _ in 0..TURNS {
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
        self.subscribers[subscriber].receive(&mut self.buffer, |Message { sent, .. }| {
            count += 1;
            if timed {
                let now = *now.get_or_insert_with(|| begun.elapsed());
                driven.latencies.push(now.saturating_sub(Duration::from_nanos(sent)));
            }
        })?;
        if let Some(got) = self.got.get_mut(subscriber) {
            *got += count;
        }
        self.delivered += count;
        driven.delivered += count;
        Ok(())
    }
}

/// A request for an event stream.
pub(crate) fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n").into()
}
