//! Response bodies that are sent in pieces.

use std::sync::Arc;

use crate::Error;
use crate::connection::Connection;

/// A writer for a response body that is sent in pieces: see
/// [`Request::start_response`](crate::Request::start_response).
#[derive(Debug)]
pub struct BodyWriter {
    connection: Arc<Connection>,
    has_body: bool,
    /// The number of bytes left to send. A copy of the connection's count, since the connection may
    /// serve another request while this still exists.
    remaining: u64,
    /// Whether a piece has been queued.
    begun: bool,
}

impl BodyWriter {
    pub(crate) const fn new(connection: Arc<Connection>, has_body: bool, remaining: u64) -> Self {
        Self { connection, has_body, remaining, begun: false }
    }

    /// Returns the number of bytes of the body that have not been sent. It is 0 from the start if
    /// the response has no body: if the request method is `HEAD`, or the status is 204 or 304.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Sends the next piece, and returns when the kernel has accepted all of it, which is the
    /// backpressure. Pieces of a response without a body are discarded.
    ///
    /// If the future is dropped, the piece is sent whole or not at all, and counts in
    /// [`remaining`](Self::remaining) accordingly.
    ///
    /// # Errors
    ///
    /// Returns an [`Error`] if the peer is gone, or if the piece is longer than the rest of the
    /// body. Such a piece is not sent.
    pub async fn send(&mut self, piece: impl Into<Vec<u8>>) -> Result<(), Error> {
        let piece = piece.into();
        let length = piece.len() as u64;
        if !self.has_body || length == 0 {
            return Ok(());
        }
        if length > self.remaining {
            let remaining = self.remaining;
            let why =
                format!("a piece of {length} bytes exceeds the {remaining} bytes left of the body");
            return Err(Error::Failed(why.into()));
        }
        if self.begun {
            // A piece whose send was dropped may be queued. The head is not flushed: it goes out
            // with the first piece.
            self.connection.flush().await?;
        }
        self.begun = true;
        self.remaining -= length;
        self.connection.push_piece(piece);
        self.connection.flush().await
    }
}
