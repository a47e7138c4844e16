//! Short forms of URLs for the commands.

use crate::client::Url;

/// The server of URLs that name none: the default of `--listen`.
const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// What is accepted, for `--help` and errors.
pub(super) const FORMS: &str = "a topic or a path that begins with / on 127.0.0.1:8080, \
                                [http://]HOST[:PORT]/PATH, or unix:SOCKET:/PATH";

/// Parses a URL, or a short form of it.
///
/// # Errors
///
/// A description of the problem.
pub(super) fn target(text: &str) -> Result<Url, String> {
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if text.starts_with('/') {
        Url::parse(&format!("{DEFAULT_SERVER}{text}"))
    } else if text.contains("://") || text.starts_with("unix:") {
        Url::parse(text)
    } else if text.contains(['/', ':']) {
        Url::parse(&format!("http://{text}"))
    } else if !text.is_empty() && text.bytes().all(is_in_name) {
        Url::parse(&format!("{DEFAULT_SERVER}/topics/{text}"))
    } else {
        Err(format!("must be {FORMS}. Names of topics are made of A-Z a-z 0-9 . _ ~ -"))
    }
}
