//! What the binary serves: one file for each route.

mod clock;
mod counter;
mod health;
mod once;
mod page;
mod score;
mod system;
mod topics;

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use sse_smol_server::{End, Metrics, Polled, Request, Response, Server, Topics, not_allowed, text};

use crate::args::Args;
use crate::guard::Guard;

/// What routes share.
#[derive(Debug)]
pub(crate) struct App {
    guard: Guard,
    topics: Topics,
    metrics: Arc<Metrics>,
    score: Polled,
    system: Polled,
}

impl App {
    pub(crate) fn new(args: &Args, address: SocketAddr, server: &Server) -> Result<Self, String> {
        let (topics, metrics) = (Topics::new(args.topics_config()), server.metrics());
        metrics.watch(&topics);
        Ok(Self {
            guard: Guard::new(args, address)?,
            score: score::source(),
            system: system::source(Arc::clone(&metrics), topics.clone()),
            topics,
            metrics,
        })
    }

    /// Routes a request.
    pub(crate) async fn handle(&self, mut request: Request) -> Result<(), End> {
        if let Some(answer) = self.guard.check(&mut request) {
            return request.respond(answer).await;
        }
        let path = request.path().to_owned();
        match path.as_str() {
            "/" => page::serve(request).await,
            "/counter" => counter::serve(request).await,
            "/async" => once::serve(request).await,
            "/clock" => clock::serve(request).await,
            "/score" => self.score.serve(request).await,
            "/metrics.json" => self.system.serve(request).await,
            "/topics" => topics::serve_all(self, request).await,
            "/healthz" => health::healthz(request).await,
            "/metrics" => health::metrics(self, request).await,
            path => match path.strip_prefix("/topics/") {
                Some(name) => topics::serve(self, name, request).await,
                None => {
                    request
                        .respond(text(StatusCode::NOT_FOUND, "The page / lists what there is."))
                        .await
                }
            },
        }
    }
}

/// Answers `GET` and `HEAD` with a body of this type.
async fn show(request: Request, content_type: &'static str, body: Vec<u8>) -> Result<(), End> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return request.respond(not_allowed("GET, HEAD")).await;
    }
    request.respond(typed(content_type, body)).await
}

fn typed(content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
