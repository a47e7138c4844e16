//! `/score`: a random walk from a plain handler, which is polled once for all clients that request
//! `?stream=true`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sse_smol_server::{Polled, PolledConfig};

use super::reply::typed;

pub(super) fn source() -> Polled {
    let config = PolledConfig::default().with_interval(Duration::from_millis(500));
    let score = Arc::new(AtomicI64::new(50));
    Polled::new(config, move || {
        let score = Arc::clone(&score);
        async move {
            let step = fastrand::i64(-5..=5);
            let new = (score.load(Ordering::Relaxed) + step).clamp(0, 100);
            score.store(new, Ordering::Relaxed);
            Ok(typed("application/json", format!(r#"{{"score":{new}}}"#).into_bytes()))
        }
    })
}
