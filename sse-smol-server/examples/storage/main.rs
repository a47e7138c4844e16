//! Topics on a storage of one's own: publishes events, "restarts" with empty memory, and reads them
//! from the storage.
//!
//! ```sh
//! cargo run --example storage
//! ```

mod log;
mod memory;

use std::sync::Arc;

use smol::Executor;
use sse_smol_server::storage::Storage;
use sse_smol_server::{History, Publication, Start, TopicError, Topics, TopicsConfig};

use memory::MemoryStorage;

fn main() -> Result<(), TopicError> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new(1000));
    let executor = Executor::new();
    smol::block_on(executor.run(async {
        // Memory holds ten events of each topic, the storage a thousand.
        let history = History::default().with_events(10);
        let config = TopicsConfig::default().with_history(history);
        for run in 1..=2 {
            let (topics, feed) = Topics::open(config.clone(), Arc::clone(&storage)).await?;
            executor.spawn(feed).detach();
            for n in 0..50 {
                let data = format!("event {n} of run {run}");
                let new = Publication::new(&data);
                topics.publish("news", new).await?;
            }
        }
        let (topics, feed) = Topics::open(config, storage).await?;
        executor.spawn(feed).detach();
        let mut subscription = topics.subscribe(&["news"], Start::Earliest).await?;
        let mut text = String::new();
        while !text.contains("event 49 of run 2") {
            for frame in subscription.next_batch().await.expect("the storage holds all events") {
                text.push_str(&String::from_utf8_lossy(frame.encoded()));
            }
        }
        print!("{text}");
        Ok(())
    }))
}
