//! What the counts were.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.txt");

/// Writes these counts as those to hold others against.
pub(crate) fn write(counts: &[(String, u64)]) {
    let mut text = String::new();
    for (name, count) in counts {
        writeln!(text, "{count:>10} {name}").expect("memory");
    }
    fs::write(PATH, text).expect("the baseline can be written");
    println!("gate: the baseline has {} counts", counts.len());
}

/// Whether these counts are as they were, or less. Tells of those that are not.
pub(crate) fn hold(counts: &[(String, u64)], tolerance: f64) -> bool {
    let text = fs::read_to_string(PATH).expect("the baseline is there");
    let mut before: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .map(|(count, name)| (name, count.parse().expect("a number")))
        .collect();
    let (mut more, mut less, mut unknown) = (0, 0, 0);
    for (name, count) in counts {
        let Some(before) = before.remove(&**name) else {
            println!("gate: {name}: {count} instructions, which the baseline does not know");
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
        println!("gate: {less} take over {limit} % fewer: make that the baseline");
    }
    if unknown > 0 {
        println!("gate: {unknown} are in the baseline or in the program, but not in both");
    }
    if more + less + unknown > 0 {
        println!("gate: for a new baseline, add --bless to the command");
    } else {
        println!("gate: {} counts are within {limit} % of the baseline", counts.len());
    }
    more + unknown == 0
}
