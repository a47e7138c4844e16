//! Scaling to a second processor.

use std::time::Duration;

use super::{Found, Test};
use crate::load::{Load, Pace};
use crate::peers::{Peer, Setup};
use crate::process::{processors, use_processors};
use crate::scale::Scale;

/// The read period of each subscriber. Rare reads and many deliveries per publication keep the CPU
/// time of the load generator low, which leaves nearly two processors to the server.
const PERIOD: Duration = Duration::from_millis(200);

/// The maximum number of messages in flight, enough for one period.
const WINDOW: u64 = 5_000;

/// The number of topics, enough that some always accept a message.
const TOPICS: u32 = 50;

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    vec![Test {
        name: "cores",
        about: format!(
            "Maximum rate, with the server on one processor and on two: {} subscribers, each of which \
             reads every 200 ms, and 8 publishers. With one topic, a server can send several messages in \
             one write, more of them the busier it is. With {TOPICS} topics, a topic gets its next message \
             when its first subscriber has received the last one, so that nearly every message needs its \
             own write. The load generator runs on the rest of the {} processors.",
            scale.some * 2,
            processors().len()
        ),
        columns: &[
            "2 cores : 1",
            "deliveries/s, 1 core",
            "deliveries/s, 2 cores",
            "server CPU, 1 core, %",
            "server CPU, 2 cores, %",
            "generator CPU, 1 core, %",
            "generator CPU, 2 cores, %",
        ],
        summarized: 1,
        cases: vec!["1 topic".to_owned(), format!("{TOPICS} topics")],
        supports: |peer| (peer.is_ours() || peer.is_floor()) && processors().len() > 1,
        run: Box::new(move |peer, case| {
            let (topics, pace) = [(1, Pace::Window(WINDOW)), (TOPICS, Pace::PerTopic)][case];
            let one = with_cores(peer, scale, topics, pace, 1)?;
            let two = with_cores(peer, scale, topics, pace, 2)?;
            let mut found = vec![two[0] / one[0]];
            found.extend(one.iter().zip(&two).flat_map(|(one, two)| [one, two]));
            Ok(found)
        }),
    }]
}

fn with_cores(peer: &Peer, scale: Scale, topics: u32, pace: Pace, cores: usize) -> Found {
    let flags = ["--history", "100000", "--history-bytes", "100000000"];
    let server = peer.start(Setup { flags: &flags, cores: Some(cores), ..Setup::default() })?;
    let all = processors();
    use_processors(if cores < all.len() { &all[cores..] } else { &all });
    let found = (|| {
        let mut load =
            Load::connect(peer, server.address, topics, (scale.some * 2).div_ceil(topics), 8)?;
        load.drive(Pace::Window(1), scale.warming)?;
        load.make_subscribers_lazy(PERIOD);
        let before = server.cpu();
        let driven = load.drive(pace, scale.publishing)?;
        let took = driven.took.as_secs_f64();
        let percent = |time: Duration| time.as_secs_f64() * 100.0 / took;
        Ok(vec![
            driven.delivered as f64 / took,
            percent(server.cpu().saturating_sub(before)),
            percent(driven.generator_cpu),
        ])
    })();
    use_processors(&all);
    found
}
