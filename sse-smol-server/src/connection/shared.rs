//! The state that all connections of a server share.

use std::sync::Arc;

use crate::connection::budget::BodyBudget;
use crate::net::admission::Admission;
use crate::net::timers::Timers;
use crate::{Config, Drain, Metrics};

/// The state that all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) drain: Drain,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) admission: Admission,
    pub(crate) timers: Arc<Timers>,
    pub(crate) bodies: Arc<BodyBudget>,
}
