//! The server that people run.

mod args;
mod beneath;
mod guard;
mod host;
mod log_writer;
mod publishing;
mod routes;
mod watch;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use async_signal::{Signal, Signals};
use clap::Parser as _;
use smol::future::FutureExt as _;
use smol::stream::StreamExt as _;
use smol::{Executor, block_on, channel};
use sse_smol_server::Server;

use crate::args::Args;
use crate::log_writer::LogWriter;
use crate::publishing::Publishing;
use crate::routes::App;

/// The time that the last lines of the log may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let args = Args::parse();
    let log = match LogWriter::start() {
        Ok(log) => log,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot start the thread of the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The watcher's lines about removed directories are of no use to those who removed them.
    let level = env_logger::Env::default().default_filter_or("info,notify=warn");
    env_logger::Builder::from_env(level)
        .format_target(false)
        .target(env_logger::Target::Pipe(Box::new(log.clone())))
        .init();
    let of_panics = log.clone();
    panic::set_hook(Box::new(move |panic| {
        let backtrace = Backtrace::capture();
        of_panics.line(&match backtrace.status() {
            BacktraceStatus::Captured => format!("{panic}\n{backtrace}"),
            _ => panic.to_string(),
        });
    }));
    let code = match panic::catch_unwind(AssertUnwindSafe(|| run(&args))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log.line(&format!("error: {error}"));
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    };
    log.finish(LAST_LINES);
    code
}

fn run(args: &Args) -> Result<(), String> {
    if !args.listens_on_loopback() && !args.public {
        return Err(format!(
            "other machines can reach --listen {}, and anyone there could subscribe, list the topics \
             and read the metrics; --public allows that",
            args.listen
        ));
    }
    let publishing = Publishing::new(args)?;
    raise_descriptor_limit();
    let in_use = |error: io::Error| {
        use ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
        let hint = match error.kind() {
            AddrInUse | AddrNotAvailable | PermissionDenied => "; --listen chooses another address",
            _ => "",
        };
        format!("cannot listen on {}: {error}{hint}", args.listen)
    };
    let server = Server::bind(args.listen, args.server_config()).map_err(in_use)?;
    let mut signals =
        Signals::new(signals()).map_err(|error| format!("cannot listen to signals: {error}"))?;
    let address = server.local_addr().map_err(in_use)?;
    let start_up_text = start_up_text(address, args, &publishing);
    let app = Arc::new(App::new(args, publishing, &server)?);
    print(start_up_text);

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

/// Writes to standard output. A pipe that is full or closed neither blocks nor ends the server.
fn print(text: String) {
    let write = move || drop(io::stdout().write_all(text.as_bytes()));
    if let Err(error) = thread::Builder::new().spawn(write) {
        log::warn!("cannot write to standard output: {error}");
    }
}

/// Returns the signals that stop the server. A hangup that is ignored, as `nohup` has it, stays
/// ignored.
fn signals() -> Vec<Signal> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let hangup_is_ignored = ignored & 1 << (Signal::Hup as u32 - 1) != 0;
    let mut signals = vec![Signal::Int, Signal::Term];
    if !hangup_is_ignored {
        signals.push(Signal::Hup);
    }
    signals
}

/// Returns what is printed when the server listens: its address, commands that work as they stand, and
/// a link to the page. A token that was made at start is in them, and is printed nowhere else.
fn start_up_text(address: SocketAddr, args: &Args, publishing: &Publishing) -> String {
    // To connect to, an address that stands for all is not.
    let mut local = address;
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => local.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => local.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let (header, fragment) = match publishing {
        Publishing::Open => (String::new(), String::new()),
        Publishing::Configured(_) => ("-H 'Authorization: Bearer ...' ".to_owned(), String::new()),
        Publishing::Generated(token) => {
            let token = token.reveal();
            (format!("-H 'Authorization: Bearer {token}' "), format!("#token={token}"))
        }
    };
    let page = routes::page_path(args);
    format!(
        "Listening on http://{address}/\n\
         The page:  http://{local}{page}{fragment}\n\
         Subscribe: curl -N http://{local}/topics/news\n\
         Publish:   curl {header}-d hello http://{local}/topics/news\n"
    )
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
