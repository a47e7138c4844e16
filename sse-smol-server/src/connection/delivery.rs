//! Delivery workers write published events to parked streams.
//!
//! A stream that has sent all events of its topic is parked: its task sleeps, and a delivery worker
//! writes the next events to its socket. So an event costs each subscriber one write, without a
//! wake-up or a poll. A stream that needs more than one write (the kernel accepts less, the
//! connection broke, the window dropped events) is unparked: its task is woken and continues from
//! the position that the worker has reached.
//!
//! A server has one worker for each core, and streams are distributed over the workers in turn.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll};
use std::{iter, thread};

use slab::Slab;
use smol::channel::{self, Receiver, Sender, WeakSender};
use smol::future::yield_now;

use crate::Error;
use crate::compact_instant::CompactInstant;
use crate::connection::Connection;
use crate::connection::batch::{Batch, GroupNumber};
use crate::topics::listener::{Followers, Listener};
use crate::topics::registry::Topic;

/// The delivery workers of a server.
#[derive(Debug)]
pub(crate) struct DeliveryWorkers {
    all: Vec<DeliveryWorker>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct DeliveryWorker {
    jobs: Sender<Job>,
    /// The identity by which the worker's groups are found. It can be compared under a lock, unlike
    /// a sender: dropping the last sender wakes the receiver.
    identity: Arc<()>,
}

/// A request to deliver new events to a group.
#[derive(Debug)]
pub(crate) struct Job(Arc<SubscriberGroup>);

/// The streams of one topic that are parked with one worker.
#[derive(Debug)]
pub(crate) struct SubscriberGroup {
    number: GroupNumber,
    /// Each stream that is parked holds the topic, which holds the group.
    topic: Weak<Topic>,
    jobs: WeakSender<Job>,
    /// The identity of the worker.
    worker: Weak<()>,
    /// Whether a job is queued, and the worker has not read the window since.
    called: AtomicBool,
    parked: Mutex<ParkedStreams>,
}

#[derive(Debug, Default)]
struct ParkedStreams {
    /// All events up to this position have been sent to every stream here, or are being sent. It is
    /// not beyond the last event of the topic's window.
    position: u64,
    streams: Slab<Arc<Connection>>,
}

/// The number of writes that a worker makes before it yields to other tasks.
const WRITES_AT_ONCE: usize = 32;

impl DeliveryWorkers {
    /// Creates a worker for each core, and the queues to be passed to [`work`].
    pub(crate) fn new() -> (Self, Vec<JobQueue>) {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let channels = iter::repeat_with(channel::unbounded).take(count);
        let worker =
            |(jobs, queue)| (DeliveryWorker { jobs, identity: Arc::default() }, JobQueue(queue));
        let (all, queues) = channels.map(worker).unzip();
        (Self { all, next: AtomicUsize::new(0) }, queues)
    }

    /// Returns the group of a topic's streams with the next worker in turn.
    fn group(&self, topic: &Arc<Topic>) -> Arc<SubscriberGroup> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.all.len();
        let DeliveryWorker { jobs, identity } = &self.all[turn];
        Followers::find_or_add(
            topic.followers(),
            |group: &SubscriberGroup| group.worker.as_ptr() == Arc::as_ptr(identity),
            || SubscriberGroup {
                number: GroupNumber::next(),
                topic: Arc::downgrade(topic),
                jobs: jobs.downgrade(),
                worker: Arc::downgrade(identity),
                called: AtomicBool::new(false),
                parked: Mutex::default(),
            },
        )
    }
}

/// The receiving side of a worker's jobs.
#[derive(Debug)]
pub(crate) struct JobQueue(Receiver<Job>);

impl Drop for JobQueue {
    /// Drains the queue: a queued job holds its group, and the group holds a sender for this queue
    /// (a reference cycle).
    fn drop(&mut self) {
        self.0.close();
        while self.0.try_recv().is_ok() {}
    }
}

/// Runs a worker until the last sender of its jobs is gone.
pub(crate) async fn work(queue: JobQueue) {
    while let Ok(Job(group)) = queue.0.recv().await {
        // This precedes the read of the window, so events that are published after it queue another
        // job.
        group.called.swap(false, Ordering::AcqRel);
        let Some(batch) = group.next_batch() else {
            continue;
        };
        let mut first = 0;
        while let Some(some) = group.some_of(&mut first) {
            let now = CompactInstant::now();
            for stream in some {
                stream.deliver(&batch, now);
            }
            yield_now().await;
        }
        if batch.is_cut_short {
            // Queued again at the end, so that jobs of other topics come first.
            group.call();
        }
    }
}

