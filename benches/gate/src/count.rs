//! Runs the cases under valgrind, and reads what it counted.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The name of each case and the instructions that it took.
pub(crate) fn under_valgrind() -> Vec<(String, u64)> {
    let exe = std::env::current_exe().expect("a program knows where it is");
    let dir = exe.with_file_name("counts");
    // What an earlier run left would be taken for this one's.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).expect("there is room beside the program");
    // The function within which valgrind counts, and after which it writes down what it counted.
    let counted = "gate::cases::counted";
    let run = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={counted}"))
        .arg(format!("--dump-after={counted}"))
        .arg(format!("--callgrind-out-file={}", dir.join("part").display()))
        .arg(&exe)
        .arg("--run")
        .output()
        .expect("valgrind is to be installed");
    let log = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "valgrind: {log}");
    let names = String::from_utf8(run.stdout).expect("the cases have readable names");
    // The parts are numbered from 1.
    let counts: Vec<u64> =
        (1..=names.lines().count()).map(|part| total(&dir.join(format!("part.{part}")))).collect();
    fs::remove_dir_all(&dir).expect("what was read can be removed");
    names.lines().map(str::to_owned).zip(counts).collect()
}

/// The instructions of one part.
fn total(path: &Path) -> u64 {
    let part = fs::read_to_string(path).expect("a part for each case");
    let total = part.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.trim().parse().ok()).expect("each part has a total")
}
