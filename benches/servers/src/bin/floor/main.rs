//! The floor: the minimum that an event server has to do. One write for each delivery, no limits, no
//! timers, and only the HTTP that the benchmark uses.
//!
//!     floor PORT THREADS
//!
//! - `GET /events?topic=NAME` subscribes, `POST /publish?topic=NAME` publishes.
//! - `GET /hello` responds with a head and an event in one write.
//! - `GET /stream` sends prepared events in large writes without end, `GET /blob/N/LENGTH` sends N events
//!   with data of this length in bytes.

mod connection;
mod worker;

use std::sync::Arc;
use std::thread;

use worker::{Mailbox, Worker};

fn main() {
    let numbers: Vec<u16> =
        std::env::args().skip(1).map(|arg| arg.parse().expect("a number")).collect();
    let [port, threads] = numbers[..] else { panic!("floor PORT THREADS") };
    let mailboxes: Arc<[Mailbox]> = (0..threads).map(|_| Mailbox::new()).collect();
    thread::scope(|scope| {
        for own in 0..mailboxes.len() {
            let mailboxes = Arc::clone(&mailboxes);
            scope.spawn(move || Worker::new(port, own, mailboxes).expect("a free port").run());
        }
    });
}
