//! The servers that are compared: how each is started, and by which paths it does what all do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Process;

/// Where distributions put Nchan.
const NCHAN: [&str; 3] = [
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
    "/usr/share/nginx/modules/ngx_nchan_module.so",
];

/// One of them. Paths are what the name of a topic is put after.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Which of it this is.
    pub(crate) version: String,
    kind: Kind,
    program: PathBuf,
    /// Subscribes.
    pub(crate) events: &'static str,
    /// Publishes.
    pub(crate) publish: &'static str,
    /// Says something at once.
    pub(crate) hello: &'static str,
    /// Whether it has topics.
    pub(crate) topics: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Floor,
    Ours,
    Hub,
    Nchan,
}

/// How to start it this time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup<'a> {
    /// Flags for our server.
    pub(crate) flags: &'a [&'a str],
    /// How many processors it has; all if not said.
    pub(crate) cores: Option<usize>,
    /// Whether `/stream` is asked for, which our server has only as a program of its own.
    pub(crate) streams: bool,
}

impl Peer {
    /// Whether this is the floor.
    pub(crate) fn is_floor(&self) -> bool {
        self.kind == Kind::Floor
    }

    /// Whether this is our server.
    pub(crate) fn is_ours(&self) -> bool {
        self.kind == Kind::Ours
    }

    /// Whether it has a stream that always has more.
    pub(crate) fn streams(&self) -> bool {
        self.kind != Kind::Nchan
    }

    /// Whether `hello` says what was published before.
    pub(crate) fn repeats(&self) -> bool {
        matches!(self.kind, Kind::Ours | Kind::Nchan)
    }

    /// Starts it.
    pub(crate) fn start(&self, setup: Setup<'_>) -> Result<Process, String> {
        let program = self.program.to_string_lossy().into_owned();
        let command = |port: u16| match self.kind {
            // One thread costs least, unless it is to show what two can do.
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
                fs::create_dir_all(&folder).expect("a folder for work");
                let module = nchan_module().expect("it was there");
                let conf = include_str!("../nchan/nginx.conf")
                    .replace("PORT", &port.to_string())
                    .replace("MODULE", module);
                fs::write(folder.join("nginx.conf"), conf).expect("a file there");
                let folder = folder.to_string_lossy().into_owned();
                let args = ["-p", &folder, "-c", "nginx.conf", "-e", "stderr"];
                [program].into_iter().chain(args.map(str::to_owned)).collect()
            }
        };
        Process::start(command, setup.cores)
    }
}

/// A folder for what servers want to have in files.
pub(crate) fn work_folder() -> PathBuf {
    beside_this(&format!("work-{}", std::process::id()))
}

/// Those that are installed, the floor and ours (at `ours`) first; and a line for each that is not.
pub(crate) fn peers(ours: &Path) -> (Vec<Peer>, Vec<String>) {
    let mut peers = vec![
        Peer {
            name: "floor",
            version: "nothing but one write for each delivery".to_owned(),
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
        missing.push("Go: it is not installed".to_owned());
    }
    (peers, missing)
}

fn beside_this(name: &str) -> PathBuf {
    std::env::current_exe().expect("a path").with_file_name(name)
}

fn nchan_module() -> Option<&'static str> {
    NCHAN.into_iter().find(|module| Path::new(module).exists())
}

/// As Debian's package has it; the module itself does not say.
fn nchan_version() -> String {
    let asked = Command::new("dpkg-query")
        .args(["--show", "--showformat=, Nchan ${Version}", "libnginx-mod-nchan"])
        .output();
    asked.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default()
}

/// What a program says of itself.
fn version(program: &Path, flag: &str) -> String {
    let Ok(said) = Command::new(program).arg(flag).output() else { return "?".to_owned() };
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    said.lines().next().unwrap_or("?").trim().replace("nginx version: ", "")
}

/// The version of a package that this was built with.
fn locked(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{package}\"\nversion = \""));
    let version = entry.and_then(|(_, rest)| rest.split('"').next()).unwrap_or("?");
    format!("{package} {version}")
}
