//! `--serve`: the files below a directory.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use sse_smol_server::{End, Request, Response, not_allowed, text};

#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
}

/// What there is at a path.
enum Found {
    File(HeaderValue, Vec<u8>),
    /// A directory, and the path does not end as its path would: links in its page that are
    /// relative would lead elsewhere.
    Directory,
}

impl Files {
    /// Serves what is below the directory at this real path.
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) async fn serve(&self, mut request: Request) -> Result<(), End> {
        // Kept, but never shown before asking: a page that is reloaded is as new as its files.
        let no_cache = HeaderValue::from_static("no-cache");
        request.response_headers_mut().insert(CACHE_CONTROL, no_cache);
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return request.respond(not_allowed("GET, HEAD")).await;
        }
        let found = match names(request.path()) {
            Some(path) => {
                let root = self.root.clone();
                let is_directory = request.path().ends_with('/');
                smol::unblock(move || find(&root, &path, is_directory)).await
            }
            None => Err(ErrorKind::NotFound.into()),
        };
        let response = match found {
            Ok(Found::File(content_type, bytes)) => {
                let mut response = Response::new(bytes);
                response.headers_mut().insert(CONTENT_TYPE, content_type);
                response
            }
            Ok(Found::Directory) => to_directory(&request),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    log::warn!("{:?}: {error}", request.path());
                }
                text(StatusCode::NOT_FOUND, "There is no such file.")
            }
        };
        request.respond(response).await
    }
}

/// The names in a request's path, as a path that leads nowhere but down; `None` if they are such
/// that no file is served by them.
fn names(path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix('/')?;
    let mut names = PathBuf::new();
    if path.is_empty() {
        return Some(names);
    }
    for name in path.strip_suffix('/').unwrap_or(path).split('/') {
        let name = percent_decode_str(name).decode_utf8().ok()?;
        // `..` begins with a dot, too.
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return None;
        }
        names.push(&*name);
    }
    Some(names)
}

/// Looks for a file and reads it; blocks.
fn find(root: &Path, path: &Path, is_directory: bool) -> io::Result<Found> {
    // Links are followed as long as they stay inside.
    let inside = |path: PathBuf| match path.canonicalize() {
        Ok(path) if !path.starts_with(root) => Err(io::Error::from(ErrorKind::NotFound)),
        other => other,
    };
    let mut path = path.to_owned();
    let mut file = inside(root.join(&path))?;
    if file.is_dir() {
        if !is_directory {
            return Ok(Found::Directory);
        }
        path.push("index.html");
        file = inside(root.join(&path))?;
    } else if is_directory {
        return Err(ErrorKind::NotFound.into());
    }
    // Reading something else might never end.
    if !file.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    Ok(Found::File(content_type(&path), fs::read(file)?))
}

fn content_type(path: &Path) -> HeaderValue {
    let guess = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    let with_charset = guess.starts_with("text/").then(|| format!("{guess}; charset=utf-8"));
    with_charset
        .and_then(|value| HeaderValue::try_from(value).ok())
        .unwrap_or(HeaderValue::from_static(guess))
}

/// Sends on to the path of the directory.
fn to_directory(request: &Request) -> Response {
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}/{query}", request.path());
    let mut response = text(StatusCode::TEMPORARY_REDIRECT, &location);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
