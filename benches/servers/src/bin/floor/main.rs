//! The floor: what a server of events cannot leave out, and nothing else. One write for each
//! delivery, no limits, no timers, and no more of HTTP than is sent to it here.
//!
//!     floor PORT THREADS
//!
//! - `GET /events?topic=NAME` subscribes, `POST /publish?topic=NAME` publishes.
//! - `GET /hello` answers with a head and an event in one write.
//! - `GET /stream` sends events without end, `GET /blob/N` N of them: prepared, in large writes.

mod connection;
mod worker;

use std::sync::Arc;
use std::thread;

use worker::{Mail, Worker};

fn main() {
    let numbers: Vec<u16> =
        std::env::args().skip(1).map(|arg| arg.parse().expect("a number")).collect();
    let [port, threads] = numbers[..] else { panic!("floor PORT THREADS") };
    let mails: Arc<[Mail]> = (0..threads).map(|_| Mail::new()).collect();
    thread::scope(|scope| {
        for own in 0..mails.len() {
            let mails = Arc::clone(&mails);
            scope.spawn(move || Worker::new(port, own, mails).expect("a free port").run());
        }
    });
}
