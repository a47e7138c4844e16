//! A channel as the body of a stream: each request starts a job in a task of its own, which reports
//! its progress. The job ends when the client leaves.
//!
//! ```text
//! cargo run -p sse-smol-server --example channel
//! curl -N 'http://127.0.0.1:8080/?steps=5'
//! ```
//!
//! An argument is the address to listen on, instead of `127.0.0.1:8080`.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use smol::channel::{self, SendError, Sender};
use smol::{Executor, Timer};
use sse_smol_server::http::StatusCode;
use sse_smol_server::sse_proto::{Event, OwnedEvent, event_type};
use sse_smol_server::{Config, Error, Request, RequestError, Server};

/// What a job sends: events, or an error that ends the stream.
type Report = Result<OwnedEvent, Error>;

async fn run_job(request: Request, executor: &Executor<'static>) -> Result<(), Error> {
    let query = request.query_pairs()?;
    let steps = query
        .only("steps")?
        .map_or(Ok(3), str::parse::<u32>)
        .map_err(|error| RequestError::new(StatusCode::BAD_REQUEST, format!("steps: {error}")))?;
    let mut stream = request.open().await?;
    // A bounded channel slows the job down to the speed of the client.
    let (reports, receiver) = channel::bounded(1);
    let job = async move {
        match job(steps, &reports).await {
            Ok(()) => println!("done"),
            Err(_) => println!("the client has left"),
        }
    };
    executor.spawn(job).detach();
    stream.forward(receiver).await?; // until the job drops its sender
    stream.send(Event::new("").with_type(event_type!("done"))).await
}

/// Reports each step. Fails when the channel is closed, which the end of the handler does.
async fn job(steps: u32, reports: &Sender<Report>) -> Result<(), SendError<Report>> {
    for step in 1..=steps {
        Timer::after(Duration::from_millis(20)).await; // the work
        let report = OwnedEvent::from_json(&json!({ "step": step, "of": steps }));
        reports.send(report.map_err(Error::from)).await?;
    }
    Ok(())
}

fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let server = Server::bind(address, Config::default())?;
    println!("listening on http://{}/", server.local_addr()?);
    let executor = Arc::new(Executor::new());
    let jobs = Arc::clone(&executor);
    let handler = move |request| {
        let jobs = Arc::clone(&jobs);
        async move { run_job(request, &jobs).await }
    };
    server.run(&executor, handler)
}
