//! Runs the tests with all servers in turn and prints a table for each.
//!
//!     servers OURS [--nats OURS] [--quick | --test] [--only TEST,TEST] [--servers NAME,NAME]
//!
//! `OURS` is the path of the sse-smol-server binary; that after `--nats` is one with the feature `nats`.
//! Linux only: it reads /proc.

mod churn;
mod clients;
mod fill;
mod load;
mod nats;
mod peers;
mod probe;
mod process;
mod reader;
mod scale;
mod stats;
mod suite;
mod table;
mod tracking;

use std::path::Path;
use std::process::ExitCode;

use nats::Nats;
use peers::{peers, work_folder};
use scale::Scale;
use suite::tests;
use table::Summary;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "--launch") {
        process::launch(&args[1..]);
    }
    let usage =
        "servers OURS [--nats OURS] [--quick | --test] [--only TEST,TEST] [--servers NAME,NAME]";
    let [ours, args @ ..] = &*args else { panic!("{usage}") };
    let mut args = args.iter();
    let mut scale = Scale::full();
    let [mut only, mut names, mut with_nats] = [None::<&String>; 3];
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => scale = Scale::quick(),
            "--test" => scale = Scale::test(),
            "--nats" => with_nats = args.next(),
            "--only" => only = args.next(),
            "--servers" => names = args.next(),
            other => panic!("{other}: {usage}"),
        }
    }
    let chosen = |choice: Option<&String>, name: &str| {
        choice.is_none_or(|choice| choice.split(',').any(|one| one.eq_ignore_ascii_case(name)))
    };
    let most = process::raise_descriptor_limit();
    if most < u64::from(scale.many) + 100 {
        eprintln!(
            "the limit of {most} open files is too low for {} connections: raise `ulimit -Hn`",
            scale.many
        );
    }
    let (mut peers, missing) = peers(Path::new(ours));
    peers.retain(|peer| chosen(names, peer.name));
    for peer in &peers {
        println!("- {}: {}", peer.name, peer.version);
    }
    let nats = Nats::find(with_nats);
    match &nats {
        Ok(nats) => println!("- NATS: {}", nats.version()),
        Err(why) => println!("- left out: NATS: {why}"),
    }
    for line in missing {
        println!("- left out: {line}");
    }
    println!();
    let mut summary = Summary::default();
    for test in tests(scale, nats.ok()).iter().filter(|test| chosen(only, test.name)) {
        table::run(test, &peers, &mut scale, &mut summary);
    }
    summary.print(&peers);
    let _ = std::fs::remove_dir_all(work_folder());
    if summary.wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
