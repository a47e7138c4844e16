//! A timer that one thread sets and another thread waits for.
//!
//! On Linux, it is a timer of the kernel, which wakes the waiting thread only when it fires. On other
//! systems, the waiting thread waits with a timeout, so it may also have to be woken when the timer
//! is set.

#[cfg(target_os = "linux")]
pub(super) use of_kernel::Alarm;
#[cfg(not(target_os = "linux"))]
pub(super) use portable::Alarm;

#[cfg(target_os = "linux")]
mod of_kernel {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::io::{read, retry_on_intr};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// A timer of the kernel that fires once each time that it is set.
    #[derive(Debug)]
    pub(crate) struct Alarm(OwnedFd);

    impl Alarm {
        /// Creates a timer that is not set.
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?))
        }

        /// Sets the timer, in place of an earlier time.
        pub(crate) fn set(&self, after: Duration) {
            // Zero would cancel it.
            self.settime(after.max(Duration::from_nanos(1)));
        }

        /// Cancels the timer.
        pub(crate) fn cancel(&self) {
            self.settime(Duration::ZERO);
        }

        fn settime(&self, after: Duration) {
            let zero = Timespec::default();
            let it_value = after.try_into().unwrap_or(zero);
            let time = Itimerspec { it_interval: zero, it_value };
            // This fails for invalid descriptors and times only.
            let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &time);
        }

        /// Waits until the timer fires.
        ///
        /// # Errors
        ///
        /// Returns the system's error, which is not expected.
        pub(crate) fn wait(&self) -> io::Result<()> {
            retry_on_intr(|| read(&self.0, &mut [0; 8]))?;
            Ok(())
        }
    }
}

#[cfg(any(test, not(target_os = "linux")))]
mod portable {
    use std::io;
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
    use std::time::{Duration, Instant};

    /// A timer that fires once each time that it is set.
    #[derive(Debug, Default)]
    pub(crate) struct Alarm {
        times: Mutex<Times>,
        /// Notified when the timer is set to an earlier time than the waiting thread wakes up at.
        changed: Condvar,
    }

    #[derive(Debug, Default)]
    struct Times {
        due: Option<Instant>,
        /// When the waiting thread wakes up.
        waits_until: Option<Instant>,
    }

    impl Alarm {
        /// Creates a timer that is not set.
        #[expect(clippy::unnecessary_wraps, reason = "creating the timer of Linux may fail")]
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self::default())
        }

        fn times(&self) -> MutexGuard<'_, Times> {
            self.times.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Sets the timer, in place of an earlier time.
        pub(crate) fn set(&self, after: Duration) {
            let due = Instant::now() + after;
            let mut times = self.times();
            times.due = Some(due);
            // After a cancellation, the thread still waits until the cancelled time.
            let is_late = times.waits_until.is_none_or(|until| until > due);
            drop(times);
            if is_late {
                self.changed.notify_one();
            }
        }

        /// Cancels the timer.
        pub(crate) fn cancel(&self) {
            self.times().due = None;
        }

        /// Waits until the timer fires.
        ///
        /// # Errors
        ///
        /// None. Waiting for the timer of Linux may fail.
        pub(crate) fn wait(&self) -> io::Result<()> {
            let mut times = self.times();
            loop {
                times.waits_until = times.due;
                let Some(due) = times.due else {
                    times = self.changed.wait(times).unwrap_or_else(PoisonError::into_inner);
                    continue;
                };
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    times.due = None;
                    return Ok(());
                }
                times = match self.changed.wait_timeout(times, left) {
                    Ok((times, _)) => times,
                    Err(poisoned) => poisoned.into_inner().0,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    const SHORT: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(100);

    /// Checks an alarm: `wait` is called by another thread.
    macro_rules! check {
        ($alarm:expr) => {
            let (alarm, (report, reports)) = ($alarm, mpsc::channel());
            thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..2 {
                        alarm.wait().unwrap();
                        report.send(Instant::now()).unwrap();
                    }
                });
                let begin = Instant::now();
                alarm.set(SHORT);
                assert!(reports.recv().unwrap() - begin >= SHORT);
                // An earlier time takes effect while the thread waits, a cancelled one does not.
                alarm.set(LONG);
                assert!(reports.recv_timeout(SHORT).is_err());
                alarm.set(SHORT / 3);
                alarm.cancel();
                assert!(reports.recv_timeout(SHORT).is_err());
                alarm.set(Duration::ZERO);
                assert!(reports.recv().unwrap() - begin < LONG / 2);
            });
        };
    }

    #[test]
    fn the_alarm_fires_when_it_is_due() {
        check!(Alarm::new().unwrap());
    }

    #[test]
    fn the_portable_alarm_fires_when_it_is_due() {
        check!(portable::Alarm::new().unwrap());
    }
}
