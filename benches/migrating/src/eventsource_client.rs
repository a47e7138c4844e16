//! eventsource-client: a client that reconnects, over a transport.

use std::error::Error;

use futures_util::StreamExt as _;
use launchdarkly_sdk_transport::HttpTransport;

/// Passes the data of each event to `on_event`, until a server sends `[DONE]`.
///
/// # Errors
///
/// The URL or the header is invalid.
pub async fn before(
    transport: impl HttpTransport,
    url: &str,
    mut on_event: impl FnMut(&str),
) -> Result<(), Box<dyn Error>> {
    use eventsource_client::{Client as _, ClientBuilder, SSE};

    let client = ClientBuilder::for_url(url)?
        .header("Authorization", "Bearer secret")?
        .last_event_id("41".to_owned())
        .build_with_transport(transport);
    let mut items = client.stream();
    while let Some(item) = items.next().await {
        match item {
            Ok(SSE::Connected(_)) => println!("connected"),
            Ok(SSE::Comment(_)) => {}
            Ok(SSE::Event(event)) if event.data == "[DONE]" => break,
            Ok(SSE::Event(event)) => on_event(&event.data),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}

/// The same with [`sse_proto::EventSource`] and reqwest.
///
/// # Errors
///
/// An event is not UTF-8.
pub async fn after(
    http_client: &reqwest::Client,
    url: &str,
    mut on_event: impl FnMut(&str),
) -> Result<(), Box<dyn Error>> {
    use std::time::Duration;

    use sse_proto::{ClientConfig, ConnectRequest, Decoder, EventSource};

    let connect = |request: ConnectRequest<'_>| {
        let request = http_client.get(url).bearer_auth("secret").headers(request.header_map());
        async {
            let response = request.send().await?.error_for_status()?; // reconnects after an error
            Ok::<_, reqwest::Error>(http::Response::from(response).into())
        }
    };
    let config = ClientConfig::default()
        .with_reconnection_time(Duration::from_secs(1)) // as in eventsource-client
        .with_backoff_cap(Some(Duration::from_secs(60)))
        .with_jitter(true);
    let mut decoder = Decoder::new();
    decoder.set_last_event_id("41")?;
    let mut source = EventSource::with_decoder(config, decoder, connect, tokio::time::sleep);
    while let Some(event) = source.next().await {
        match event {
            Ok(event) if event.data() == "[DONE]" => break,
            Ok(event) => on_event(&event.data().to_str_lossy()),
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
