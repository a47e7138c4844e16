//! Tests of latency, and of the cost of a publication while there is little load.

use super::Test;
use super::delivering::{Clients, run};
use crate::load::Pace;
use crate::scale::Scale;
use crate::stats::{millis, quantile};

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
                let [p50, p99] = [0.5, 0.99].map(|at| millis(quantile(&driven.latencies, at)));
                Ok(vec![cpu.as_secs_f64() * 1e6 / driven.published as f64, p50, p99])
            }),
        },
        Test {
            name: "latency",
            about: "The time from a publication to its receipt. No server reaches 200 messages per second with \
                    the most subscribers."
                .to_owned(),
            columns: &["p50, ms", "p99, ms", "p99.9, ms", "published/s"],
            summarized: 1,
            cases: latency_cases(scale)
                .iter()
                .map(|(subscribers, rate)| format!("{subscribers} × {rate}/s"))
                .collect(),
            supports: |_| true,
            run: Box::new(move |peer, case| {
                let (subscribers, rate) = latency_cases(scale)[case];
                let clients = Clients { topics: 1, subscribers, publishers: 1 };
                let (driven, _) = run(peer, scale, clients, Pace::PerSecond(rate))?;
                let [p50, p99, p999] =
                    [0.5, 0.99, 0.999].map(|at| millis(quantile(&driven.latencies, at)));
                Ok(vec![p50, p99, p999, driven.rate])
            }),
        },
    ]
}

/// Returns the numbers of subscribers and of messages per second for which latencies are measured.
fn latency_cases(scale: Scale) -> [(u32, f64); 5] {
    let Scale { some, many, .. } = scale;
    [(1, 20.0), (1, 200.0), (some, 20.0), (some, 200.0), (many, 20.0)]
}
