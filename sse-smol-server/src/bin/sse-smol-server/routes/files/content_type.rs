//! The content types of files.

use std::ffi::OsStr;
use std::path::Path;

use http::header::HeaderValue;

/// Returns the content type of a file, by the extension of its name.
pub(super) fn content_type(path: &Path) -> HeaderValue {
    let by_extension = path.extension().and_then(for_development).map(str::to_owned);
    let guess = by_extension.unwrap_or_else(|| {
        let guess = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
        let charset = if guess.starts_with("text/") { "; charset=utf-8" } else { "" };
        format!("{guess}{charset}")
    });
    HeaderValue::try_from(guess).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Returns the content type of a file of web developers, if the registry has none, or one of another
/// format.
fn for_development(extension: &OsStr) -> Option<&'static str> {
    Some(match extension.to_str()?.to_ascii_lowercase().as_str() {
        // Browsers run modules only with a type of JavaScript. `.ts` is registered for videos, and a
        // page that imports such a file brings its own translation, or has no types in it.
        "js" | "mjs" | "cjs" | "jsx" | "ts" | "mts" | "cts" | "tsx" => {
            "text/javascript; charset=utf-8"
        }
        // Browsers compile modules while they arrive only with this type.
        "wasm" => "application/wasm",
        // Pages fetch components and templates as text, and browsers display them.
        "vue" | "svelte" | "astro" | "scss" | "sass" | "less" => "text/plain; charset=utf-8",
        "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        _ => return None,
    })
}
