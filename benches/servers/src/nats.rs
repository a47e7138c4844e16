//! NATS servers with JetStream, for events on NATS.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::peers::{version, work_folder};
use crate::process::Process;

/// The programs for events on NATS.
#[derive(Clone, Debug)]
pub(crate) struct Nats {
    /// sse-smol-server with the feature `nats`.
    pub(crate) program: PathBuf,
    engine: PathBuf,
}

impl Nats {
    /// Finds the NATS server that `scripts/test` has installed, or else that of the system. Returns
    /// the reason if there is none, or no build of sse-smol-server with the feature `nats`.
    pub(crate) fn find(program: Option<&String>) -> Result<Self, String> {
        let program = program.ok_or("no build of sse-smol-server with the feature `nats`")?.into();
        let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/nats-server/bin");
        // Debian installs it in a directory that is only in the PATH of root.
        let path = format!("{installed}:{}:/usr/sbin", env::var("PATH").unwrap_or_default());
        let mut engines = env::split_paths(&path).map(|folder| folder.join("nats-server"));
        let engine =
            engines.find(|engine| engine.exists()).ok_or("nats-server is not installed")?;
        Ok(Self { program, engine })
    }

    /// Returns the name and version of the NATS server.
    pub(crate) fn version(&self) -> String {
        version(&self.engine, "--version")
    }

    /// Starts a NATS server without events.
    pub(crate) fn start(&self) -> Result<Process, String> {
        let folder = folder();
        // It does not exist before the first run.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let command = |port: u16| {
            let (port, folder) = (port.to_string(), folder.to_string_lossy());
            let (engine, log) = (self.engine.to_string_lossy(), work_folder().join("nats.log"));
            let log = log.to_string_lossy();
            let args =
                [&*engine, "-a", "127.0.0.1", "-p", &port, "-js", "-sd", &folder, "-l", &log];
            args.map(str::to_owned).into()
        };
        Process::start(command, None)
    }
}

/// Returns the folder with the files of the NATS server.
pub(crate) fn folder() -> PathBuf {
    work_folder().join("nats")
}

/// Returns the size of all files in a folder in bytes.
pub(crate) fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
