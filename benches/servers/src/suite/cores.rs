//! What a second processor is good for.

use std::time::Duration;

use super::{Found, Test};
use crate::load::{Load, Pace};
use crate::peers::{Peer, Setup};
use crate::process::{processors, use_processors};
use crate::scale::Scale;

/// Each subscriber reads seldom, and many messages have to be delivered for each that is published: so
/// that the load costs little, and leaves nearly two processors to the server that has them.
const PERIOD: Duration = Duration::from_millis(200);

/// As much as can come meanwhile.
const WINDOW: u64 = 5_000;

/// Enough for there always to be some to publish to.
const TOPICS: u32 = 50;

pub(super) fn tests(scale: Scale) -> Vec<Test> {
    vec![Test {
        name: "cores",
        about: format!(
            "Flat out, with the server on one processor and on two: {} subscribers, of which each reads \
             every 200 ms what has come, and 8 publishers. With one topic for all, a server may send \
             several messages in one write, the more of them the later it comes to it, and then has less to \
             do; with {TOPICS}, a topic has its next message when its first subscriber has got the last, so \
             that nearly each is a write of its own. The generator has what is left of {} processors.",
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
        cases: vec!["1 topic".to_owned(), format!("{TOPICS} topics")],
        takes: |peer| (peer.is_ours() || peer.is_floor()) && processors().len() > 1,
        run: Box::new(move |peer, case| {
            let (topics, pace) = [(1, Pace::Window(WINDOW)), (TOPICS, Pace::Topicwise)][case];
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
        load.be_lazy(PERIOD);
        let before = server.cpu();
        let driven = load.drive(pace, scale.publishing)?;
        let took = driven.took.as_secs_f64();
        let percent = |time: Duration| time.as_secs_f64() * 100.0 / took;
        Ok(vec![
            driven.delivered as f64 / took,
            percent(server.cpu().saturating_sub(before)),
            percent(driven.own),
        ])
    })();
    use_processors(&all);
    found
}
