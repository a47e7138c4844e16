//! The server that people run.

mod routes;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use async_signal::{Signal, Signals};
use clap::Parser;
use smol::future::FutureExt as _;
use smol::stream::StreamExt as _;
use smol::{Executor, block_on, channel};
use sse_smol_server::{Config, Server};

/// A small server for server-sent events.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address and port to listen on; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Send a comment after so many seconds without traffic on a stream; 0 for never
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    keep_alive: Duration,

    /// Answer 408 to a request head that takes longer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    head_timeout: Duration,

    /// Answer 431 to a request head that is larger
    #[arg(long, value_name = "BYTES", default_value = "16384")]
    max_head: usize,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        // A deadline has to be a point in time.
        .filter(|duration| *duration <= Duration::from_secs(365 * 24 * 3600))
        .ok_or_else(|| "must be between 0 and the seconds of a year".to_owned())
}

fn main() -> ExitCode {
    let args = Args::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let config = Config {
        keep_alive: (!args.keep_alive.is_zero()).then_some(args.keep_alive),
        head_timeout: args.head_timeout,
        max_head: args.max_head,
    };
    let mut signals = Signals::new([Signal::Int, Signal::Term])
        .map_err(|error| format!("cannot listen to signals: {error}"))?;
    let in_use = |error| {
        format!("cannot listen on {}: {error}; --listen chooses another address", args.listen)
    };
    let server = Server::bind(args.listen, config).map_err(in_use)?;
    let address = server.local_addr().map_err(in_use)?;
    // Whoever started the server may have stopped reading; that is no reason not to serve.
    let _ = write!(
        io::stdout(),
        "Listening on http://{address}/\n\
         Open the page in a browser, or: curl -N http://{address}/counter\n"
    );

    let executor = Executor::new();
    let (running, stopped) = channel::bounded::<()>(1);
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| block_on(executor.run(stopped.recv())));
        }
        let signal = async {
            signals.next().await;
        };
        block_on(executor.run(signal.or(server.serve(&executor, routes::handle))));
        log::info!("stopping");
        drop(running);
    });
    // What is still open ends with the executor.
    Ok(())
}
