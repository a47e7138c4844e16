//! Where the events of topics are kept: in memory, in a file, or on NATS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use smol::block_on;
use sse_smol_server::storage::disk::{DiskConfig, DiskStorage, Sync};
use sse_smol_server::storage::{Storage, StorageErrorKind};
use sse_smol_server::{Feed, Topics, TopicsConfig};

#[cfg(feature = "nats")]
use crate::nats::Nats;
use crate::numbers::at_least;

/// The flags for events in a storage.
#[derive(Debug, clap::Args)]
pub(crate) struct Storing {
    /// Keep the events of topics in a file in this directory, which is created if necessary, so
    /// that they survive a restart. The limits on events apply to the file
    #[arg(long, value_name = "DIRECTORY", group = "storage")]
    data: Option<PathBuf>,

    /// When events are written durably: `always`, before a publication is answered, or
    /// `interval=MILLISECONDS`, which takes less CPU time; an unclean end then loses the events
    /// since the last time, and subscribers that resume get a gap event
    #[arg(long, value_name = "WHEN", requires = "data", default_value = "always", value_parser = sync)]
    sync: Sync,

    /// Maximum number of events of each topic that are in memory, too, if there is a storage
    #[arg(long, value_name = "EVENTS", requires = "storage", default_value = "100", value_parser = at_least(1_u32, "the newest event of a topic is always in memory"))]
    window: u32,

    /// If the file is damaged, copy its intact events to a new file, and keep the damaged one under
    /// another name
    #[arg(long, requires = "data")]
    recover: bool,

    #[cfg(feature = "nats")]
    #[command(flatten)]
    nats: Nats,
}

fn sync(text: &str) -> Result<Sync, String> {
    if text == "always" {
        return Ok(Sync::Always);
    }
    let milliseconds = text.strip_prefix("interval=").and_then(|number| number.parse().ok());
    milliseconds
        .filter(|milliseconds| (1..=3_600_000).contains(milliseconds))
        .map(|milliseconds| Sync::Interval(Duration::from_millis(milliseconds)))
        .ok_or_else(|| "must be always, or interval= and 1 to 3600000 milliseconds".to_owned())
}

impl Storing {
    /// Opens the topics, and their feed if they are in a storage.
    pub(crate) fn open(&self, config: TopicsConfig) -> Result<(Topics, Option<Feed>), String> {
        let Some(storage) = self.storage(&config)? else {
            let topics = Topics::new(config).map_err(|error| error.to_string())?;
            return Ok((topics, None));
        };
        let window = usize::try_from(self.window).unwrap_or(usize::MAX);
        let history = config.history.with_events(window.min(config.history.events));
        let opened = block_on(Topics::open(config.with_history(history), storage));
        let (topics, feed) = opened.map_err(|error| error.to_string())?;
        Ok((topics, Some(feed)))
    }

    fn storage(&self, config: &TopicsConfig) -> Result<Option<Arc<dyn Storage>>, String> {
        #[cfg(feature = "nats")]
        if let Some(storage) = self.nats.open(config) {
            return Ok(Some(Arc::new(storage?)));
        }
        let Some(directory) = &self.data else { return Ok(None) };
        let mut of_file = DiskConfig::new(directory);
        of_file.sync = self.sync;
        of_file.history = config.history;
        of_file.max_bytes = config.max_bytes;
        of_file.max_topics = config.max_topics;
        of_file.recover = self.recover;
        let storage = DiskStorage::open(of_file).map_err(|error| {
            let is_damaged = error.kind() == StorageErrorKind::Damaged;
            let hint = if is_damaged { "; --recover copies its intact events" } else { "" };
            format!("{error}{hint}")
        })?;
        log::info!("{}: {} events", directory.display(), storage.events());
        Ok(Some(Arc::new(storage)))
    }
}
