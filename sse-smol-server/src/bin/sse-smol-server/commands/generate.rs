//! The commands `completions` and `man`, which print files for installation.

use clap::Command;
use clap_complete::{Shell, generate};

use super::output::{Failure, print};

/// Print a script that completes the command line in a shell
///
/// For bash: source <(sse-smol-server completions bash)
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Shell to print the script for
    shell: Shell,
}

/// Print the manual page, as roff
///
/// To read it: sse-smol-server man | man -l -
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Command to print the page of, instead of that of the server
    #[arg(value_parser = ["tail", "pub", "completions", "man"])]
    command: Option<String>,
}

impl Completions {
    pub(super) fn run(self, mut command: Command) -> Result<(), Failure> {
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        generate(self.shell, &mut command, &name, &mut script);
        let script = String::from_utf8_lossy(&script);
        // clap_complete 4.6 spells a name with hyphens in two ways, so that bash would complete
        // nothing after a command (github.com/clap-rs/clap/issues/6421).
        let (wrong, right) = (name.replace('-', "__subcmd__"), name.replace('-', "__"));
        print(script.replace(&wrong, &right).as_bytes()).map(drop)
    }
}

impl Man {
    pub(super) fn run(self, mut command: Command) -> Result<(), Failure> {
        // Completes the names and the usage of the commands.
        command.build();
        let source = command.render_version().trim_end().to_owned();
        if let Some(page) = self.command.and_then(|name| command.find_subcommand(name)) {
            command = page.clone();
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .source(source)
            .render(&mut page)
            .map_err(|error| Failure::Refused(format!("cannot write the page: {error}")))?;
        print(&page).map(drop)
    }
}
