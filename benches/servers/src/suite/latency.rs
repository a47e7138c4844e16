//! Tests at given rates: latency, and what a delivery or a publication costs then.

use super::delivering::{Clients, run};
use super::{Found, Test};
use crate::load::{Driven, IN_FLIGHT, Pace};
use crate::peers::Peer;
use crate::scale::Scale;
use crate::stats::{millis, quantile};

/// The columns of a test at a given rate.
pub(super) const PACED: &[&str] =
    &["server CPU, µs/delivery", "p50, ms", "p99, ms", "p99.9, ms", "published/s", "late, p99, ms"];

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    vec![
        Test {
            name: "light",
            about: "Few subscribers and a publication every 2 ms, which is the load of most servers: threads \
                    wait and are woken for each publication."
                .to_owned(),
            columns: &["server CPU, µs/publication", "p50, ms", "p99, ms"],
            summarized: 1,
            cases: vec!["1 subscriber".to_owned(), "10 subscribers".to_owned()],
            supports: |_| true,
            run: Box::new(move |peer, case| {
                let clients = Clients { topics: 1, subscribers: [1, 10][case], publishers: 1 };
                let (driven, cpu) = run(peer, scale, clients, Pace::PerSecond(500.0))?;
                let [p50, p99, _] = latencies(&driven);
                Ok(vec![cpu.as_secs_f64() * 1e6 / driven.published as f64, p50, p99])
            }),
        },
        Test {
            name: "paced",
            about: format!(
                "Messages of 100 bytes at a rate, and the time from a publication to its receipt; p99.9 is the \
                 maximum if there are few deliveries. `late` is the delay of publications behind their \
                 schedule. At most {IN_FLIGHT} messages are in flight: where `published/s` is below the rate, it \
                 is the limit of this machine, and the latency is that of {IN_FLIGHT} messages in flight."
            ),
            columns: PACED,
            summarized: 3,
            cases: cases(scale)
                .iter()
                .map(|(subscribers, rate)| format!("{subscribers} × {rate}/s"))
                .collect(),
            supports: |_| true,
            run: Box::new(move |peer, case| {
                let (subscribers, rate) = cases(scale)[case];
                paced(peer, scale, Clients { topics: 1, subscribers, publishers: 1 }, rate)
            }),
        },
    ]
}

/// Returns the numbers of subscribers and of messages per second.
fn cases(scale: Scale) -> [(u32, f64); 7] {
    let Scale { some, many, .. } = scale;
    [(1, 20.0), (1, 200.0), (some, 20.0), (some, 200.0), (many, 2.0), (many, 20.0), (many, 200.0)]
}

/// Publishes at a rate. Returns the columns [`PACED`].
pub(super) fn paced(peer: &Peer, scale: Scale, clients: Clients, rate: f64) -> Found {
    let (driven, cpu) = run(peer, scale, clients, Pace::PerSecond(rate))?;
    let [p50, p99, p999] = latencies(&driven);
    Ok(vec![
        cpu.as_secs_f64() * 1e6 / driven.delivered as f64,
        p50,
        p99,
        p999,
        driven.rate,
        millis(quantile(&driven.late, 0.99)),
    ])
}

/// Returns p50, p99 and p99.9 in milliseconds.
fn latencies(driven: &Driven) -> [f64; 3] {
    [0.5, 0.99, 0.999].map(|part| millis(quantile(&driven.latencies, part)))
}
