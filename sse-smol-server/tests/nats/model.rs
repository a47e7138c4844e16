//! Topics on NATS against the model of topics in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use smol::future::block_on;
use sse_smol_server::History;
use sse_smol_server::storage::Storage;
use sse_smol_server::storage::nats::{NatsConfig, NatsStorage};

use super::engine::with_each;
use super::topics_model::{Backing, operation, run};

/// Without replacements, which the feed notices at some time: `failures.rs` tests them.
#[test]
fn subscribers_get_every_event_once_and_in_order_or_a_gap() {
    with_each(|engine| {
        let streams = AtomicUsize::new(0);
        let config = ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() };
        let input = (1..9_usize, 1..4_usize, any::<bool>(), vec(operation(), 0..80));
        let case = |(events, window, gap_on_lag, operations): (usize, usize, bool, Vec<_>)| {
            let most = events.max(window);
            let mut config = NatsConfig::new(engine.url());
            let stream = format!("stream{}", streams.fetch_add(1, Ordering::Relaxed));
            config.stream.clone_from(&stream);
            config.history = History::default().with_events(most);
            let open = move || -> Arc<dyn Storage> {
                Arc::new(block_on(NatsStorage::open(config.clone())).unwrap())
            };
            let backing = Backing::Durable { open: Box::new(open), has_more_gaps: true };
            run(backing, most, window, gap_on_lag, &operations);
            engine.api(&format!("STREAM.DELETE.{stream}"), "");
            Ok(())
        };
        TestRunner::new(config).run(&input, case).unwrap_or_else(|error| panic!("{error}"));
    });
}
