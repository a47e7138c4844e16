//! Time measurement that is robust on a shared machine: CPU time of the thread, with all rows
//! taking turns, and the median of many rounds.

use std::fmt::Write as _;
use std::time::Duration;

use cpu_time::ThreadTime;

/// The extent of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The full number of rounds, for the published tables.
    Full,
    /// Fewer rounds, for a quick result.
    Quick,
    /// One run each, to check the results without timing.
    Test,
}

impl Effort {
    /// Parses the command line: `--quick`, `--test`, or no argument. Panics on other arguments.
    pub fn from_args() -> Self {
        let mut effort = Self::Full;
        for arg in std::env::args().skip(1) {
            effort = match &*arg {
                "--quick" => Self::Quick,
                "--test" => Self::Test,
                other => panic!("{other}: the options are --quick and --test"),
            };
        }
        effort
    }

    /// Returns the time for all runs of one row of one table after the first run.
    fn budget(self) -> Duration {
        Duration::from_millis(match self {
            Self::Full => 60,
            Self::Quick => 6,
            Self::Test => 0,
        })
    }
}

/// The maximum number of timed rounds.
const ROUNDS: u32 = 41;

/// Returns the median CPU time of each function, over rounds in which all take turns. Slow functions
/// run in fewer rounds, and those that exceed the budget only once.
pub fn medians(effort: Effort, runs: &mut [Box<dyn FnMut() + '_>]) -> Vec<Duration> {
    let mut samples: Vec<Vec<Duration>> = runs.iter_mut().map(|run| vec![time(run)]).collect();
    let rounds: Vec<u32> = samples
        .iter()
        .map(|first| {
            let fit = effort.budget().as_nanos() / first[0].as_nanos().max(1);
            u32::try_from(fit).unwrap_or(ROUNDS).min(ROUNDS)
        })
        .collect();
    for round in 0..ROUNDS {
        for ((run, rounds), samples) in runs.iter_mut().zip(&rounds).zip(&mut samples) {
            if round < *rounds {
                samples.push(time(run));
            }
        }
    }
    samples.iter_mut().map(|samples| median(samples)).collect()
}

fn time(run: &mut impl FnMut()) -> Duration {
    let start = ThreadTime::now();
    run();
    start.elapsed()
}

fn median(samples: &mut [Duration]) -> Duration {
    // The first run was a warm-up.
    let timed = if samples.len() > 1 { &mut samples[1..] } else { samples };
    timed.sort_unstable();
    timed[timed.len() / 2]
}

/// A Markdown table.
#[derive(Debug)]
pub struct Table {
    text: String,
}

impl Table {
    /// Creates a table with these column heads. All columns but the first are right-aligned.
    pub fn new<S: AsRef<str>>(heads: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self { text: String::new() };
        let columns = table.line(heads);
        table.text += "|---|";
        table.text += &"---:|".repeat(columns - 1);
        table.text.push('\n');
        table
    }

    /// Appends a row and returns the number of its cells.
    pub fn line<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) -> usize {
        let mut count = 0;
        for cell in cells {
            write!(self.text, "| {} ", cell.as_ref()).expect("memory");
            count += 1;
        }
        self.text += "|\n";
        count
    }

    /// Prints the table and an empty line.
    pub fn print(self) {
        println!("{}", self.text);
    }
}
