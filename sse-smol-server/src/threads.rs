//! Running an executor on as many threads as its load requires.

mod alarm;
mod watch;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use smol::Executor;
use smol::future::{FutureExt as _, yield_now};

use self::watch::Watch;
use crate::net::reactor::Reactor;

/// The time for which tasks have to be ready without a pause before another thread joins. Waking a
/// thread costs about as much as a few system calls.
const BACKLOG: Duration = Duration::from_micros(200);

/// The time after which I/O and the future are polled, even if more tasks are ready.
const TURN: Duration = Duration::from_millis(1);

/// Runs a future and the tasks of an executor until the future is ready: on this thread, which also
/// drives the reactor, and on one more for each other core while there is a backlog. The future
/// runs the tasks of `accepting` itself, and the other threads help with these, too.
///
/// With little load, all tasks run on this thread. If all threads ran the executor all the time,
/// each event would wake another one of them, which costs more than small events themselves.
///
/// The other threads also run tasks while a single task occupies this thread, with a delay of some
/// 10 milliseconds, and those of `accepting`. Only this thread polls the future.
///
/// # Errors
///
/// Returns the system's error if a thread cannot be started, and the errors of [`Reactor::react`].
pub(crate) fn run<T>(
    reactor: &Arc<Reactor>,
    executor: &Executor<'_>,
    accepting: &Executor<'_>,
    future: impl Future<Output = T>,
) -> io::Result<T> {
    let helpers = thread::available_parallelism().map_or(1, usize::from) - 1;
    let crew = Crew::new(reactor, executor, accepting)?;
    thread::scope(|scope| {
        let _stop = StopOnDrop(&crew);
        for _ in 0..helpers {
            let helper = thread::Builder::new().name("sse-help".to_owned());
            helper.spawn_scoped(scope, || crew.help())?;
        }
        if helpers > 0 {
            let watcher = thread::Builder::new().name("sse-watch".to_owned());
            watcher.spawn_scoped(scope, || crew.watch())?;
        }
        block_on(reactor, future.or(crew.lead()))
    })
}

/// Polls a future until it is ready. In between, waits in the reactor.
fn block_on<T>(reactor: &Arc<Reactor>, future: impl Future<Output = T>) -> io::Result<T> {
    let state = Arc::new(Blocked {
        is_woken: AtomicBool::new(false),
        is_waiting: AtomicBool::new(false),
        reactor: Arc::clone(reactor),
    });
    let waker = Waker::from(Arc::clone(&state));
    let mut future = pin!(future);
    loop {
        state.is_woken.store(false, Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(output);
        }
        let begin = || {
            state.is_waiting.store(true, Ordering::SeqCst);
            // If the future was woken meanwhile, other sockets get their turn before it.
            state.is_woken.load(Ordering::SeqCst).then_some(Duration::ZERO)
        };
        reactor.react(begin, || state.is_waiting.store(false, Ordering::SeqCst))?;
    }
}

/// The state of a thread in [`block_on`].
struct Blocked {
    is_woken: AtomicBool,
    is_waiting: AtomicBool,
    reactor: Arc<Reactor>,
}

impl Wake for Blocked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::SeqCst) && self.is_waiting.load(Ordering::SeqCst) {
            self.reactor.notify();
        }
    }
}

/// The threads that run an executor: a leading one, and helpers, which wait for a backlog. A further
/// thread runs no tasks: it detects that a task occupies the leading one.
struct Crew<'e, 'a, 'b> {
    reactor: &'e Reactor,
    executor: &'e Executor<'a>,
    accepting: &'e Executor<'b>,
    calls: Mutex<Calls>,
    /// Notified when a helper is called.
    called: Condvar,
    /// The number of helpers that wait.
    waiting: AtomicUsize,
    watch: Watch,
}

#[derive(Default)]
struct Calls {
    /// The number of helpers that were called and have not started.
    pending: usize,
    has_stopped: bool,
}

