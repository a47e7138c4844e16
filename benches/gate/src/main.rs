//! Counts the instructions that decoding and encoding take, and fails when they are more than
//! `baseline.txt` says. Counts are exact where times are not: they hold on a busy machine, too.
//!
//! They depend on all the code that runs, so all of it is pinned: the compiler (the oldest that is
//! supported), memchr's vector instructions (no `std`, so those that every machine has) and the C
//! library (musl, linked in). `scripts/test` has the command; with `--bless` it writes the
//! baseline.

mod baseline;
mod cases;
mod count;

use std::process::ExitCode;

/// What a count may grow by. Below lie changes to code nearby, which the compiler then lays out in
/// another way.
const TOLERANCE: f64 = 0.03;

fn main() -> ExitCode {
    let bless = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--bless") => true,
        Some("--run") => {
            cases::run();
            return ExitCode::SUCCESS;
        }
        Some(other) => panic!("{other}: there is --bless"),
    };
    if std::env::consts::ARCH != "x86_64" {
        println!("gate: counts are for x86_64; nothing to hold this machine's against");
        return ExitCode::SUCCESS;
    }
    let counts = count::under_valgrind();
    if bless {
        baseline::write(&counts);
        return ExitCode::SUCCESS;
    }
    if baseline::hold(&counts, TOLERANCE) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
