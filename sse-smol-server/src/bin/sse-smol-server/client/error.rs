//! Errors of the client, which are only shown or compared.

use std::error::Error;

/// A result whose error may be of any type.
pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
