//! Server processes: started, measured from outside, and always stopped.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, set_parent_process_death_signal,
    setrlimit,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPU time of all stopped servers, in nanoseconds.
static SPENT: AtomicU64 = AtomicU64::new(0);

/// The time within which a server must have started.
const START: Duration = Duration::from_secs(30);

/// A running server. It and its child processes are killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// The address on which it listens.
    pub(crate) address: SocketAddrV4,
}

impl Process {
    /// Runs `command(port)` with a free port on the first `cores` processors, and waits until it
    /// accepts connections.
    pub(crate) fn start(
        command: impl FnOnce(u16) -> Vec<String>,
        cores: Option<usize>,
    ) -> Result<Self, String> {
        let mut process = Self::spawn(command, cores)?;
        process.wait_until(|address| TcpStream::connect(address).is_ok())?;
        // Gives the server time to start its threads and to close the probing connection.
        sleep(Duration::from_millis(100));
        Ok(process)
    }

    /// Runs `command(port)` with a free port on the first `cores` processors.
    pub(crate) fn spawn(
        command: impl FnOnce(u16) -> Vec<String>,
        cores: Option<usize>,
    ) -> Result<Self, String> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("no port is free: {error}"))?
            .port();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let own = env::current_exe().map_err(|error| error.to_string())?;
        let child = Command::new(own)
            .args(["--launch".to_owned(), cores.unwrap_or(0).to_string()])
            .args(command(port))
            // Suppresses the warning of sse-smol-server that publishing is open.
            .env("RUST_LOG", "error")
            .env_remove("SSE_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start: {error}"))?;
        Ok(Self { child, address })
    }

    /// Waits until a condition holds. Fails if the process ends, or after some seconds.
    pub(crate) fn wait_until(
        &mut self,
        condition: impl Fn(SocketAddrV4) -> bool,
    ) -> Result<(), String> {
        let begun = Instant::now();
        while !condition(self.address) {
            if begun.elapsed() > START || self.child.try_wait().is_ok_and(|end| end.is_some()) {
                return Err("does not start".to_owned());
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Returns the CPU time of the process and its descendants.
    pub(crate) fn cpu(&self) -> Duration {
        self.tree().into_iter().map(cpu).sum()
    }

    /// Returns the memory of the process and its descendants in bytes, as PSS.
    pub(crate) fn memory(&self) -> u64 {
        self.tree().into_iter().map(memory).sum()
    }

    /// Returns the IDs of the process and its descendants.
    fn tree(&self) -> Vec<u32> {
        let mut tree = vec![self.child.id()];
        let mut at = 0;
        while let Some(&parent) = tree.get(at) {
            for task in tasks(parent) {
                let children = fs::read_to_string(format!("{task}/children")).unwrap_or_default();
                tree.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
            }
            at += 1;
        }
        tree
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        SPENT.fetch_add(nanos(self.cpu()), Relaxed);
        for id in self.tree() {
            if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// Returns the CPU time of the threads of a process, as counted by the scheduler.
pub(crate) fn cpu(id: u32) -> Duration {
    let of_task = |task: String| -> Option<u64> {
        fs::read_to_string(format!("{task}/schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    Duration::from_nanos(tasks(id).filter_map(of_task).sum())
}

/// Runs `run`. Returns its result and the CPU time that unrelated processes took meanwhile, as a
/// fraction of the elapsed time.
pub(crate) fn share_of_others<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let ours = || cpu(std::process::id()) + Duration::from_nanos(SPENT.load(Relaxed));
    let (before, begun) = ((all(), ours()), Instant::now());
    let done = run();
    let took = begun.elapsed().as_secs_f64();
    let others = all().saturating_sub(before.0).saturating_sub(ours().saturating_sub(before.1));
    (done, others.as_secs_f64() / took)
}

/// Returns the CPU time of all processes since the machine was started.
fn all() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers = stat.split_whitespace().skip(1).map_while(|number| number.parse::<u64>().ok());
    // The fourth and fifth number are idle times. The unit is a hundredth of a second.
    let busy = numbers.take(8).enumerate().filter(|(at, _)| !(3..5).contains(at));
    Duration::from_millis(10 * busy.map(|(_, number)| number).sum::<u64>())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("less than 584 years")
}

fn tasks(id: u32) -> impl Iterator<Item = String> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    tasks.map(|task| task.path().to_string_lossy().into_owned())
}

fn memory(id: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Replaces this process by a server, on the first `cores` processors if that is not zero. The server
/// is terminated when its parent process exits.
pub(crate) fn launch(args: &[String]) -> ! {
    let [cores, program, args @ ..] = args else { panic!("nothing to launch") };
    set_parent_process_death_signal(Some(Signal::TERM)).expect("Linux");
    let cores: usize = cores.parse().expect("a number");
    if cores > 0 {
        use_processors(&processors()[..cores]);
    }
    panic!("{program}: {}", Command::new(program).args(args).exec());
}

/// Returns the processors that this thread may use.
pub(crate) fn processors() -> Vec<usize> {
    let set = sched_getaffinity(None).expect("Linux");
    (0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect()
}

/// Restricts this thread and its future children to these processors.
pub(crate) fn use_processors(which: &[usize]) {
    let mut set = CpuSet::new();
    for processor in which {
        set.set(*processor);
    }
    sched_setaffinity(None, &set).expect("the processors exist");
}

/// Raises the limit of open files, which the servers inherit. Returns the new limit.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("up to the limit");
    limit.maximum.unwrap_or(u64::MAX)
}
