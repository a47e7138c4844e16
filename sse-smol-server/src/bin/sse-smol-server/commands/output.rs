//! The output of commands, and the ways in which they fail.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

/// The ways in which a command fails.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line or the environment is invalid, in a way that clap has not detected.
    Invalid(String),
    /// The server has refused the request, or the output could not be written.
    Refused(String),
    /// There was no connection, or no valid response.
    NoResponse(String),
}

/// Writes a line to standard error. If that is closed, there is no other place for it.
pub(super) fn report(line: fmt::Arguments<'_>) {
    let mut visible = String::new();
    push_visible(&mut visible, &line.to_string());
    let _ = writeln!(io::stderr(), "{visible}");
}

/// Appends text, with escapes in place of control characters, which could control a terminal.
pub(super) fn push_visible(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\t' => line.push('\t'),
            character if character.is_control() => line.extend(character.escape_default()),
            character => line.push(character),
        }
    }
}

/// Writes to standard output. Returns whether its reader has not closed it.
pub(super) fn print(bytes: &[u8]) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Refused(format!("cannot write the output: {error}"))),
    }
}
