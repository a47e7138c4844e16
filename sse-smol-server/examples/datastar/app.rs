//! The page, its state, and the routes that it uses.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use sse_smol_server::datastar::{
    ElementPatchMode, ExecuteScript, PatchElements, PatchSignals, read_signals,
};
use sse_smol_server::http::header::{CONTENT_TYPE, HeaderValue};
use sse_smol_server::http::{Method, StatusCode};
use sse_smol_server::sse_proto::OwnedEvent;
use sse_smol_server::{
    Error, Frame, Request, RequestError, Response, Start, TopicError, Topics, TopicsConfig,
};

const PAGE: &str = include_str!("page.html");
const CDN: &str = "https://cdn.jsdelivr.net/gh/starfederation/datastar@1.0.1/bundles/datastar.js";
const TOPIC: &str = "page";

/// The maximum number of items in the list, and of bytes in one.
const MAX_ITEMS: usize = 20;
const MAX_ITEM: usize = 200;

pub(crate) struct App {
    script: Option<Vec<u8>>,
    topics: Topics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    count: u64,
    /// The items as HTML elements, the oldest first.
    items: Vec<String>,
}

/// The signals of the page that the server reads.
#[derive(Deserialize)]
struct Signals {
    text: String,
}

impl App {
    /// Creates the app, with the script of Datastar unless the page loads it from a CDN.
    pub(crate) fn new(script: Option<Vec<u8>>) -> Result<Self, TopicError> {
        let topics = Topics::new(TopicsConfig::default())?;
        Ok(Self { script, topics, state: Mutex::default() })
    }

    pub(crate) async fn serve(&self, request: Request) -> Result<(), Error> {
        match request.path() {
            "/" => request.respond(self.page()).await,
            "/datastar.js" => request.respond(self.script()).await,
            "/feed" => self.feed(request).await,
            "/count" => self.count(request).await,
            "/add" => self.add(request).await,
            _ => {
                request
                    .respond(RequestError::new(StatusCode::NOT_FOUND, "No such page.").response())
                    .await
            }
        }
    }

    fn page(&self) -> Response {
        let script = if self.script.is_some() { "/datastar.js" } else { CDN };
        let page = PAGE.replace("SCRIPT", script);
        with_type(page.into_bytes(), "text/html; charset=utf-8")
    }

    fn script(&self) -> Response {
        match &self.script {
            Some(script) => with_type(script.clone(), "text/javascript; charset=utf-8"),
            None => RequestError::new(
                StatusCode::NOT_FOUND,
                "The page loads the script from elsewhere.",
            )
            .response(),
        }
    }

    /// Sends the state, and then all changes.
    async fn feed(&self, request: Request) -> Result<(), Error> {
        request.allow(&[Method::GET])?;
        // Both without waiting in between, so that each change is either in the state or follows.
        let subscription = self.topics.subscribe(&[TOPIC], Start::Latest).await?;
        let first = self.state().frames();
        request.open_with(first).await?.follow(subscription).await
    }

    /// Increments the counter of all pages.
    async fn count(&self, request: Request) -> Result<(), Error> {
        request.allow(&[Method::POST])?;
        let count = {
            let mut state = self.state();
            state.count += 1;
            state.count
        };
        let patch = PatchSignals::new(format!("{{\"count\":{count}}}"));
        self.topics.publish(TOPIC, &OwnedEvent::from(patch)).await?;
        let note = format!("<p id=\"note\">You counted to {count}.</p>");
        request.open().await?.send(PatchElements::new(note)).await
    }

    /// Appends an item to the list of all pages.
    async fn add(&self, mut request: Request) -> Result<(), Error> {
        request.allow(&[Method::POST])?;
        let Signals { text: item } = read_signals(&mut request).await?;
        if item.trim().is_empty() || item.len() > MAX_ITEM {
            let line = format!("An item has 1 to {MAX_ITEM} bytes.");
            return request
                .respond(RequestError::new(StatusCode::BAD_REQUEST, &line).response())
                .await;
        }
        let item = format!("<li>{}</li>", escape(&item));
        let drops_oldest = self.state().push(item.clone());
        let patch =
            PatchElements::new(item).with_selector("#list").with_mode(ElementPatchMode::Append);
        self.topics.publish(TOPIC, &OwnedEvent::from(patch)).await?;
        // Datastar reports an error for a selector without a match.
        if drops_oldest {
            let surplus = format!("#list li:nth-last-child(n + {})", MAX_ITEMS + 1);
            let removal = PatchElements::remove(surplus);
            self.topics.publish(TOPIC, &OwnedEvent::from(removal)).await?;
        }

        // This page's field is cleared, and focused again.
        let mut stream = request.open().await?;
        stream.send(PatchSignals::new(r#"{"text":""}"#)).await?;
        stream.send(ExecuteScript::new("document.querySelector('#text').focus()")).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Appends an item. Returns whether the oldest one was dropped for it.
    fn push(&mut self, item: String) -> bool {
        let is_full = self.items.len() == MAX_ITEMS;
        if is_full {
            self.items.remove(0);
        }
        self.items.push(item);
        is_full
    }

    /// Returns events that bring a page to this state.
    fn frames(&self) -> [Frame; 2] {
        let count = format!("{{\"count\":{}}}", self.count);
        let list = format!("<ul id=\"list\">{}</ul>", self.items.join("\n"));
        [PatchSignals::new(count).into(), PatchElements::new(list).into()]
    }
}

/// Escapes text for the content of an HTML element.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn with_type(body: Vec<u8>, content_type: &'static str) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
