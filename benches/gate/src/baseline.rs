//! The baseline file of instruction counts: one for the protocol, and one for the server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

#[cfg(not(feature = "server"))]
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.txt");
#[cfg(feature = "server")]
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline-server.txt");

/// Writes these counts as the new baseline.
pub(crate) fn write(counts: &[(String, u64)]) {
    let mut text = String::new();
    for (name, count) in counts {
        writeln!(text, "{count:>10} {name}").expect("memory");
    }
    fs::write(PATH, text).expect("the baseline can be written");
    println!("gate: the baseline has {} counts", counts.len());
}

/// Prints the counts that differ from the baseline. Returns whether none is higher or unknown.
pub(crate) fn check(counts: &[(String, u64)], tolerance: f64) -> bool {
    let text = fs::read_to_string(PATH).expect("the baseline exists");
    let mut before: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .map(|(count, name)| (name, count.parse().expect("a number")))
        .collect();
    let (mut more, mut less, mut unknown) = (0, 0, 0);
    for (name, count) in counts {
        let Some(before) = before.remove(&**name) else {
            println!("gate: {name}: {count} instructions, not in the baseline");
            unknown += 1;
            continue;
        };
        let change = *count as f64 / before as f64 - 1.0;
        if change.abs() > tolerance {
            let percent = 100.0 * change;
            println!("gate: {name}: {count} instructions, {before} before ({percent:+.1} %)");
            if change > 0.0 { more += 1 } else { less += 1 }
        }
    }
    unknown += before.len();
    let limit = 100.0 * tolerance;
    if more > 0 {
        println!("gate: {more} of {} take over {limit} % more instructions", counts.len());
    }
    if less > 0 {
        println!("gate: {less} take over {limit} % fewer: update the baseline");
    }
    if unknown > 0 {
        println!("gate: {unknown} are only in the baseline or only in the program");
    }
    if more + less + unknown > 0 {
        println!("gate: to update the baseline, add --bless to the command");
    } else {
        println!("gate: {} counts are within {limit} % of the baseline", counts.len());
    }
    more + unknown == 0
}
