//! Whether a crate builds without an operating system: tried, without its default features.

use std::fs;
use std::process::{Command, Stdio};

const BARE: &str = "thumbv7em-none-eabi";
const LOCK: &str = include_str!("../../../../Cargo.lock");

/// Builds it, alone, for a machine that has nothing.
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
    let after =
        LOCK.split_once(&format!("name = \"{name}\"\nversion = \"")).expect("it is locked").1;
    let version = after.split('"').next().expect("a version");
    if build(&format!("version = \"={version}\""), name) { "yes" } else { "no" }
}

fn build(source: &str, name: &str) -> bool {
    let dir = std::env::temp_dir().join(format!("no-std-{}-{name}", std::process::id()));
    fs::create_dir_all(dir.join("src")).expect("a directory for a trial");
    let manifest = format!(
        "[package]\nname = \"trial\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
         {name} = {{ {source}, default-features = false }}\n"
    );
    fs::write(dir.join("Cargo.toml"), manifest).expect("a manifest");
    fs::write(dir.join("src/lib.rs"), "#![no_std]\n").expect("a library");
    let status = Command::new("cargo")
        .args(["build", "-q", "--target", BARE])
        .current_dir(&dir)
        .env("CARGO_TARGET_DIR", dir.join("target"))
        .stderr(Stdio::null())
        .status()
        .expect("cargo is there");
    let _ = fs::remove_dir_all(&dir);
    status.success()
}
