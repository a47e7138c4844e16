//! Tests whether a crate builds for a target without an operating system.

use std::fs;
use std::process::{Command, Stdio};

const BARE: &str = "thumbv7em-none-eabi";
const LOCK: &str = include_str!("../../../../Cargo.lock");

/// Builds a crate without default features for `BARE`. Returns the cell for the table.
pub(crate) fn no_std(name: &str) -> &'static str {
    if name == "sse-proto" {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sse-proto");
        let builds =
            |features: &str| build(&format!("path = {path:?}, features = [{features}]"), name);
        return match (builds(""), builds("\"alloc\"")) {
            (true, true) => "yes, and no allocator",
            (false, true) => "yes",
            _ => "no",
        };
    }
    let after = LOCK
        .split_once(&format!("name = \"{name}\"\nversion = \""))
        .expect("the crate is in the lock file")
        .1;
    let version = after.split('"').next().expect("a version");
    if build(&format!("version = \"={version}\""), name) { "yes" } else { "no" }
}

fn build(source: &str, name: &str) -> bool {
    let dir = std::env::temp_dir().join(format!("no-std-{}-{name}", std::process::id()));
    fs::create_dir_all(dir.join("src")).expect("the directory can be created");
    let manifest = format!(
        "[package]\nname = \"trial\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         {name} = {{ {source}, default-features = false }}\n"
    );
    fs::write(dir.join("Cargo.toml"), manifest).expect("the manifest can be written");
    fs::write(dir.join("src/lib.rs"), "#![no_std]\n").expect("the library can be written");
    let status = Command::new("cargo")
        .args(["build", "-q", "--target", BARE])
        .current_dir(&dir)
        .env("CARGO_TARGET_DIR", dir.join("target"))
        .stderr(Stdio::null())
        .status()
        .expect("cargo is installed");
    let _ = fs::remove_dir_all(&dir);
    status.success()
}
