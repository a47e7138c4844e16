//! `/counter`: ten events, one per second, and a clean end. A client that reconnects continues
//! after its last event, and gets 204 if that was the last of all.

use std::time::Duration;

use http::Method;
use smol::Timer;
use sse_proto::{Event, EventId, EventType};
use sse_smol_server::{Error, Request};

const COUNTER: EventType<'static> = EventType::from_static("counter");
const DIGITS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

pub(super) async fn serve(request: Request) -> Result<(), Error> {
    let seen = match request.last_event_id() {
        Ok(seen) => seen,
        Err(error) => return request.respond(error.response()).await,
    };
    let next = DIGITS.iter().position(|digit| seen == *digit).map_or(0, |last| last + 1);
    if next == DIGITS.len() {
        return request.no_content().await;
    }
    request.allow(&[Method::GET])?;
    let mut stream = request.open().await?;
    for digit in &DIGITS[next..] {
        if *digit != "0" {
            Timer::after(Duration::from_secs(1)).await;
        }
        let id = EventId::from_static(digit);
        stream.send(Event::new(digit).with_type(COUNTER).with_id(id)).await?;
    }
    Ok(())
}
