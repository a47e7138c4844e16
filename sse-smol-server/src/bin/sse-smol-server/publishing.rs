//! Authorization of publishers: by a bearer token, or open to every client.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use subtle::ConstantTimeEq as _;

use crate::args::{Args, DEFAULT_VARIABLE};

/// The maximum length of a token in bytes, so that it fits into a request head.
const MAX_TOKEN: usize = 4096;

/// The credentials that a request needs to publish.
#[derive(Debug)]
pub(crate) enum Publishing {
    /// None.
    Open,
    /// The token from a file or the environment.
    Configured(Token),
    /// The token that was generated at start, since none was configured.
    Generated(Token),
}

impl Publishing {
    /// Reads the token from the source that the flags name, or generates one.
    ///
    /// # Errors
    ///
    /// A description of the problem if a configured token cannot be read or used, or if no token
    /// can be generated. The server must not start with other rules than the configured ones.
    pub(crate) fn new(args: &Args) -> Result<Self, String> {
        let configured = configured(args.token_file.as_deref(), args.token_env.as_deref())?;
        match configured {
            // The flags exclude each other, so the token is from the default variable.
            Some(_) if args.open_publishing => Err(format!(
                "--open-publishing cannot be used with a token: unset {DEFAULT_VARIABLE}"
            )),
            Some(token) => Ok(Self::Configured(token)),
            None if args.open_publishing => Ok(Self::Open),
            None => Token::generate().map(Self::Generated),
        }
    }

    /// Returns the token that publishers need, if any.
    pub(crate) const fn token(&self) -> Option<&Token> {
        match self {
            Self::Open => None,
            Self::Configured(token) | Self::Generated(token) => Some(token),
        }
    }
}

/// Returns the token from a file, or else from the environment variable with this name. Without
/// either, returns that of the variable [`DEFAULT_VARIABLE`], if it is set.
///
/// # Errors
///
/// A description of the problem if the token cannot be read or used.
pub(crate) fn configured(
    token_file: Option<&Path>,
    token_env: Option<&str>,
) -> Result<Option<Token>, String> {
    if let Some(path) = token_file {
        let error =
            |why| format!("cannot use the token in {} (--token-file): {why}", path.display());
        return read(path).and_then(|bytes| Token::new(&bytes)).map(Some).map_err(error);
    }
    let variable = token_env.unwrap_or(DEFAULT_VARIABLE);
    let error = |why| format!("cannot use the token in the environment variable {variable}: {why}");
    match env::var_os(variable) {
        Some(value) => Token::new(value.as_encoded_bytes()).map(Some).map_err(error),
        None if token_env.is_some() => Err(error("it is not set (--token-env)".into())),
        None => Ok(None),
    }
}

/// A bearer token: visible ASCII.
pub(crate) struct Token(String);

impl Token {
    /// Checks a token. White space around it is ignored.
    ///
    /// # Errors
    ///
    /// A description of what is wrong.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return Err("it is empty".into());
        }
        if bytes.len() > MAX_TOKEN {
            return Err(format!("it is longer than {MAX_TOKEN} bytes"));
        }
        if bytes.contains(&b'\n') {
            return Err("it has several lines, but a token has only one".into());
        }
        match std::str::from_utf8(bytes) {
            Ok(token) if bytes.iter().all(u8::is_ascii_graphic) => Ok(Self(token.to_owned())),
            _ => Err("it contains white space or characters other than visible ASCII".into()),
        }
    }

    /// Generates a token: 128 bits from the system's random number generator, in hexadecimal.
    fn generate() -> Result<Self, String> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| {
            format!("cannot get random numbers for a token from the system: {error}")
        })?;
        Ok(Self(format!("{:032x}", u128::from_ne_bytes(bytes))))
    }

    /// Returns whether `given` is the token, in a time that depends only on the lengths.
    pub(crate) fn is(&self, given: &str) -> bool {
        given.as_bytes().ct_eq(self.0.as_bytes()).into()
    }

    /// Returns the token in clear text, to show to the operator. It must not reach a log or a
    /// response.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    /// Omits the token, so that it cannot reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // Twice the maximum, to allow for white space around the token.
    let limit = 2 * MAX_TOKEN as u64;
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(_) if bytes.len() as u64 > limit => {
            Err(format!("the file is larger than {limit} bytes"))
        }
        Ok(_) => Ok(bytes),
    }
}
