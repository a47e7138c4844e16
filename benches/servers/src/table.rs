//! Runs a test with all servers in turn, and prints what is found as a Markdown table.

use std::thread::sleep;
use std::time::Duration;

use crate::peers::Peer;
use crate::process::share_of_others;
use crate::stats::{medians, show};
use crate::suite::{Found, Test};

/// How often a run is made that others disturb.
const MOST_RUNS: usize = 3;

/// How many seconds it is waited for others before that.
const LONGEST_WAIT: usize = 20;

/// How much of a processor others may have.
const OTHERS: f64 = 0.15;

/// What all rounds of one server found in one case.
struct Row<'a> {
    peer: &'a Peer,
    found: Vec<Found>,
}

impl Row<'_> {
    /// The medians; what was wrong once is wrong.
    fn medians(&self) -> Found {
        let all: Result<Vec<_>, _> = self.found.iter().cloned().collect();
        all.map(|all| medians(&all))
    }

    /// What servers are held against each other by.
    fn key(&self) -> Option<f64> {
        Some(self.medians().ok()?[0])
    }
}

/// Runs one test, and prints its table. False if our server or the floor got anything wrong.
pub(crate) fn run(test: &Test, peers: &[Peer], rounds: usize) -> bool {
    let peers: Vec<&Peer> = peers.iter().filter(|peer| (test.takes)(peer)).collect();
    if peers.is_empty() {
        return true;
    }
    let mut cases: Vec<Vec<Row<'_>>> = Vec::new();
    for _ in &test.cases {
        cases.push(peers.iter().map(|peer| Row { peer, found: Vec::new() }).collect());
    }
    for round in 0..rounds {
        for (case, rows) in cases.iter_mut().enumerate() {
            // None is always the first.
            for turn in 0..peers.len() {
                let row = &mut rows[(turn + round) % peers.len()];
                let name = format!("{} {} {}", test.name, test.cases[case], row.peer.name);
                row.found.push(undisturbed(&name, || (test.run)(row.peer, case)));
            }
        }
    }
    println!("### {}\n\n{}\n", test.name, test.about);
    println!("| server | {} | : floor | : best |", test.columns.join(" | "));
    println!("|---|{}", "---:|".repeat(test.columns.len() + 2));
    for (case, rows) in test.cases.iter().zip(&cases) {
        print(case, rows, test.columns.len());
    }
    println!();
    let matter = |row: &&Row<'_>| row.peer.is_ours() || row.peer.is_floor();
    cases.iter().flatten().filter(matter).all(|row| row.medians().is_ok())
}

/// Runs until others on this machine did not take much of it meanwhile, but no more than three times:
/// what they take can be told from what is measured in no other way.
fn undisturbed(name: &str, run: impl Fn() -> Found) -> Found {
    let mut left = MOST_RUNS;
    loop {
        let (found, others) = share_of_others(&run);
        eprintln!("{name}: {found:.3?}, others {:.0} %", others * 100.0);
        left -= 1;
        if others < OTHERS || left == 0 {
            return found;
        }
        for _ in 0..LONGEST_WAIT {
            if share_of_others(|| sleep(Duration::from_secs(1))).1 < OTHERS {
                break;
            }
        }
    }
}

fn print(case: &str, rows: &[Row<'_>], columns: usize) {
    let floor = rows.iter().find(|row| row.peer.is_floor()).and_then(Row::key);
    // What has peers has a cost first: the least is the best.
    let peers = rows.iter().filter(|row| !row.peer.is_floor() && !row.peer.is_ours());
    let best = peers.filter_map(Row::key).reduce(f64::min);
    for row in rows {
        let name =
            if case.is_empty() { row.peer.name } else { &*format!("{}, {case}", row.peer.name) };
        match row.medians() {
            Ok(found) => {
                let ratio = |other: Option<f64>| match other {
                    Some(other) if other > 0.0 => show(found[0] / other),
                    _ => "–".to_owned(),
                };
                let cells: Vec<String> = found.iter().map(|number| show(*number)).collect();
                println!("| {name} | {} | {} | {} |", cells.join(" | "), ratio(floor), ratio(best));
            }
            Err(why) => println!("| {name} | WRONG: {why} |{}", " |".repeat(columns + 1)),
        }
    }
}
