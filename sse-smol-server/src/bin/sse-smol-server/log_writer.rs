//! The log on standard error. A separate thread writes it, so that blocked standard error delays
//! neither connections nor signals.

use std::fmt::Display;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::json;

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Time, level and message in square brackets and after them
    #[default]
    Text,
    /// A JSON object with time, level and message
    Json,
}

/// The maximum size of the queued lines in bytes: about ten thousand lines.
const MAX_QUEUED: usize = 1 << 20;

/// The minimum time between two writes. Under load, lines are written together: waking the thread
/// for each line would take more time than formatting it.
const BETWEEN_WRITES: Duration = Duration::from_millis(10);

/// The pause before the next attempt to write if standard error is non-blocking and full.
const PAUSE: Duration = Duration::from_millis(50);

/// Queues lines for standard error. Lines that do not fit into the queue are dropped and counted,
/// and their number is written when standard error accepts lines again.
#[derive(Clone)]
pub(crate) struct LogWriter(Arc<Inner>);

#[derive(Default)]
struct Inner {
    queue: Mutex<Queue>,
    /// Notified when the queue is no longer empty.
    filled: Condvar,
    /// Notified when [`LogWriter::finish`] begins to wait.
    finishing: Condvar,
    /// Notified when lines have been written and [`LogWriter::finish`] waits.
    written: Condvar,
    format: LogFormat,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// The number of log records in `lines`.
    records: usize,
    /// The number of log records that were dropped and have not been reported.
    dropped: usize,
    /// Whether the thread is writing lines that it has taken from the queue.
    writing: bool,
    is_finishing: bool,
}

impl LogWriter {
    /// Starts the thread that writes the log.
    pub(crate) fn start(format: LogFormat) -> io::Result<Self> {
        let inner = Arc::new(Inner { format, ..Inner::default() });
        let shared = Arc::clone(&inner);
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.run())?;
        Ok(Self(inner))
    }

    /// Queues a message that is not subject to the level of the log.
    pub(crate) fn message(&self, level: log::Level, message: impl Display) {
        let line = match self.0.format {
            LogFormat::Text => format!("{message}\n"),
            LogFormat::Json => json_line(level, &message, None),
        };
        self.0.push(line.as_bytes());
    }

    /// Waits until all queued lines have been written, but no longer than `timeout`.
    pub(crate) fn finish(&self, timeout: Duration) {
        let busy = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        // A timeout is ignored: nothing reads standard error, and the remaining lines are lost.
        let mut queue = self.0.queue();
        queue.is_finishing = true;
        self.0.finishing.notify_one();
        drop(self.0.written.wait_timeout_while(queue, timeout, busy));
    }
}

/// Each call of `write` queues one log record.
impl Write for LogWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a log record as a line of JSON.
pub(crate) fn json_line(level: log::Level, message: impl Display, time: Option<String>) -> String {
    let mut record = json!({ "level": level.as_str(), "message": message.to_string() });
    if let Some(time) = time {
        record["time"] = time.into();
    }
    format!("{record}\n")
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, lines: &[u8]) {
        let mut queue = self.queue();
        let was_empty = queue.lines.is_empty();
        if queue.lines.len() + lines.len() <= MAX_QUEUED {
            queue.lines.extend_from_slice(lines);
            queue.records += 1;
        } else {
            queue.dropped += 1;
        }
        drop(queue);
        // Otherwise an earlier call has notified the thread.
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Writes queued lines to standard error, forever.
    fn run(&self) {
        let mut queue = self.queue();
        let mut last: Option<Instant> = None;
        loop {
            let idle = |queue: &mut Queue| queue.lines.is_empty();
            queue = self.filled.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
            let pause =
                last.map_or(Duration::ZERO, |last| BETWEEN_WRITES.saturating_sub(last.elapsed()));
            let goes_on = |queue: &mut Queue| !queue.is_finishing;
            let waited = self.finishing.wait_timeout_while(queue, pause, goes_on);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            let mut lines = mem::take(&mut queue.lines);
            let records = mem::take(&mut queue.records);
            let dropped = mem::take(&mut queue.dropped);
            queue.writing = true;
            drop(queue);
            if dropped > 0 {
                // Bypasses the logger, whose level may exclude warnings.
                let line = format!("{dropped} log lines dropped: standard error was blocked");
                let line = match self.format {
                    LogFormat::Text => format!("[WARN ] {line}\n"),
                    LogFormat::Json => json_line(log::Level::Warn, line, None),
                };
                lines.extend_from_slice(line.as_bytes());
            }
            let written = write_all(&lines);
            last = Some(Instant::now());
            queue = self.queue();
            queue.writing = false;
            if written.is_err() {
                // Standard error may accept lines again later, for example a file on a full disk.
                queue.dropped += dropped + records;
            }
            // Each notification is a system call.
            if queue.is_finishing {
                self.written.notify_all();
            }
        }
    }
}

fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match io::stderr().write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
