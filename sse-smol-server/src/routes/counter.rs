//! `/counter`: ten events, one a second, and a clean end.

use std::time::Duration;

use smol::Timer;
use sse_proto::{Event, EventType};
use sse_smol_server::{End, Request};

const COUNTER: EventType<'static> = EventType::from_static("counter");

pub(super) async fn serve(request: Request) -> Result<(), End> {
    let mut stream = request.open().await?;
    for n in 0..10 {
        if n > 0 {
            Timer::after(Duration::from_secs(1)).await;
        }
        stream.send(Event::new(&n.to_string()).with_type(COUNTER)).await?;
    }
    Ok(())
}
