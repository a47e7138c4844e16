//! The compared servers: how each is started, and its paths for the common operations.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;

/// The paths where distributions install the Nchan module.
const NCHAN: [&str; 3] = [
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
    "/usr/share/nginx/modules/ngx_nchan_module.so",
];

/// A server. The topic name is appended to its paths.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The name in the tables.
    pub(crate) name: &'static str,
    /// The name and version of the program.
    pub(crate) version: String,
    kind: Kind,
    program: PathBuf,
    /// The path to subscribe.
    pub(crate) events: &'static str,
    /// The path to publish.
    pub(crate) publish: &'static str,
    /// The path of a stream that sends an event at once.
    pub(crate) hello: &'static str,
    /// Whether the server has several topics.
    pub(crate) topics: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Floor,
    Ours,
    Hub,
    Nchan,
}

/// Settings for starting a server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup<'a> {
    /// Flags for sse-smol-server.
    pub(crate) flags: &'a [&'a str],
    /// Another build of sse-smol-server, in place of that of the peer.
    pub(crate) program: Option<&'a Path>,
    /// The number of processors it may use. All if `None`.
    pub(crate) cores: Option<usize>,
    /// Whether the test uses `/stream`, which for sse-smol-server is a separate program.
    pub(crate) streams: bool,
}

impl Peer {
    /// Whether this is the floor.
    pub(crate) fn is_floor(&self) -> bool {
        self.kind == Kind::Floor
    }

    /// Whether this is sse-smol-server.
    pub(crate) fn is_ours(&self) -> bool {
        self.kind == Kind::Ours
    }

    /// Whether it has an endless stream.
    pub(crate) fn streams(&self) -> bool {
        self.kind != Kind::Nchan
    }

    /// Whether `hello` replays published messages, so that one has to be published first.
    pub(crate) fn replays(&self) -> bool {
        matches!(self.kind, Kind::Ours | Kind::Nchan)
    }

    /// Starts the server, and waits until it accepts connections.
    pub(crate) fn start(&self, setup: Setup<'_>) -> Result<Process, String> {
        Process::start(|port| self.command(setup, port), setup.cores)
    }

    /// Starts the server, and does not wait.
    pub(crate) fn spawn(&self, setup: Setup<'_>) -> Result<Process, String> {
        Process::spawn(|port| self.command(setup, port), setup.cores)
    }

    /// Returns the command that starts the server on this port.
    fn command(&self, setup: Setup<'_>, port: u16) -> Vec<String> {
        let program = setup.program.unwrap_or(&self.program).to_string_lossy().into_owned();
        match self.kind {
            // One thread is cheapest, except in tests of several cores.
            Kind::Floor => vec![program, port.to_string(), setup.cores.unwrap_or(1).to_string()],
            Kind::Hub => vec![program, port.to_string()],
            Kind::Ours if setup.streams => {
                let program = beside_this("ours-stream");
                vec![program.to_string_lossy().into_owned(), port.to_string()]
            }
            Kind::Ours => {
                let listen = format!("127.0.0.1:{port}");
                let flags =
                    ["--listen", &listen, "--open-publishing", "--max-connections", "50000"];
                let flags = flags.iter().chain(setup.flags).map(|flag| (*flag).to_owned());
                [program].into_iter().chain(flags).collect()
            }
            Kind::Nchan => {
                let folder = work_folder();
                fs::create_dir_all(&folder).expect("the work folder can be created");
                let module = nchan_module().expect("the module was found before");
                let conf = include_str!("../nchan/nginx.conf")
                    .replace("PORT", &port.to_string())
                    .replace("MODULE", module);
                fs::write(folder.join("nginx.conf"), conf)
                    .expect("the configuration can be written");
                let folder = folder.to_string_lossy().into_owned();
                let args = ["-p", &folder, "-c", "nginx.conf", "-e", "stderr"];
                [program].into_iter().chain(args.map(str::to_owned)).collect()
            }
        }
    }
}

/// Returns the folder for files of the servers.
pub(crate) fn work_folder() -> PathBuf {
    beside_this(&format!("work-{}", std::process::id()))
}

/// Returns the installed servers, with the floor and `ours` first, and a line for each missing one.
pub(crate) fn peers(ours: &Path) -> (Vec<Peer>, Vec<String>) {
    let mut peers = vec![
        Peer {
            name: "floor",
            version: "only one write for each delivery".to_owned(),
            kind: Kind::Floor,
            program: beside_this("floor"),
            events: "/events?topic=",
            publish: "/publish?topic=",
            hello: "/hello",
            topics: true,
        },
        Peer {
            name: "ours",
            version: version(ours, "--version"),
            kind: Kind::Ours,
            program: ours.to_owned(),
            events: "/topics/",
            publish: "/topics/",
            hello: "/topics/t0?lastEventId=earliest",
            topics: true,
        },
    ];
    let mut missing = Vec::new();
    let hub = |name, program: &str, version| Peer {
        name,
        version,
        kind: Kind::Hub,
        program: beside_this(program),
        events: "/events?topic=",
        publish: "/publish?topic=",
        hello: "/hello",
        topics: false,
    };
    let axum = beside_this("axum-hub");
    if axum.exists() {
        peers.push(hub("axum", "axum-hub", locked("axum")));
    } else {
        missing.push("axum: built only with the feature `axum`".to_owned());
    }
    let nginx = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];
    let nginx = nginx.map(Path::new).into_iter().find(|nginx| nginx.exists());
    if let (Some(nginx), Some(_)) = (nginx, nchan_module()) {
        peers.push(Peer {
            name: "Nchan",
            version: format!("{}{}", version(nginx, "-v"), nchan_version()),
            kind: Kind::Nchan,
            program: nginx.to_owned(),
            hello: "/hello?topic=t0",
            topics: true,
            ..hub("", "", String::new())
        });
    } else {
        missing.push("Nchan: nginx or its module is not installed".to_owned());
    }
    if beside_this("go-hub").exists() {
        peers.push(hub("Go", "go-hub", version(Path::new("go"), "version")));
    } else {
        missing.push("Go: not installed".to_owned());
    }
    (peers, missing)
}

fn beside_this(name: &str) -> PathBuf {
    std::env::current_exe().expect("a path").with_file_name(name)
}

fn nchan_module() -> Option<&'static str> {
    NCHAN.into_iter().find(|module| Path::new(module).exists())
}

/// Returns the version of the Debian package, as the module does not report its own.
fn nchan_version() -> String {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=, Nchan ${Version}", "libnginx-mod-nchan"])
        .output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Returns the first line of a program's version output.
pub(crate) fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return "?".to_owned() };
    let output = [output.stdout, output.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    output.lines().next().unwrap_or("?").trim().replace("nginx version: ", "")
}

/// Returns the name and version of a package from the lock file.
fn locked(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{package}\"\nversion = \""));
    let version = entry.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("?");
    format!("{package} {version}")
}
