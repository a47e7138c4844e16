//! Couriers carry what is published to the streams that wait for it.
//!
//! A stream that has sent all there is rests: its task sleeps, and a courier writes the next events
//! to its socket. So an event costs each of its subscribers one write, and no wake-up and no poll
//! beside it. A stream for which one write is not all there is to do (the kernel takes no more, the
//! connection broke, the log dropped events) is handed back to its task, which is woken and goes on
//! by itself from where the courier has left it.
//!
//! A server has a courier for each core, and streams are dealt out between them.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll};
use std::{iter, mem, thread};

use slab::Slab;
use smol::channel::{self, Receiver, Sender, WeakSender};
use smol::future::yield_now;

use crate::compact_instant::CompactInstant;
use crate::history::{BATCH_BYTES, BATCH_EVENTS};
use crate::registry::Topic;
use crate::wire::Wire;
use crate::{End, Frame};

/// The couriers of a server.
#[derive(Debug)]
pub(crate) struct Couriers {
    all: Vec<Courier>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Courier {
    errands: Sender<Errand>,
    /// The courier's identity, by which its rounds are found. Unlike a sender it can be looked at
    /// under a lock: a sender that is dropped as the last one wakes the receiver.
    identity: Arc<()>,
}

/// Something was published to a topic.
#[derive(Debug)]
pub(crate) struct Errand {
    topic: Arc<Topic>,
    round: Arc<Round>,
}

/// The streams of one topic that rest with one courier.
#[derive(Debug)]
pub(crate) struct Round {
    courier: WeakSender<Errand>,
    /// Of the courier.
    identity: Weak<()>,
    /// The courier has been called, and has not looked into the log since.
    called: AtomicBool,
    resting: Mutex<Resting>,
}

#[derive(Debug, Default)]
struct Resting {
    /// Every stream here has got, or is being given, all up to this position.
    position: u64,
    streams: Slab<Arc<Wire>>,
}

/// So many writes a courier does before others have their turn.
const WRITES_AT_ONCE: usize = 32;

impl Couriers {
    /// As many as can work at a time, and what they are to [`work`] on.
    pub(crate) fn new() -> (Self, Vec<Desk>) {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let channels = iter::repeat_with(channel::unbounded).take(count);
        let courier = |(errands, desk)| (Courier { errands, identity: Arc::default() }, Desk(desk));
        let (all, desks) = channels.map(courier).unzip();
        (Self { all, next: AtomicUsize::new(0) }, desks)
    }

    /// Returns the streams of a topic that rest with the next courier in turn.
    fn round(&self, topic: &Topic) -> Arc<Round> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.all.len();
        let Courier { errands, identity } = &self.all[turn];
        let mut followers = topic.followers();
        let is_its = |round: &&Arc<Round>| round.identity.as_ptr() == Arc::as_ptr(identity);
        if let Some(round) = followers.rounds.iter().find(is_its) {
            return Arc::clone(round);
        }
        let round = Arc::new(Round {
            courier: errands.downgrade(),
            identity: Arc::downgrade(identity),
            called: AtomicBool::new(false),
            resting: Mutex::default(),
        });
        // Without the rounds of servers that are gone.
        let is_there = |round: &&Arc<Round>| round.identity.strong_count() > 0;
        let others = followers.rounds.iter().filter(is_there);
        let rounds = others.chain([&round]).map(Arc::clone).collect();
        let replaced = mem::replace(&mut followers.rounds, rounds);
        // A round that is dropped may drop streams, and with them what their handlers left.
        drop(followers);
        drop(replaced);
        round
    }
}

/// Where a courier's errands come in.
#[derive(Debug)]
pub(crate) struct Desk(Receiver<Errand>);

impl Drop for Desk {
    /// What is left here would hold itself: an errand has a round, and that knows the way here.
    fn drop(&mut self) {
        self.0.close();
        while self.0.try_recv().is_ok() {}
    }
}

/// What a courier does, for as long as there is anybody who could need it.
pub(crate) async fn work(desk: Desk) {
    while let Ok(Errand { topic, round }) = desk.0.recv().await {
        // Before looking into the log: for what is published from here on there is another call.
        round.called.swap(false, Ordering::AcqRel);
        let Some(batch) = round.next_batch(&topic) else {
            continue;
        };
        let mut first = 0;
        while let Some(some) = round.some_of(&mut first) {
            let now = CompactInstant::now();
            for stream in some {
                stream.carry(&batch, now);
            }
            yield_now().await;
        }
        if batch.is_cut_short {
            // Other topics come first.
            round.call(&topic);
        }
    }
}

