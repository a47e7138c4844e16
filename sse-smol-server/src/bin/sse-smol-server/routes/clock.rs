//! `/clock`: a periodic stream, which sends the time every second.

use std::time::{Duration, SystemTime};

use http::Method;
use smol::Timer;
use smol::stream::StreamExt as _;
use sse_proto::{Event, EventType};
use sse_smol_server::{Error, Frame, Request};

const TIME: EventType<'static> = EventType::from_static("time");

pub(super) async fn serve(request: Request) -> Result<(), Error> {
    let ticks = Timer::interval(Duration::from_secs(1)).map(|_| {
        let now = httpdate::fmt_http_date(SystemTime::now());
        Frame::from(Event::new(&now).with_type(TIME))
    });
    request.allow(&[Method::GET])?;
    request.open().await?.forward(ticks).await
}
