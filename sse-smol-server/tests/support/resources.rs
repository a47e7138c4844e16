//! The resources that a server process takes, as Linux reports them.

use std::fs;
use std::time::Duration;

use super::Binary;

/// Returns the resident memory of a server, in bytes.
pub(crate) fn memory(server: &Binary) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
}

/// Returns the size of the kernel's descriptor table for the server, which grows on demand.
pub(crate) fn descriptor_table_size(server: &Binary) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap().trim().parse().unwrap()
}

/// Returns the number of open descriptors of a server.
pub(crate) fn descriptors(server: &Binary) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

/// Returns the CPU time that a server has used.
pub(crate) fn cpu_time(server: &Binary) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    // The name in parentheses may hold anything; `utime` and `stime` are the 14th and 15th field.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    // Linux reports them in hundredths of a second (USER_HZ), independent of its timer frequency.
    Duration::from_millis(10 * ticks)
}
