//! The routes of the binary, one file for each.

mod clock;
mod counter;
mod files;
mod health;
mod hotreload;
mod once;
mod page;
mod publications;
mod reply;
mod score;
mod system;
mod topics;

use std::sync::Arc;

use http::StatusCode;
use sse_smol_server::{Metrics, Polled, Request, RequestError, Server, Topics};

use crate::args::Args;
use crate::guard::Guard;
use crate::publishing::Publishing;
use crate::stopping::Stopping;

use self::files::Files;
use self::hotreload::HotReload;
use self::reply::Answer;

/// The routes, with the access rules before them.
#[derive(Debug)]
pub(crate) struct App {
    guard: Guard,
    /// The path below which the page of streams and the demos are.
    demos: &'static str,
    topics: Topics,
    stopping: Stopping,
    metrics: Arc<Metrics>,
    score: Polled,
    system: Polled,
    files: Option<Files>,
    hot_reload: HotReload,
}

impl App {
    pub(crate) fn new(
        args: &Args,
        publishing: Publishing,
        topics: Topics,
        stopping: Stopping,
        server: &Server,
    ) -> Result<Self, String> {
        let metrics = server.metrics();
        metrics.watch(&topics);
        Ok(Self {
            guard: Guard::new(args, publishing),
            demos: page_path(args).trim_end_matches('/'),
            score: score::source(),
            system: system::source(Arc::clone(&metrics), topics.clone()),
            files: args.serve.clone().map(|root| Files::new(root, args.spa.clone())),
            hot_reload: HotReload::new(args, server.drain())?,
            topics,
            stopping,
            metrics,
        })
    }

    /// Checks a request and routes it.
    pub(crate) fn handle(self: Arc<Self>, mut request: Request) -> Answer {
        if let Some(answer) = self.guard.check(&mut request) {
            return Box::pin(request.respond(answer));
        }
        match request.path().strip_prefix(self.demos) {
            Some("" | "/") => return Box::pin(page::serve(request, self.demos)),
            Some("/counter") => return Box::pin(counter::serve(request)),
            Some("/async") => return Box::pin(once::serve(request)),
            Some("/clock") => return Box::pin(clock::serve(request)),
            Some("/score") => return Box::pin(async move { self.score.serve(request).await }),
            _ => {}
        }
        match request.path() {
            "/metrics.json" => Box::pin(async move { self.system.serve(request).await }),
            "/topics" => topics::serve_all(&self.topics, request),
            "/healthz" => Box::pin(health::healthz(request)),
            "/readyz" => {
                Box::pin(health::readyz(self.topics.clone(), self.stopping.has_begun(), request))
            }
            path if path.starts_with(page::BELOW) => Box::pin(page::serve_file(request)),
            "/__hotreload" => Box::pin(async move { self.hot_reload.serve(request).await }),
            "/__hotreload.js" => Box::pin(async move { self.hot_reload.script(request).await }),
            "/metrics" => Box::pin(health::metrics(Arc::clone(&self.metrics), request)),
            path if path.starts_with(topics::BELOW) => {
                topics::serve(&self.topics, &self.guard, request)
            }
            _ => Box::pin(async move {
                if let Some(files) = &self.files {
                    return files.serve(request).await;
                }
                let line = "There is nothing at this path. The page / lists the routes.";
                request.respond(RequestError::new(StatusCode::NOT_FOUND, line).response()).await
            }),
        }
    }
}

/// Returns the path of the page of streams, below which the demos are. If files are served, all
/// other paths than those of the API are left to them.
pub(crate) const fn page_path(args: &Args) -> &'static str {
    if args.serve.is_some() { "/__sse" } else { "/" }
}
