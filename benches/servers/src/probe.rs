//! New connections while a server is under load: the time until their response heads.

use std::net::SocketAddrV4;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::{read, write};
use servers::net::connect;

use crate::churn::Until;

/// The time between a response head and the next connection.
const PERIOD: Duration = Duration::from_millis(20);

/// The time within which a connection must get its response head.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A thread that connects, waits for the response head and closes the connection, repeatedly. It is
/// not the thread of the load generator, whose own delays would count as those of the server.
#[derive(Debug)]
pub(crate) struct Probe {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Result<Vec<Duration>, String>>,
}

impl Probe {
    /// Starts to open connections, and to send this request on each.
    pub(crate) fn start(to: SocketAddrV4, request: Vec<u8>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                times.push(time_to_head(to, times.len(), &request)?);
            }
            Ok(times)
        });
        Self { stop, thread }
    }

    /// Stops, and returns the time from before each connection until its response head.
    pub(crate) fn finish(self) -> Result<Vec<Duration>, String> {
        // The thread has ended if a connection failed.
        let _ = self.stop.send(());
        self.thread.join().expect("the thread does not panic")
    }
}

fn time_to_head(to: SocketAddrV4, number: usize, request: &[u8]) -> Result<Duration, String> {
    let failed = |error: &dyn std::fmt::Display| format!("a new connection failed: {error}");
    let started = Instant::now();
    let socket = connect(to, number, TIMEOUT).map_err(|error| failed(&error))?;
    write(&socket, request).map_err(|error| failed(&error))?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while !Until::Head.is_met_by(&received)? {
        match read(&socket, &mut buffer).map_err(|error| failed(&error))? {
            0 => return Err(failed(&"closed before the response")),
            count => received.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(started.elapsed())
}
