//! Runs a test with all servers in turn and prints the results as a Markdown table.

use std::thread::sleep;
use std::time::Duration;

use crate::peers::Peer;
use crate::process::share_of_others;
use crate::scale::Scale;
use crate::stats::{medians, show};
use crate::suite::{Found, Test};
use crate::tracking::wait_for_room;

/// The maximum time to wait for other processes to become idle before a run is repeated.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// The tolerated CPU use of other processes, as a fraction of one processor.
const OTHERS: f64 = 0.15;

/// The results of one server in one case, one for each round.
struct Row<'a> {
    peer: &'a Peer,
    found: Vec<Found>,
}

impl Row<'_> {
    /// Returns the medians of all rounds, or the first error.
    fn medians(&self) -> Found {
        let all: Result<Vec<_>, _> = self.found.iter().cloned().collect();
        all.map(|all| medians(&all))
    }

    /// Returns the value by which servers are compared.
    fn key(&self) -> Option<f64> {
        self.median(0)
    }

    /// Returns the median of one column.
    fn median(&self, column: usize) -> Option<f64> {
        Some(self.medians().ok()?[column])
    }
}

/// The summary table: for each case, the first columns of the test.
#[derive(Default)]
pub(crate) struct Summary {
    lines: Vec<String>,
    /// Whether a run of sse-smol-server or the floor was wrong.
    pub(crate) wrong: bool,
}

impl Summary {
    fn add(&mut self, test: &Test, case: &str, all: &[Peer], rows: &[Row<'_>]) {
        for (column, what) in test.columns[..test.summarized].iter().enumerate() {
            let mut cells = vec![case_of(test.name, case), (*what).to_owned()];
            cells.extend(all.iter().map(|peer| {
                let row = rows.iter().find(|row| row.peer.name == peer.name);
                row.map_or("–".to_owned(), |row| {
                    row.median(column).map_or("WRONG".to_owned(), show)
                })
            }));
            self.lines.push(format!("| {} |", cells.join(" | ")));
        }
        let matters = |row: &&Row<'_>| row.peer.is_ours() || row.peer.is_floor();
        self.wrong |= rows.iter().filter(matters).any(|row| row.medians().is_err());
    }

    /// Prints the summary of all tests.
    pub(crate) fn print(&self, peers: &[Peer]) {
        let names: Vec<&str> = peers.iter().map(|peer| peer.name).collect();
        println!("### Summary\n\nThe first columns of the tables.\n");
        println!(
            "| test | what | {} |\n|---|---|{}",
            names.join(" | "),
            "---:|".repeat(names.len())
        );
        for line in &self.lines {
            println!("{line}");
        }
    }
}

/// Runs one test and prints its table. Time spent waiting is subtracted from `scale.idle_wait`.
pub(crate) fn run(test: &Test, all: &[Peer], scale: &mut Scale, summary: &mut Summary) {
    let peers: Vec<&Peer> = all.iter().filter(|peer| (test.supports)(peer)).collect();
    if peers.is_empty() {
        return;
    }
    let mut cases: Vec<Vec<Row<'_>>> = Vec::new();
    for _ in &test.cases {
        cases.push(peers.iter().map(|peer| Row { peer, found: Vec::new() }).collect());
    }
    for round in 0..scale.rounds {
        for (case, rows) in cases.iter_mut().enumerate() {
            // Each round starts with another server.
            for turn in 0..peers.len() {
                let row = &mut rows[(turn + round) % peers.len()];
                let name = format!("{} {} {}", test.name, test.cases[case], row.peer.name);
                row.found.push(run_undisturbed(&name, scale, || (test.run)(row.peer, case)));
            }
        }
    }
    println!("### {}\n\n{}\n", test.name, test.about);
    println!("| server | {} | : floor | : best |", test.columns.join(" | "));
    println!("|---|{}", "---:|".repeat(test.columns.len() + 2));
    for (case, rows) in test.cases.iter().zip(&cases) {
        print(case, rows, test.columns.len());
        summary.add(test, case, all, rows);
    }
    println!();
}

/// Repeats a run while other processes on this machine disturb it, up to `scale.runs` attempts. Their
/// influence cannot be subtracted from the results.
fn run_undisturbed(name: &str, scale: &mut Scale, run: impl Fn() -> Found) -> Found {
    let mut left = scale.runs;
    loop {
        // Not during a run: it would count as time without disturbance.
        wait_for_room(scale.max_connections())?;
        let (found, others) = share_of_others(&run);
        eprintln!("{name}: {found:.3?}, others {:.0} %", others * 100.0);
        left -= 1;
        if found.is_err() || others < OTHERS || left == 0 {
            return found;
        }
        let (second, mut waited) = (Duration::from_secs(1), Duration::ZERO);
        while waited < LONGEST_WAIT && scale.idle_wait >= second {
            waited += second;
            scale.idle_wait = scale.idle_wait.saturating_sub(second);
            if share_of_others(|| sleep(second)).1 < OTHERS {
                break;
            }
        }
    }
}

fn print(case: &str, rows: &[Row<'_>], columns: usize) {
    let floor = rows.iter().find(|row| row.peer.is_floor()).and_then(Row::key);
    // In tests with peers, the first column is a cost, so the lowest is the best.
    let peers = rows.iter().filter(|row| !row.peer.is_floor() && !row.peer.is_ours());
    let best = peers.filter_map(Row::key).reduce(f64::min);
    for row in rows {
        let name = case_of(row.peer.name, case);
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

fn case_of(name: &str, case: &str) -> String {
    if case.is_empty() { name.to_owned() } else { format!("{name}, {case}") }
}
