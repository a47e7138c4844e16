//! The `sse-smol-server` program.

mod args;
mod beneath;
mod client;
mod commands;
mod guard;
mod host;
mod listen;
mod local_token;
mod log_writer;
#[cfg(feature = "nats")]
mod nats;
mod numbers;
mod open;
mod publishing;
mod routes;
mod steps;
mod stopping;
mod storing;
mod watch;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::future;
use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

use async_signal::{Signal, Signals};
use smol::future::or;
use smol::stream::StreamExt as _;
use smol::{Executor, channel};

use crate::args::Args;
use crate::commands::CommandLine;
use crate::listen::Listen;
use crate::local_token::Offer;
use crate::publishing::Publishing;
use crate::routes::App;
use crate::stopping::{SECOND_SIGNAL, Stopping};
use log_writer::{LogFormat, LogWriter, json_line};

/// The maximum time to write the last log lines before the process exits.
const LAST_LINES: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let CommandLine { args, command } = CommandLine::from_environment();
    if let Some(command) = command {
        return command.run();
    }
    let log = match LogWriter::start(args.log_format) {
        Ok(log) => log,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot start the log thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The watcher warns of each directory that is removed while it is watched, which is harmless.
    let level = env_logger::Env::default().default_filter_or("info,notify=error");
    let mut logger = env_logger::Builder::from_env(level);
    logger.format_target(false).target(env_logger::Target::Pipe(Box::new(log.clone())));
    if args.log_format == LogFormat::Json {
        logger.format(|out, record| {
            let time = out.timestamp_millis().to_string();
            out.write_all(json_line(record.level(), record.args(), Some(time)).as_bytes())
        });
    }
    logger.init();
    let of_panics = log.clone();
    panic::set_hook(Box::new(move |panic| {
        let backtrace = Backtrace::capture();
        let message = match backtrace.status() {
            BacktraceStatus::Captured => format!("{panic}\n{backtrace}"),
            _ => panic.to_string(),
        };
        of_panics.message(log::Level::Error, message);
    }));
    let code = match panic::catch_unwind(AssertUnwindSafe(|| run(&args))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log.message(log::Level::Error, format_args!("error: {error}"));
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
            "other machines can reach --listen {}, and could subscribe, list the topics and read \
             the metrics; add --public to allow that",
            args.listen
        ));
    }
    if args.socket_mode.is_some() && !matches!(args.listen, Listen::Unix(_)) {
        return Err(format!(
            "--socket-mode applies to --listen unix:PATH, and not to --listen {}; leave it out",
            args.listen
        ));
    }
    if let (Some(root), Some(file)) = (&args.serve, &args.spa) {
        let path = root.join(file);
        if !path.is_file() {
            // It may be created later, such as by a build.
            log::warn!(
                "{} (--spa) is no file yet: paths without a file are answered with 404",
                path.display()
            );
        }
    }
    for name in args.unknown_variables() {
        log::warn!("the environment variable {name} sets no flag of this program");
    }
    let publishing = Publishing::new(args)?;
    raise_descriptor_limit();
    // Opened before the server listens, since this may take long. Connections are refused until
    // then, so that clients try again or elsewhere instead of waiting. Those to a socket from
    // systemd wait. The signals have no handlers yet, so they end the process at once.
    let (topics, feed) = args.storing.open(args.topics_config())?;
    let in_use = |error: io::Error| {
        use ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
        let hint = match error.kind() {
            AddrInUse | AddrNotAvailable | PermissionDenied => {
                "; choose another address with --listen"
            }
            _ => "",
        };
        format!("cannot listen on {}: {error}{hint}", args.listen)
    };
    let server = args
        .listen
        .bind(args.socket_mode.unwrap_or(0o600), args.server_config())
        .map_err(in_use)?;
    let mut signals = Signals::new(signals())
        .map_err(|error| format!("cannot register signal handlers: {error}"))?;
    let address = match server.local_addr() {
        Ok(address) => Some(address),
        // A Unix socket has none.
        Err(error) if error.kind() == ErrorKind::Unsupported => None,
        Err(error) => return Err(in_use(error)),
    };
    let start_up_text = match (address, &args.listen) {
        (Some(address), _) => start_up_text(address, args, &publishing),
        (None, Listen::Unix(path)) => start_up_text_of_unix(path, &publishing),
        // The path is in the unit.
        (None, _) => "Listening on the Unix socket from systemd\n".to_owned(),
    };
    let offer = Arc::new(offer_token(address, &args.listen, &publishing));
    let stopping = Stopping::new(server.drain(), args.drain_delay);
    let app = Arc::new(App::new(args, publishing, topics, stopping.clone(), &server)?);
    print(start_up_text);
    if let Some(address) = address.filter(|_| args.open) {
        let path = if args.serve.is_some() { "/" } else { routes::page_path(args) };
        open::open(format!("http://{}{path}", connectable(address)));
    }

    let (failed, failure) = channel::bounded::<String>(1);
    let executor = Executor::new();
    let drain = server.drain();
    let begin_drain = move || {
        // Before the address is free for the server of another user.
        offer.iter().for_each(Offer::withdraw);
        drain.begin();
    };
    if let Some(feed) = feed {
        let begin_drain = begin_drain.clone();
        let run = async move {
            if let Err(error) = feed.await {
                let _ = failed.try_send(error.to_string());
                // Nothing can be published or followed any more.
                begin_drain();
            }
        };
        executor.spawn(run).detach();
    }
    // Runs on a separate task, so that it is not polled each time this thread is woken.
    let until_second_signal = executor.spawn(async move {
        signals.next().await;
        let second = async { drop(signals.next().await) };
        let begun = async {
            stopping.announce().await;
            log::info!("shutting down: closing open streams; {SECOND_SIGNAL}");
            begin_drain();
            future::pending::<()>().await;
        };
        or(second, begun).await;
    });
    let handle = move |request| Arc::clone(&app).handle(request);
    server
        .run_until(&executor, handle, until_second_signal)
        .map_err(|error| format!("cannot serve: {error}"))?;
    log::info!("stopping");
    // Connections that are still open are dropped with the executor.
    drop(executor);
    failure.try_recv().map_or(Ok(()), Err)
}