impl<'e, 'a, 'b> Crew<'e, 'a, 'b> {
    fn new(
        reactor: &'e Reactor,
        executor: &'e Executor<'a>,
        accepting: &'e Executor<'b>,
    ) -> io::Result<Self> {
        Ok(Self {
            reactor,
            executor,
            accepting,
            calls: Mutex::default(),
            called: Condvar::new(),
            waiting: AtomicUsize::new(0),
            watch: Watch::new()?,
        })
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs tasks, and calls a helper each time that they have been ready for a while. Never
    /// returns.
    async fn lead<T>(&self) -> T {
        let mut busy_since = None;
        let mut turn_since = Instant::now();
        loop {
            let mut tick = pin!(self.executor.tick());
            poll_fn(|cx| {
                let mut resumed = None;
                if busy_since.is_none() {
                    turn_since = Instant::now();
                    busy_since = Some(turn_since);
                    resumed = busy_since;
                }
                self.watch.begin_task(resumed);
                let ticked = tick.as_mut().poll(cx);
                if ticked.is_pending() {
                    self.watch.pause();
                    busy_since = None;
                }
                ticked
            })
            .await;
            let now = Instant::now();
            self.call_if_due(&mut busy_since, now);
            if now - turn_since >= TURN {
                yield_now().await;
                turn_since = Instant::now();
            }
        }
    }

    /// Calls a helper if this thread has been busy for [`BACKLOG`].
    fn call_if_due(&self, busy_since: &mut Option<Instant>, now: Instant) {
        if busy_since.is_some_and(|since| now - since >= BACKLOG) && self.call() {
            *busy_since = Some(now);
        }
    }

    /// Calls a helper that waits. Returns whether there is one.
    fn call(&self) -> bool {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut calls = self.calls();
        // Those that were called and have not started count as waiting.
        if calls.pending < self.waiting.load(Ordering::Relaxed) {
            calls.pending += 1;
            drop(calls);
            self.called.notify_one();
        }
        true
    }

    /// Runs tasks whenever this helper is called, until the threads stop.
    fn help(&self) {
        let mut calls = self.calls();
        while !calls.has_stopped {
            if calls.pending > 0 {
                calls.pending -= 1;
                drop(calls);
                self.work_off();
                calls = self.calls();
            } else {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                calls = self.called.wait(calls).unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Calls a helper whenever a task occupies the leading thread, until the threads stop.
    fn watch(&self) {
        let result = self.watch.watch(|| {
            // An error is returned to the leading thread, too.
            let _ = self.reactor.try_react();
            self.call();
        });
        if let Err(error) = result {
            log::error!(
                "the timer that detects handlers which block a thread has failed, so they may delay \
                 other requests: {error}"
            );
        }
    }

    /// Runs the tasks that are ready.
    fn work_off(&self) {
        let mut busy_since = Some(Instant::now());
        while self.accepting.try_tick() || self.executor.try_tick() {
            self.call_if_due(&mut busy_since, Instant::now());
            if self.calls().has_stopped {
                return;
            }
        }
    }
}

/// Ends the other threads.
struct StopOnDrop<'c, 'e, 'a, 'b>(&'c Crew<'e, 'a, 'b>);

impl Drop for StopOnDrop<'_, '_, '_, '_> {
    fn drop(&mut self) {
        self.0.calls().has_stopped = true;
        self.0.called.notify_all();
        self.0.watch.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use smol::channel;

    use super::*;

    #[test]
    fn a_helper_that_reacts_does_not_take_a_notification_from_the_leading_thread() {
        let reactor = Reactor::new().unwrap();
        let (ask, asked) = mpsc::channel();
        let (answer, answers) = channel::unbounded();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    reactor.try_react().unwrap();
                }
            });
            scope.spawn(move || asked.iter().for_each(|n: u32| answer.try_send(n).unwrap()));
            let all = async {
                for n in 0..20_000 {
                    ask.send(n).unwrap();
                    assert_eq!(answers.recv().await, Ok(n));
                }
            };
            block_on(&reactor, all).unwrap();
            is_over.store(true, Ordering::SeqCst);
            drop(ask);
        });
    }

    #[test]
    fn a_task_runs_although_others_occupy_the_leading_thread_and_a_helper() {
        const TASKS: usize = 3;
        let reactor = Reactor::new().unwrap();
        let started = AtomicUsize::new(0);
        let (executor, accepting) = (Executor::new(), Executor::new());
        // Each occupies its thread until all have started.
        let occupy = || async {
            let since = Instant::now();
            started.fetch_add(1, Ordering::SeqCst);
            while started.load(Ordering::SeqCst) < TASKS {
                assert!(since.elapsed() < Duration::from_secs(10), "a task has not started");
                thread::sleep(Duration::from_millis(1));
            }
        };
        let tasks: Vec<_> = (0..TASKS).map(|_| executor.spawn(occupy())).collect();
        let crew = Crew::new(&reactor, &executor, &accepting).unwrap();
        let all = async {
            for task in tasks {
                task.await;
            }
        };
        thread::scope(|scope| {
            let _stop = StopOnDrop(&crew);
            for _ in 1..TASKS {
                scope.spawn(|| crew.help());
            }
            scope.spawn(|| crew.watch());
            block_on(&reactor, all.or(crew.lead())).unwrap();
        });
    }
}
