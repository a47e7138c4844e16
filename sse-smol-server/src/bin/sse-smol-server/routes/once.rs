//! `/async`: two results as they become available, then `end`. A client that reconnects after `end`
//! gets 204.

use std::time::Duration;

use http::Method;
use smol::Timer;
use sse_proto::{Event, EventId, EventType};
use sse_smol_server::{Error, Request};

const END: EventType<'static> = EventType::from_static("end");
const LAST: EventId<'static> = EventId::from_static("end");

pub(super) async fn serve(request: Request) -> Result<(), Error> {
    let seen = match request.last_event_id() {
        Ok(seen) => seen,
        Err(error) => return request.respond(error.response()).await,
    };
    if seen == "end" {
        return request.no_content().await;
    }
    request.allow(&[Method::GET])?;
    let mut stream = request.open().await?;
    stream.send(Event::new(r#"{"result":42}"#)).await?;
    Timer::after(Duration::from_secs(1)).await;
    stream.send(Event::new(r#"{"result":100}"#)).await?;
    stream.send(Event::new("{}").with_type(END).with_id(LAST)).await
}
