//! The command line: the flags of the server, or a command.

mod generate;
mod output;
mod publish;
mod tail;
mod target;

use std::env;
use std::process::ExitCode;

use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::output::{Failure, report};
use crate::args::{ABOUT_ENVIRONMENT, Args};

/// A small server for server-sent events: topics with publish, subscribe and replay.
///
/// Without a command, it serves.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = ABOUT_ENVIRONMENT)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) args: Args,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What the program does other than serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Tail(tail::Tail),
    Pub(publish::Publish),
    Completions(generate::Completions),
    Man(generate::Man),
}

impl CommandLine {
    /// Parses the command line, and the environment if it contains no command. Exits with a message
    /// if it is invalid, or after `--help` and `--version`.
    pub(crate) fn from_environment() -> Self {
        // A negative number gets the error of its flag, not that of an unknown flag.
        let negative = |flag: Arg| {
            let takes_value = flag.get_action().takes_values();
            flag.allow_negative_numbers(takes_value)
        };
        let mut command = Self::command()
            .mut_args(negative)
            .mut_subcommands(|command| command.mut_args(negative));
        // The variables are those of the server's flags. An invalid one must not stop a command.
        let first = env::args_os().nth(1);
        if first.is_none_or(|first| command.find_subcommand(first).is_none()) {
            command = Args::with_environment(command);
        }
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

impl Command {
    /// Runs the command and returns the exit code.
    pub(crate) fn run(self) -> ExitCode {
        let result = match self {
            Self::Tail(tail) => tail.run(),
            Self::Pub(publish) => publish.run(),
            Self::Completions(completions) => completions.run(CommandLine::command()),
            Self::Man(man) => man.run(CommandLine::command()),
        };
        let (code, error) = match result {
            Ok(()) => return ExitCode::SUCCESS,
            Err(Failure::Refused(error)) => (1, error),
            // As clap.
            Err(Failure::Invalid(error)) => (2, error),
            Err(Failure::NoResponse(error)) => (3, error),
        };
        report(format_args!("error: {error}"));
        ExitCode::from(code)
    }
}
