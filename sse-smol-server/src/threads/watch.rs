//! Detecting that a single task occupies the leading thread.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::alarm::Alarm;

/// The interval at which the leading thread is checked. A task that runs through a whole interval
/// occupies it.
const CHECK: Duration = Duration::from_millis(10);

/// The maximum number of times that the leading thread cancels the alarm in an interval. Cancelling
/// it more often would cost more system calls than one wake-up of the watching thread.
const MAX_CANCELS: u32 = 16;

/// The progress of the leading thread, which another thread watches.
///
/// While the leading thread runs tasks, an alarm is set. Before it waits, it cancels the alarm. So
/// rare and short tasks wake no other thread.
#[derive(Debug)]
pub(super) struct Watch {
    /// Changes whenever the leading thread begins or ends to run a task. Odd while it runs one.
    progress: AtomicU64,
    alarm: Alarm,
    /// Also locked while the alarm is set or cancelled.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the alarm fires.
    due: Option<Instant>,
    /// The progress when the alarm was set.
    seen: u64,
    /// When the current interval began, and how often the alarm may be cancelled until its end.
    interval_since: Instant,
    cancels: u32,
    has_stopped: bool,
}

impl Watch {
    /// Creates the state of a leading thread that runs no task.
    pub(super) fn new() -> io::Result<Self> {
        let state = State {
            due: None,
            seen: 0,
            interval_since: Instant::now(),
            cancels: MAX_CANCELS,
            has_stopped: false,
        };
        Ok(Self { progress: AtomicU64::new(0), alarm: Alarm::new()?, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the leading thread begins to run a task. `resumed` is the current time if this is
    /// the first task after a wait.
    pub(super) fn begin_task(&self, resumed: Option<Instant>) {
        // Only the leading thread changes it.
        let progress = (self.progress.load(Ordering::Relaxed) | 1) + 2;
        self.progress.store(progress, Ordering::SeqCst);
        let Some(now) = resumed else { return };
        let mut state = self.state();
        if now.saturating_duration_since(state.interval_since) >= CHECK {
            state.interval_since = now;
            state.cancels = MAX_CANCELS;
        }
        if state.due.is_none() {
            self.set_alarm(&mut state, progress, now);
        }
    }

    /// Records that the leading thread has no more tasks and is about to wait.
    pub(super) fn pause(&self) {
        let progress = self.progress.load(Ordering::Relaxed);
        self.progress.store(progress + 1, Ordering::SeqCst);
        let mut state = self.state();
        if state.cancels > 0 && state.due.take().is_some() {
            state.cancels -= 1;
            self.alarm.cancel();
        }
    }

    fn set_alarm(&self, state: &mut State, progress: u64, now: Instant) {
        state.seen = progress;
        state.due = Some(now + CHECK);
        self.alarm.set(CHECK);
    }

    /// Calls `report` each time that a task has occupied the leading thread for an interval, until
    /// [`stop`](Self::stop) is called.
    ///
    /// # Errors
    ///
    /// Returns the system's error for the alarm, which is not expected.
    pub(super) fn watch(&self, report: impl Fn()) -> io::Result<()> {
        loop {
            self.alarm.wait()?;
            let mut state = self.state();
            if state.has_stopped {
                return Ok(());
            }
            let now = Instant::now();
            if state.due.is_none_or(|due| now < due) {
                // The leading thread has cancelled it or set it again meanwhile.
                continue;
            }
            let (seen, progress) = (state.seen, self.progress.load(Ordering::SeqCst));
            if progress.is_multiple_of(2) {
                state.due = None;
                continue;
            }
            self.set_alarm(&mut state, progress, now);
            drop(state);
            if progress == seen {
                report();
            }
        }
    }

    /// Makes [`watch`](Self::watch) return.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.has_stopped = true;
        self.alarm.set(Duration::ZERO);
    }
}
