//! reqwest-eventsource: a client that reconnects, over reqwest.

use std::error::Error;

use futures_util::StreamExt as _;

/// Passes the data of each event to `on_event`, until a server sends `[DONE]`.
///
/// # Errors
///
/// The request cannot be repeated, because its body is a stream.
pub async fn before(
    http_client: &reqwest::Client,
    url: &str,
    mut on_event: impl FnMut(&str),
) -> Result<(), Box<dyn Error>> {
    use reqwest_eventsource::{Event, EventSource};

    let mut source = EventSource::new(http_client.get(url))?;
    while let Some(event) = source.next().await {
        match event {
            Ok(Event::Open) => println!("connected"),
            Ok(Event::Message(event)) if event.data == "[DONE]" => source.close(),
            Ok(Event::Message(event)) => on_event(&event.data),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}

/// The same with [`sse_proto::EventSource`].
///
/// # Errors
///
/// An event is not UTF-8.
pub async fn after(
    http_client: &reqwest::Client,
    url: &str,
    mut on_event: impl FnMut(&str),
) -> Result<(), Box<dyn Error>> {
    use sse_proto::{ClientConfig, ConnectRequest, EventSource};

    let connect = |request: ConnectRequest<'_>| {
        let request = http_client.get(url).headers(request.header_map());
        async { Ok::<_, reqwest::Error>(http::Response::from(request.send().await?).into()) }
    };
    let mut source = EventSource::new(ClientConfig::default(), connect, tokio::time::sleep);
    while let Some(event) = source.next().await {
        match event {
            Ok(event) if event.data() == "[DONE]" => source.close(),
            Ok(event) => on_event(&event.data().to_str_lossy()),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
