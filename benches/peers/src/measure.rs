//! Times that hold on a machine that others use, too: CPU time of the thread, the rows taking
//! turns, the median of many rounds.

use std::fmt::Write as _;
use std::time::Duration;

use cpu_time::ThreadTime;

/// How much there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Everything, for the tables.
    Full,
    /// Less of everything, to see how it looks.
    Quick,
    /// Once each, for the results: nothing is timed.
    Test,
}

impl Effort {
    /// From the command line: `--quick`, `--test`, or nothing. Cargo adds `--bench` of its own.
    pub fn from_args() -> Self {
        let mut effort = Self::Full;
        for arg in std::env::args().skip(1) {
            effort = match &*arg {
                "--quick" => Self::Quick,
                "--test" => Self::Test,
                other => panic!("{other}: there are --quick and --test"),
            };
        }
        effort
    }

    /// The time that one row of one table may take, beyond its first run.
    fn budget(self) -> Duration {
        Duration::from_millis(match self {
            Self::Full => 60,
            Self::Quick => 6,
            Self::Test => 0,
        })
    }
}

/// The most rounds that anything is timed.
const ROUNDS: u32 = 41;

/// What one run of each of these takes: the median over rounds in which all take turns. What is
/// slow is run in fewer rounds, and what takes more than the budget but once.
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
    // The first run warmed up.
    let timed = if samples.len() > 1 { &mut samples[1..] } else { samples };
    timed.sort_unstable();
    timed[timed.len() / 2]
}

/// A Markdown table: a line of heads, and lines of cells.
#[derive(Debug)]
pub struct Table {
    text: String,
}

impl Table {
    /// A table with these heads; all columns but the first are flush right.
    pub fn new<S: AsRef<str>>(heads: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self { text: String::new() };
        let columns = table.line(heads);
        table.text += "|---|";
        table.text += &"---:|".repeat(columns - 1);
        table.text.push('\n');
        table
    }

    /// One more line; gives the number of its cells.
    pub fn line<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) -> usize {
        let mut count = 0;
        for cell in cells {
            write!(self.text, "| {} ", cell.as_ref()).expect("memory");
            count += 1;
        }
        self.text += "|\n";
        count
    }

    /// Prints it, with an empty line after it.
    pub fn print(self) {
        println!("{}", self.text);
    }
}
