//! The deletion of topics.
//!
//! A deletion is a message of the topic, so that all servers see it at its place among the events.
//! It names the last event that it deletes, and is only stored directly after that. Then the
//! messages before it are removed. If that fails, readers skip them, and remove them when they find
//! them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::append::unique_id;
use super::failure::{Failure, WRONG_LAST_SEQUENCE};
use super::message::{self, Kind};
use super::position;
use super::stream::Shared;
use crate::storage::StorageError;

impl Shared {
    /// Deletes a topic: see [`Storage::delete`](crate::storage::Storage::delete).
    pub(super) async fn delete(
        self: Arc<Self>,
        topic: Arc<str>,
        until: Instant,
    ) -> Result<Option<u64>, StorageError> {
        let subject = self.subject(&topic);
        let (salt, message_id) = (position::new_salt(), unique_id());
        let _reader = self.deleted().reader();
        let sequence = loop {
            match self.try_delete(&subject, salt, &message_id, until).await {
                Ok(None) => return Ok(None),
                Ok(Some(sequence)) => break sequence,
                // An event was published meanwhile.
                Err(Failure::Refused(WRONG_LAST_SEQUENCE, _)) if Instant::now() < until => {}
                Err(failure) if failure.is_lost() && self.pause(until).await => {}
                Err(failure) => return Err(failure.into()),
            }
        };
        self.known().remove(&topic);
        self.deleted().insert(&topic, sequence);
        if let Err(failure) = self.purge(&subject, sequence, until).await {
            log::warn!("NATS: deleted events of {subject} are removed later: {failure}");
        }
        Ok(Some(position::at(sequence, salt)))
    }

    /// Publishes the deletion once. Returns its sequence, or `None` if there is nothing to delete.
    async fn try_delete(
        &self,
        subject: &str,
        salt: u32,
        message_id: &str,
        until: Instant,
    ) -> Result<Option<u64>, Failure> {
        self.confirm(until).await?;
        self.caught_up(until).await?;
        let Some(last) = self.last(subject, until).await? else { return Ok(None) };
        if matches!(last.kind(), Kind::Deletion(_)) {
            // Its answer may have been lost in an attempt before this one.
            let is_own = last.salt() == salt && last.message_id() == Some(message_id);
            return Ok(is_own.then_some(last.sequence));
        }
        let mut headers = message::headers(&self.api.stream, salt, message_id);
        message::set_deleted(&mut headers, last.position());
        message::expect_last(&mut headers, last.sequence);
        let seen = self.progress.seen();
        let ack = self.api.publish(subject, headers, Bytes::new(), until).await?;
        self.check_ack(ack, seen, until).await?;
        self.progress.assigned(ack.sequence);
        Ok(Some(ack.sequence))
    }
}
