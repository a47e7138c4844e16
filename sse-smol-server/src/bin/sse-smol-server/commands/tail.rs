//! The command `tail`, which prints the events of a stream.

use std::error::Error;
use std::time::Duration;

use http::header::{
    ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PRAGMA,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, Method};
use serde::Serialize;
use smol::block_on;
use sse_proto::{ClientConfig, Decoder, EventTooLarge, Rejected};

use super::output::{Failure, print, push_visible, report};
use super::target::{FORMS, target};
use crate::client::{EventSource, Item, Refused, Request, Url};
use crate::numbers::at_least;

/// Print the events of a stream as they arrive; reconnect and resume when it breaks off
#[derive(Debug, clap::Args)]
#[command(after_help = "Each event is a line of its type, its ID in brackets, and its data, of \
                        which further lines are indented. What happens to the connection is \
                        reported on standard error.\n\n\
                        Exit codes: 0 if the server ended the stream with status 204, or after \
                        --count events; 1 if the server refused the request or sent no event \
                        stream; 2 for an invalid command line; 3 if the first connection failed. \
                        Later ones are made again until they succeed.")]
pub(crate) struct Tail {
    #[arg(help = format!("Stream to print: {FORMS}"), value_parser = target)]
    url: Url,

    /// ID of the event to begin after; earliest for all events that the server holds
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = last_event_id)]
    last_event_id: String,

    /// Header to send; repeatable
    #[arg(short = 'H', long, value_name = "NAME:VALUE", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,

    /// Print each event as a line of JSON with type, id and data
    #[arg(long, conflicts_with = "raw")]
    json: bool,

    /// Print only the data of each event, unchanged, and a line feed
    #[arg(long)]
    raw: bool,

    /// Exit after this number of events
    #[arg(long, value_name = "EVENTS", value_parser = at_least(1_u64, "without the flag, there is no end"))]
    count: Option<u64>,

    /// Reconnect after this time without a byte; servers send comments while there are no events
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = at_least(1_u64, "a shorter timeout would always expire"))]
    read_timeout: u64,
}

/// An event, in the order of its fields in JSON.
#[derive(Serialize)]
struct Event<'e> {
    r#type: &'e str,
    id: &'e str,
    data: &'e str,
}

/// The headers that describe the connection, or that the client sets.
const OWN_HEADERS: [HeaderName; 8] = [
    ACCEPT,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    HeaderName::from_static("last-event-id"),
    PRAGMA,
    TRANSFER_ENCODING,
];

impl Tail {
    pub(super) fn run(self) -> Result<(), Failure> {
        let url = self.url.clone();
        let with_url = |error| format!("{url}: {error}");
        block_on(self.follow()).map_err(|failure| match failure {
            Failure::Refused(error) => Failure::Refused(with_url(error)),
            Failure::Invalid(error) => Failure::Invalid(error),
            Failure::NoResponse(error) => Failure::NoResponse(with_url(error)),
        })
    }

    /// Prints events until the server ends the stream, there are enough of them, or the reader of
    /// the output closes it.
    async fn follow(self) -> Result<(), Failure> {
        let config = ClientConfig::default()
            .with_read_timeout(Some(Duration::from_secs(self.read_timeout)))
            .with_backoff_cap(Some(Duration::from_secs(30)))
            .with_jitter(true)
            .with_honour_retry_after(true);
        let mut headers = HeaderMap::new();
        for (name, value) in &self.header {
            headers.append(name, value.clone());
        }
        let request = Request::new(self.url.clone(), Method::GET, headers, Vec::new());
        let mut source = EventSource::new(request, config, &self.last_event_id)
            .map_err(|error| Failure::Invalid(error.to_string()))?;
        let mut was_open = false;
        let mut left = self.count.unwrap_or(u64::MAX);
        while let Some(item) = source.next().await {
            match item {
                Item::Open => {
                    was_open = true;
                    report(format_args!("connected"));
                }
                Item::Error(error) => {
                    let line = judge(&*error, source.is_closed(), was_open)?;
                    report(format_args!("{line}"));
                }
                Item::Comment(_) => {}
                Item::Event { event_type, data, last_event_id } => {
                    let event = Event { r#type: &event_type, id: &last_event_id, data: &data };
                    left -= 1;
                    if !print(self.form(&event).as_bytes())? || left == 0 {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns an event in its printed form.
    fn form(&self, event: &Event<'_>) -> String {
        if self.raw {
            return format!("{}\n", event.data);
        }
        if self.json {
            let json = serde_json::to_string(event).expect("an event can be serialized");
            return format!("{json}\n");
        }
        let mut line = String::new();
        push_visible(&mut line, event.r#type);
        if !event.id.is_empty() {
            line.push_str(" [");
            push_visible(&mut line, event.id);
            line.push(']');
        }
        for (n, data) in event.data.split('\n').enumerate() {
            line.push_str(if n == 0 { " " } else { "\n  " });
            push_visible(&mut line, data);
        }
        line.push('\n');
        line
    }
}

/// Returns the line that reports an error after which `tail` continues, or ends successfully.
///
/// # Errors
///
/// The failure with which `tail` ends otherwise.
fn judge(
    error: &(dyn Error + Send + Sync + 'static),
    is_closed: bool,
    was_open: bool,
) -> Result<String, Failure> {
    let refused = error.downcast_ref::<Refused>();
    if is_closed {
        return match refused.map(|refused| refused.rejected) {
            Some(Rejected::Status(204)) => Ok(format!("the stream has ended: {error}")),
            _ => Err(Failure::Refused(error.to_string())),
        };
    }
    if error.is::<EventTooLarge>() {
        return Ok(error.to_string());
    }
    // A response, also one with a `Retry-After`, shows that the address is correct.
    if was_open || refused.is_some() {
        return Ok(format!("{error}; reconnecting"));
    }
    Err(Failure::NoResponse(error.to_string()))
}

/// Parses an ID that can be sent.
fn last_event_id(text: &str) -> Result<String, String> {
    Decoder::new().set_last_event_id(text).map_err(|error| error.to_string())?;
    if HeaderValue::from_str(text).is_err() {
        return Err("contains a control character, which cannot be sent in a header".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses the name and the value of a header.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("there is no colon after the name")?;
    let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
    if OWN_HEADERS.contains(&name) {
        let hint = if name == "last-event-id" { ": use --last-event-id" } else { "" };
        return Err(format!("{name} is set by this command{hint}"));
    }
    let value = value.trim_matches([' ', '\t']);
    let value = value.parse().map_err(|_| format!("the value of {name} is invalid"))?;
    Ok((name, value))
}
