//! A page of Datastar: a counter and a list, live in all tabs. `/test` is the endpoint of
//! Datastar's SDK test suite.
//!
//! ```text
//! cargo run -p sse-smol-server --example datastar --features datastar
//! ```
//!
//! Then open the link in two tabs. The page loads Datastar from a CDN, or from a file that is named
//! as an argument.

#![forbid(unsafe_code)]

mod app;
mod conformance;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use clap::Parser;
use smol::Executor;
use sse_smol_server::{Config, Server};

use crate::app::App;

/// Serves a page of Datastar.
#[derive(Parser)]
struct Args {
    /// Port to listen on; 0 selects a free port
    #[arg(long, default_value = "7331")]
    port: u16,
    /// File with the script of Datastar; otherwise the page loads it from a CDN
    script: Option<PathBuf>,
}

fn main() -> io::Result<()> {
    let Args { port, script } = Args::parse();
    let script = script.map(fs::read).transpose()?;
    let server = Server::bind((Ipv4Addr::LOCALHOST, port), Config::default())?;
    println!("Listening on http://{}/", server.local_addr()?);
    let app = Arc::new(App::new(script).map_err(io::Error::other)?);
    server.run(&Executor::new(), move |request| {
        let app = Arc::clone(&app);
        async move {
            match request.path() {
                "/test" => conformance::serve(request).await,
                _ => app.serve(request).await,
            }
        }
    })
}
