//! Counts the instructions that decoding and encoding take or, with the feature `server`, publishing,
//! and fails when they exceed `baseline.txt` or `baseline-server.txt`. Unlike times, the counts do
//! not depend on the load of the machine.
//!
//! They depend on all code that runs, so all of it is pinned: the compiler (the oldest supported
//! one), the vector instructions of memchr (without `std`, only those that every machine has), and
//! the C library (musl, linked statically). The server needs `std`, but hardly any vector
//! instructions. `scripts/test` has the commands; `--bless` updates a baseline.

mod baseline;
#[cfg(not(feature = "server"))]
mod cases;
mod count;
#[cfg(feature = "server")]
mod server;

use std::process::ExitCode;

#[cfg(feature = "server")]
use server as cases;

/// The relative change that is tolerated: unrelated changes of nearby code can alter code generation
/// slightly.
const TOLERANCE: f64 = 0.03;

fn main() -> ExitCode {
    let bless = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--bless") => true,
        Some("--run") => {
            cases::run();
            return ExitCode::SUCCESS;
        }
        Some(other) => panic!("{other}: the only option is --bless"),
    };
    if std::env::consts::ARCH != "x86_64" {
        println!("gate: skipped: the baseline is for x86_64 only");
        return ExitCode::SUCCESS;
    }
    let counts = count::under_valgrind();
    if bless {
        baseline::write(&counts);
        return ExitCode::SUCCESS;
    }
    if baseline::check(&counts, TOLERANCE) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