impl SubscriberGroup {
    fn parked(&self) -> MutexGuard<'_, ParkedStreams> {
        self.parked.lock().expect("no panic while this lock is held")
    }

    /// Queues a job for the worker, unless one is queued already.
    fn call(self: &Arc<Self>) {
        if !self.called.swap(true, Ordering::AcqRel)
            && let Some(jobs) = self.jobs.upgrade()
        {
            // This fails if the worker has ended, and its connections with it.
            let _ = jobs.try_send(Job(Arc::clone(self)));
        }
    }

    /// Reads the next events to deliver from the window.
    fn next_batch(&self) -> Option<Batch> {
        let topic = self.topic.upgrade()?;
        let mut parked = self.parked();
        if parked.streams.is_empty() {
            return None;
        }
        let window = topic.window();
        let Ok(events) = window.events_after(parked.position) else {
            // Each stream continues from its own position, or reports a lag if events after it were
            // dropped. A stream that is parked again has read to the end.
            parked.position = window.last_position();
            drop(window);
            let streams: Vec<_> =
                parked.streams.iter().map(|(_, stream)| Arc::clone(stream)).collect();
            // A waker may drop its task, and with it a stream that is parked here.
            drop(parked);
            for stream in streams {
                stream.unpark();
            }
            return None;
        };
        let mut batch = Batch::new(self.number, parked.position);
        for (position, frame) in events {
            if batch.is_full() {
                batch.is_cut_short = true;
                break;
            }
            batch.push(position, frame);
        }
        parked.position = batch.last_position()?;
        Some(batch)
    }

    /// Returns up to [`WRITES_AT_ONCE`] streams from the slab key `first` on, and moves `first`
    /// past them.
    ///
    /// Streams leave and join between two calls. A stream that is parked under a key below `first`
    /// does not get the batch. This loses no event: `parked.position` is the end of the batch by
    /// then, and [`Parked::begin`] refuses a stream that has not read up to there itself, since its
    /// window has more. A stream that gets a batch twice, under two keys, takes from it the events
    /// that follow its own position.
    fn some_of(&self, first: &mut usize) -> Option<Vec<Arc<Connection>>> {
        let parked = self.parked();
        let (start, end) = (*first, parked.streams.capacity());
        let mut found = Vec::with_capacity(WRITES_AT_ONCE);
        for place in start..end {
            found.extend(parked.streams.get(place).map(Arc::clone));
            *first = place + 1;
            if found.len() == WRITES_AT_ONCE {
                break;
            }
        }
        (!found.is_empty()).then_some(found)
    }
}

impl Listener for SubscriberGroup {
    fn published(self: Arc<Self>) {
        self.call();
    }

    /// Returns whether the worker still exists. A group is useless without it.
    fn is_live(&self) -> bool {
        self.worker.strong_count() > 0
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// A parked stream. Dropping it removes the stream from its group.
#[derive(Debug)]
pub(crate) struct Parked<'w> {
    connection: &'w Connection,
    group: Arc<SubscriberGroup>,
    place: usize,
}

impl<'w> Parked<'w> {
    /// Parks a stream that has sent all events up to a position.
    ///
    /// # Errors
    ///
    /// Returns the position from which the stream has to read on, if its topic has more events by
    /// now.
    pub(crate) fn begin(
        connection: &'w Arc<Connection>,
        workers: &DeliveryWorkers,
        topic: &Arc<Topic>,
        position: u64,
    ) -> Result<Self, u64> {
        let group = workers.group(topic);
        // This precedes the lock of the group: a connection's lock is held during its writes, and
        // the other streams of the group must not wait for these. A batch may arrive before this
        // function returns, if the worker found the stream in the group when it was parked there
        // before. The stream then takes the events after its position. If events between its
        // position and the batch are missing, it is unparked.
        connection.park(group.number, position);
        let mut parked = group.parked();
        // The position of a group is never beyond the window, so the topic has more events here.
        if position < parked.position {
            drop(parked);
            return Err(connection.end_parking().unwrap_or(position));
        }
        if parked.streams.is_empty() {
            // The stream may be ahead of the window: it may have received events of a storage from
            // another server. The streams that join it need those events.
            parked.position = position.min(topic.window().last_position());
        }
        let place = parked.streams.insert(Arc::clone(connection));
        drop(parked);
        // The job for events that were published just now may have found the group empty.
        if topic.has_more(position) {
            group.call();
        }
        Ok(Self { connection, group, place })
    }
}

impl Future for Parked<'_> {
    /// The position up to which events were delivered, when the stream is unparked.
    type Output = Result<u64, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.connection.poll_parked(cx)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.connection.end_parking();
        let mut parked = self.group.parked();
        // Dropped after the lock is released.
        let stream = parked.streams.try_remove(self.place);
        if parked.streams.is_empty() && parked.streams.capacity() > WRITES_AT_ONCE {
            // Releases the memory of many streams that have left.
            parked.streams = Slab::new();
        }
        drop(parked);
        drop(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Start, Topics, TopicsConfig};

    #[test]
    fn a_dropped_queue_releases_its_jobs() {
        let (delivery_workers, queues) = DeliveryWorkers::new();
        let topics = Topics::new(TopicsConfig::default()).unwrap();
        let subscription = smol::block_on(topics.subscribe(&["news"], Start::Latest)).unwrap();
        let group = delivery_workers.group(subscription.only_topic().unwrap().0);
        let left = Arc::downgrade(&group);
        group.call();
        drop((subscription, topics, group));
        assert!(left.upgrade().is_some(), "the queued job holds the group");
        drop(queues);
        assert!(left.upgrade().is_none());
        drop(delivery_workers);
    }
}