/// Offers the token to the command `pub` of the same user. Without that, `pub` needs the token from
/// the environment or a file.
fn offer_token(
    address: Option<SocketAddr>,
    listen: &Listen,
    publishing: &Publishing,
) -> Option<Offer> {
    let token = publishing.token()?;
    let name = match (address, listen) {
        (Some(address), _) => Ok(local_token::name_of_address(address)),
        (None, Listen::Unix(path)) => local_token::name_of_socket(path),
        // Its path is not known.
        (None, _) => return None,
    };
    name.and_then(|name| Offer::new(&name, token))
        .inspect_err(|error| {
            log::info!("`sse-smol-server pub` will not find the token: {error}");
        })
        .ok()
}

/// Writes to standard output on another thread, so that a full or closed pipe neither blocks nor
/// ends the server.
fn print(text: String) {
    let write = move || drop(io::stdout().write_all(text.as_bytes()));
    if let Err(error) = thread::Builder::new().spawn(write) {
        log::warn!("cannot write to standard output: {error}");
    }
}

/// Returns the signals that stop the server. SIGHUP is not among them if it is ignored at start, as
/// under `nohup`.
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

/// Returns an address at which clients on this machine can connect to one that is listened on.
fn connectable(mut address: SocketAddr) -> SocketAddr {
    // Clients cannot connect to the unspecified address.
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        _ => {}
    }
    address
}

/// Returns the text to print at start: the address, a link to the page, and commands that work as
/// printed. They contain a generated token, which is printed nowhere else.
fn start_up_text(address: SocketAddr, args: &Args, publishing: &Publishing) -> String {
    let local = connectable(address);
    let (header, fragment) = credentials(publishing);
    let page = routes::page_path(args);
    let reload = match args.watch[..] {
        [] => String::new(),
        // Of the page's own origin, which may be another name of this machine.
        _ if args.serve.is_some() => {
            "Reload:    <script src=\"/__hotreload.js\"></script>\n".to_owned()
        }
        _ => format!("Reload:    <script src=\"http://{local}/__hotreload.js\"></script>\n"),
    };
    format!(
        "Listening on http://{address}/\n\
         The page:  http://{local}{page}{fragment}\n\
         {reload}Subscribe: curl -N http://{local}/topics/news\n\
         Publish:   curl {header}-d hello http://{local}/topics/news\n"
    )
}

/// Returns the text to print at start for a Unix socket, for which there is no link to the page.
fn start_up_text_of_unix(path: &Path, publishing: &Publishing) -> String {
    let (header, _) = credentials(publishing);
    // In single quotes, a shell leaves everything as it is but single quotes.
    let quoted = path.display().to_string().replace('\'', r"'\''");
    let curl = format!("curl --unix-socket '{quoted}'");
    format!(
        "Listening on unix:{}\n\
         Subscribe: {curl} -N http://localhost/topics/news\n\
         Publish:   {curl} {header}-d hello http://localhost/topics/news\n",
        path.display()
    )
}

/// Returns what publishers need: an option of curl, and the fragment of a link to the page.
fn credentials(publishing: &Publishing) -> (String, String) {
    match publishing {
        Publishing::Open => (String::new(), String::new()),
        Publishing::Configured(_) => ("-H 'Authorization: Bearer ...' ".to_owned(), String::new()),
        Publishing::Generated(token) => {
            let token = token.reveal();
            (format!("-H 'Authorization: Bearer {token}' "), format!("#token={token}"))
        }
    }
}

/// Raises the limit of open files to the hard limit. Each connection takes a file descriptor, and
/// the usual soft limit is too low for a server.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::debug!("cannot raise the limit of open files above {:?}: {error}", limit.current);
    }
}
