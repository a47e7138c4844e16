//! The state that all connections of a server share.

use std::io;
use std::sync::Arc;

use crate::connection::budget::BodyBudget;
use crate::net::admission::Admission;
use crate::net::reactor::Reactor;
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
    pub(crate) reactor: Arc<Reactor>,
}

impl Shared {
    /// Creates the state of a server without connections.
    ///
    /// # Errors
    ///
    /// Returns the system's error if it cannot create a reactor.
    pub(crate) fn new(config: Config) -> io::Result<Arc<Self>> {
        let metrics = Arc::<Metrics>::default();
        let admission = Admission::new(metrics.connections.clone());
        let bodies = BodyBudget::new(config.max_pending_body_bytes);
        Ok(Arc::new(Self {
            config: config.in_range(),
            drain: Drain::default(),
            metrics,
            admission,
            timers: Arc::default(),
            bodies,
            reactor: Reactor::new()?,
        }))
    }
}
