//! Runs the cases under valgrind and reads the counts.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

/// Runs a case. Valgrind counts the instructions inside this function, which it finds by name.
#[inline(never)]
pub(crate) fn counted(run: &mut dyn FnMut()) {
    // Prevents a tail call and specialization, with which valgrind would not see the call.
    black_box(run)();
    black_box(());
}

/// Returns the name and the instruction count of each case.
pub(crate) fn under_valgrind() -> Vec<(String, u64)> {
    let exe = std::env::current_exe().expect("the path of this program");
    let dir = exe.with_file_name("counts");
    // Files of an earlier run would be read as those of this one.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).expect("the directory of the program is writable");
    // Valgrind counts inside this function and writes the count when it returns.
    let counted = "gate::count::counted";
    let run = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={counted}"))
        .arg(format!("--dump-after={counted}"))
        .arg(format!("--callgrind-out-file={}", dir.join("part").display()))
        .arg(&exe)
        .arg("--run")
        .output()
        .expect("valgrind is installed");
    let log = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "valgrind: {log}");
    let names = String::from_utf8(run.stdout).expect("the cases have readable names");
    // The parts are numbered from 1.
    let counts: Vec<u64> =
        (1..=names.lines().count()).map(|part| total(&dir.join(format!("part.{part}")))).collect();
    fs::remove_dir_all(&dir).expect("the directory can be removed");
    names.lines().map(str::to_owned).zip(counts).collect()
}

/// Returns the instruction count in one output file.
fn total(path: &Path) -> u64 {
    let part = fs::read_to_string(path).expect("a part for each case");
    let total = part.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.trim().parse().ok()).expect("each part has a total")
}