impl Round {
    fn resting(&self) -> MutexGuard<'_, Resting> {
        self.resting.lock().expect("no panic while this lock is held")
    }

    /// Has the courier look for something to carry.
    pub(crate) fn call(self: &Arc<Self>, topic: &Arc<Topic>) {
        if !self.called.swap(true, Ordering::AcqRel) {
            if let Some(courier) = self.courier.upgrade() {
                let errand = Errand { topic: Arc::clone(topic), round: Arc::clone(self) };
                // If nobody works any more, nobody is there to be served.
                let _ = courier.try_send(errand);
            }
        }
    }

    /// Sets it apart from all others, for as long as it is there.
    fn number(&self) -> NonZeroUsize {
        NonNull::from(self).addr()
    }

    /// Takes the next events to carry from the log.
    fn next_batch(&self, topic: &Topic) -> Option<Batch> {
        let mut resting = self.resting();
        if resting.streams.is_empty() {
            return None;
        }
        let log = topic.log();
        let Ok(entries) = log.after(resting.position) else {
            // Each stream has a position of its own in the log, or has lost it. A stream that rests
            // again has read to the end.
            resting.position = log.last_position();
            drop(log);
            let streams: Vec<_> =
                resting.streams.iter().map(|(_, stream)| Arc::clone(stream)).collect();
            // A waker may drop its task, and with it a stream at rest here.
            drop(resting);
            for stream in streams {
                stream.hand_back();
            }
            return None;
        };
        let mut batch = Batch {
            round: self.number(),
            after: resting.position,
            events: Vec::new(),
            bytes: Vec::new(),
            is_cut_short: false,
        };
        for entry in entries {
            if batch.events.len() == BATCH_EVENTS || batch.bytes.len() >= BATCH_BYTES {
                batch.is_cut_short = true;
                break;
            }
            batch.events.push((entry.position, batch.bytes.len(), entry.frame.clone()));
            batch.bytes.extend_from_slice(entry.frame.chunk());
        }
        resting.position = batch.events.last()?.0;
        Some(batch)
    }

    /// Returns some of the streams, from a place on, and moves the place behind them.
    ///
    /// Between two calls streams leave and come, so one may come to rest at a place that was passed
    /// already, and does not get the batch. No event is lost by that: `resting.position` is the end
    /// of the batch by then, and a stream that has not read up to there itself is refused in
    /// [`Rest::begin`], since its log has more. One that gets a batch twice, at two places, takes from
    /// it what follows its own position.
    fn some_of(&self, first: &mut usize) -> Option<Vec<Arc<Wire>>> {
        let resting = self.resting();
        let (start, end) = (*first, resting.streams.capacity());
        let mut found = Vec::with_capacity(WRITES_AT_ONCE);
        for place in start..end {
            found.extend(resting.streams.get(place).map(Arc::clone));
            *first = place + 1;
            if found.len() == WRITES_AT_ONCE {
                break;
            }
        }
        (!found.is_empty()).then_some(found)
    }
}

/// Events that are carried to many streams.
#[derive(Debug)]
pub(crate) struct Batch {
    /// For whose streams it is.
    pub(crate) round: NonZeroUsize,
    /// The position before them.
    after: u64,
    /// Their positions, and where in `bytes` they begin.
    events: Vec<(u64, usize, Frame)>,
    /// All of them, framed as chunks.
    bytes: Vec<u8>,
    /// There are more in the log.
    is_cut_short: bool,
}

/// What of a batch a stream has not got yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried<'b> {
    pub(crate) bytes: &'b [u8],
    events: &'b [(u64, usize, Frame)],
}

impl Batch {
    /// What comes after a position. `None` if it is before the batch's own.
    pub(crate) fn after(&self, position: u64) -> Option<Carried<'_>> {
        let first = self.events.partition_point(|(at, ..)| *at <= position);
        let events = &self.events[first..];
        let start = events.first().map_or(self.bytes.len(), |(_, start, _)| *start);
        (position >= self.after).then_some(Carried { bytes: &self.bytes[start..], events })
    }
}

impl<'b> Carried<'b> {
    pub(crate) fn frames(self) -> impl Iterator<Item = &'b Frame> {
        self.events.iter().map(|(.., frame)| frame)
    }

    /// The position of the last one.
    pub(crate) fn position(self) -> Option<u64> {
        self.events.last().map(|(position, ..)| *position)
    }
}

/// A stream at rest, until this is dropped.
#[derive(Debug)]
pub(crate) struct Rest<'w> {
    wire: &'w Wire,
    round: Arc<Round>,
    place: usize,
}

impl<'w> Rest<'w> {
    /// Has a courier go on for a stream that has got all up to a position. `None` if there is more
    /// to be had by now.
    pub(crate) fn begin(wire: &'w Arc<Wire>, topic: &Arc<Topic>, position: u64) -> Option<Self> {
        let round = wire.shared.couriers.round(topic);
        let mut resting = round.resting();
        // Positions are those of all topics: to be behind others is not to have missed anything.
        if position < resting.position && topic.has_more(position) {
            return None;
        }
        let position = position.max(resting.position);
        if resting.streams.is_empty() {
            resting.position = position;
        }
        wire.begin_rest(round.number(), position);
        let place = resting.streams.insert(Arc::clone(wire));
        drop(resting);
        // The call for what was published just now may have come before there was anybody.
        if topic.has_more(position) {
            round.call(topic);
        }
        Some(Self { wire, round, place })
    }
}

impl Future for Rest<'_> {
    /// The stream is handed back: the position up to which it was served.
    type Output = Result<u64, End>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.wire.poll_rest(cx)
    }
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.wire.end_rest();
        let mut resting = self.round.resting();
        // To be dropped without the lock.
        let stream = resting.streams.try_remove(self.place);
        if resting.streams.is_empty() && resting.streams.capacity() > WRITES_AT_ONCE {
            // A crowd has left.
            resting.streams = Slab::new();
        }
        drop(resting);
        drop(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Start, Topics, TopicsConfig};

    #[test]
    fn errands_that_nobody_does_any_more_hold_nothing() {
        let (couriers, desks) = Couriers::new();
        let topics = Topics::new(TopicsConfig::default()).unwrap();
        let subscription = topics.subscribe(&["news"], Start::Latest).unwrap();
        let (topic, _) = subscription.only_topic().unwrap();
        let (topic, left) = (Arc::clone(topic), Arc::downgrade(topic));
        couriers.round(&topic).call(&topic);
        drop((subscription, topics, topic));
        assert!(left.upgrade().is_some(), "the errand is on the desk");
        drop(desks);
        assert!(left.upgrade().is_none());
        drop(couriers);
    }
}
