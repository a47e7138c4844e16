//! The creation of the stream.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::api::Api;
use super::config::NatsConfig;
use super::failure::Failure;
use super::info::{Info, settings};

/// The minimum time for which a server waits before it creates a stream that has been deleted. The
/// maximum is twice as long.
const RECREATION_DELAY: Duration = Duration::from_secs(1);

/// The time between two attempts to find the stream meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// Returns the state of the stream, which is created if it does not exist, and whether it was.
pub(super) async fn find_or_create(
    api: &Api,
    config: &NatsConfig,
    until: Instant,
) -> Result<(Info, bool), Failure> {
    if let Some(info) = find(api, until).await? {
        return Ok((info, false));
    }
    let operation = format!("STREAM.CREATE.{}", api.stream);
    match api.call(&operation, &settings(config), until).await {
        Ok(reply) => Ok((read(&reply)?, true)),
        // Another server may have been faster: the name or the subjects are in use.
        Err(failure @ Failure::Refused(..)) => {
            find(api, until).await?.map(|info| (info, false)).ok_or(failure)
        }
        Err(failure) => Err(failure),
    }
}

/// Returns the state of the stream, if it exists.
pub(super) async fn find(api: &Api, until: Instant) -> Result<Option<Info>, Failure> {
    match api.info(None, 0, until).await {
        Ok(reply) => read(&reply).map(Some),
        Err(Failure::NotFound(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Reads the description of the stream.
pub(super) fn read(reply: &Value) -> Result<Info, Failure> {
    let unknown = || Failure::Lost("the description of the stream cannot be read".to_owned());
    Info::read(reply).ok_or_else(unknown)
}

/// Creates the stream after it has been deleted, unless another program does.
///
/// Version 2.9 of the engine reports the deletion to consumers before it removes the files of the
/// stream. If the stream is created again too early, its new files are removed as well, and it
/// loses what it stores. So one task waits before it creates the stream, and looks for a
/// replacement meanwhile.
///
/// `creating` is locked by the task that does this.
pub(super) async fn create_again(
    api: &Api,
    config: &NatsConfig,
    creating: &Mutex<()>,
    until: Instant,
) -> Result<Info, Failure> {
    let deleted = || Failure::Lost("the stream was deleted".to_owned());
    let creating = timeout_at(until, creating.lock()).await;
    let _creating = creating.map_err(|_| deleted())?;
    let create_at = Instant::now() + RECREATION_DELAY.mul_f64(1.0 + fastrand::f64());
    while Instant::now() < create_at {
        if let Some(info) = find(api, until).await? {
            return Ok(info);
        }
        if Instant::now() + PAUSE >= until {
            return Err(deleted());
        }
        sleep(PAUSE).await;
    }
    let (info, is_new) = find_or_create(api, config, until).await?;
    if is_new {
        log::warn!("NATS: the stream {} was gone; created it again", config.stream);
    }
    Ok(info)
}
