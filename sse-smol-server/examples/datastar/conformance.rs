//! The endpoint of Datastar's SDK test suite, which sends the events that a request describes.
//!
//! ```text
//! go run github.com/starfederation/datastar/sdk/tests/cmd/datastar-sdk-tests@latest -v
//! ```

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use sse_smol_server::datastar::{
    ElementPatchMode, ExecuteScript, Namespace, PatchElements, PatchSignals, read_signals,
};
use sse_smol_server::sse_proto::EventId;
use sse_smol_server::{Error, Frame, Request};

#[derive(Deserialize)]
struct Input {
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event_id: Option<String>,
    retry_duration: Option<u64>,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Kind {
    PatchElements {
        #[serde(default)]
        elements: String,
        selector: Option<String>,
        #[serde(default)]
        mode: String,
        #[serde(default)]
        use_view_transition: bool,
        #[serde(default)]
        namespace: String,
    },
    PatchSignals {
        #[serde(default)]
        signals: Value,
        #[serde(rename = "signals-raw")]
        raw: Option<String>,
        #[serde(default)]
        only_if_missing: bool,
    },
    ExecuteScript {
        script: String,
        auto_remove: Option<bool>,
        #[serde(default)]
        attributes: Map<String, Value>,
    },
}

pub(super) async fn serve(mut request: Request) -> Result<(), Error> {
    let Input { events } = read_signals(&mut request).await?;
    let frames: Vec<Frame> = events.iter().map(Event::frame).collect::<Result<_, _>>()?;
    request.open().await?.send_all(frames).await
}

/// Adds the fields that all events have, and encodes the event.
macro_rules! frame {
    ($self:ident, $event:expr) => {{
        let mut event = $event;
        if let Some(id) = &$self.event_id {
            event = event.with_id(EventId::new(id)?);
        }
        if let Some(retry) = $self.retry_duration {
            event = event.with_retry(Duration::from_millis(retry));
        }
        Ok(event.into())
    }};
}

impl Event {
    fn frame(&self) -> Result<Frame, Error> {
        match &self.kind {
            Kind::PatchElements { elements, selector, mode, use_view_transition, namespace } => {
                let mut event = PatchElements::new(elements)
                    .with_mode(mode_of(mode)?)
                    .with_view_transition(*use_view_transition)
                    .with_namespace(namespace_of(namespace)?);
                if let Some(selector) = selector {
                    event = event.with_selector(selector);
                }
                frame!(self, event)
            }
            Kind::PatchSignals { signals, raw, only_if_missing } => {
                let event = match raw {
                    Some(raw) => PatchSignals::new(raw),
                    None => PatchSignals::from_value(signals)?,
                };
                frame!(self, event.with_only_if_missing(*only_if_missing))
            }
            Kind::ExecuteScript { script, auto_remove, attributes } => {
                let mut event = ExecuteScript::new(script);
                if let Some(auto_remove) = auto_remove {
                    event = event.with_auto_remove(*auto_remove);
                }
                for (name, value) in attributes {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    event = event.with_attribute(name, value)?;
                }
                frame!(self, event)
            }
        }
    }
}

fn mode_of(name: &str) -> Result<ElementPatchMode, Error> {
    Ok(match name {
        "" | "outer" => ElementPatchMode::Outer,
        "inner" => ElementPatchMode::Inner,
        "replace" => ElementPatchMode::Replace,
        "prepend" => ElementPatchMode::Prepend,
        "append" => ElementPatchMode::Append,
        "before" => ElementPatchMode::Before,
        "after" => ElementPatchMode::After,
        "remove" => ElementPatchMode::Remove,
        _ => return Err(Error::Failed(format!("no such mode: {name}").into())),
    })
}

fn namespace_of(name: &str) -> Result<Namespace, Error> {
    Ok(match name {
        "" | "html" => Namespace::Html,
        "svg" => Namespace::Svg,
        "mathml" => Namespace::MathMl,
        _ => return Err(Error::Failed(format!("no such namespace: {name}").into())),
    })
}
