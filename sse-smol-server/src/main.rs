//! The server that people run.

mod args;
mod guard;
mod routes;
mod watch;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use async_signal::{Signal, Signals};
use clap::Parser as _;
use smol::future::FutureExt as _;
use smol::stream::StreamExt as _;
use smol::{Executor, block_on, channel};
use sse_smol_server::Server;

use crate::args::Args;
use crate::routes::App;

fn main() -> ExitCode {
    let args = Args::parse();
    // What the watcher tells of each directory that goes is of no use to those who removed it.
    let log = env_logger::Env::default().default_filter_or("info,notify=warn");
    env_logger::Builder::from_env(log).format_target(false).init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    raise_descriptor_limit();
    let mut signals = Signals::new([Signal::Int, Signal::Term])
        .map_err(|error| format!("cannot listen to signals: {error}"))?;
    let in_use = |error| {
        format!("cannot listen on {}: {error}; --listen chooses another address", args.listen)
    };
    let server = Server::bind(args.listen, args.server_config()).map_err(in_use)?;
    let address = server.local_addr().map_err(in_use)?;
    let app = Arc::new(App::new(args, address, &server)?);
    // Whoever started the server may have stopped reading; that is no reason not to serve.
    let _ = write!(
        io::stdout(),
        "Listening on http://{address}/\n\
         Open the page in a browser, or: curl -N http://{address}/counter\n"
    );

    let executor = Executor::new();
    let (running, stopped) = channel::bounded::<()>(1);
    thread::scope(|scope| {
        // This thread is one of them: it accepts, and serves what it accepted.
        for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| block_on(executor.run(stopped.recv())));
        }
        let drain = server.drain();
        // On a task, and so not polled whenever this thread is woken.
        let until_second_signal = executor.spawn(async move {
            signals.next().await;
            log::info!("draining; a second signal stops at once");
            drain.begin();
            signals.next().await;
        });
        let serve = server.serve(&executor, move |request| Arc::clone(&app).handle(request));
        block_on(executor.run(serve.or(until_second_signal)));
        log::info!("stopping");
        drop(running);
    });
    // What is still open ends with the executor.
    Ok(())
}

/// A connection is a descriptor, and the usual limit is for programs that open files.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::debug!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}
