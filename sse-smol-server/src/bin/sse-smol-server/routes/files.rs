//! `--serve`: the files below a directory.

mod content_type;
mod range;
mod validators;

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use sse_smol_server::{Error, Request, RequestError, Response, not_allowed};

use self::content_type::content_type;
use self::range::Part;
use self::validators::Validators;
use crate::beneath::{Found, open_beneath};

/// The maximum number of bytes of a file that are held for a client.
const PIECE: u64 = 64 << 10;

/// The route for the files below a directory.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// The file, relative to the root, that is the page of all paths without a file.
    fallback: Option<PathBuf>,
}

/// The result of looking up the path of a request.
enum Answer {
    File(Content),
    /// A response without the content of the file.
    Other(Response),
    /// A directory whose path in the request does not end in a slash, so that relative links in its
    /// page would not resolve.
    Directory,
}

/// A file that is being read.
struct Content {
    /// The head of the response.
    head: http::Response<()>,
    file: File,
    /// The number of bytes to send.
    length: u64,
    /// The bytes that were read last.
    piece: Vec<u8>,
}

impl Content {
    /// Reads the next piece, of at most `remaining` bytes. It is empty at the end of the file.
    /// Blocks.
    fn read(&mut self, remaining: u64) -> io::Result<()> {
        let length = remaining.min(PIECE);
        // The exact capacity, since sending a piece with spare capacity would copy it.
        self.piece = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        (&self.file).take(length).read_to_end(&mut self.piece)?;
        Ok(())
    }

    /// Sends the file, and reads it no faster than the peer takes it.
    async fn send(mut self, request: Request) -> Result<(), Error> {
        let head = std::mem::take(&mut self.head);
        let mut body = request.start_response(head, self.length);
        loop {
            body.send(std::mem::take(&mut self.piece)).await?;
            let remaining = body.remaining();
            if remaining == 0 {
                return Ok(());
            }
            self = smol::unblock(move || self.read(remaining).map(|()| self)).await?;
            if self.piece.is_empty() {
                return Err(Error::Failed("the file became shorter while it was sent".into()));
            }
        }
    }
}

impl Files {
    /// Creates the route for the directory at this path. The path is resolved for each request, so
    /// that a symbolic link in it can be switched to another directory.
    pub(super) const fn new(root: PathBuf, fallback: Option<PathBuf>) -> Self {
        Self { root, fallback }
    }

    pub(super) async fn serve(&self, mut request: Request) -> Result<(), Error> {
        // Clients may store a file but must revalidate it, so that a reloaded page is current.
        let no_cache = HeaderValue::from_static("no-cache");
        request.response_headers_mut().insert(CACHE_CONTROL, no_cache);
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return request.respond(not_allowed("GET, HEAD")).await;
        }
        let found = match names(request.path()) {
            Some(path) => {
                let root = self.root.clone();
                let fallback = self.fallback.clone().filter(|_| may_be_page(&path));
                let is_directory = request.path().ends_with('/');
                // A `HEAD` request is answered as for the whole content, without reading it.
                let with_content = request.method() == Method::GET;
                let headers = request.headers().clone();
                let find = move || {
                    let found = find(&root, path, is_directory, &headers, with_content);
                    match fallback {
                        Some(page) if found.as_ref().is_err_and(is_missing) => {
                            find(&root, page, false, &headers, with_content)
                        }
                        _ => found,
                    }
                };
                smol::unblock(find).await
            }
            None => Err(ErrorKind::NotFound.into()),
        };
        let response = match found {
            Ok(Answer::File(content)) => return content.send(request).await,
            Ok(Answer::Other(response)) => response,
            Ok(Answer::Directory) => to_directory(&request),
            Err(error) => {
                if !is_missing(&error) {
                    log::warn!("cannot serve {:?}: {error}", request.path());
                }
                RequestError::new(StatusCode::NOT_FOUND, "There is no file at this path.")
                    .response()
            }
        };
        request.respond(response).await
    }
}

/// Returns whether an error means that there is no file at the path.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Returns whether a path without a file can be that of a page. A script or an image that is missing
/// has an extension, and is not answered with a page.
fn may_be_page(path: &Path) -> bool {
    path.file_name().is_none_or(|name| !name.as_encoded_bytes().contains(&b'.'))
}

/// Returns the decoded names of a request's path as a relative path that only leads down, or `None`
/// if a name is hidden or cannot be the name of a file.
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

/// Opens a file, and reads the first piece of what the headers of the request select, if
/// `with_content` is set. Blocks.
fn find(
    root: &Path,
    mut path: PathBuf,
    is_directory: bool,
    headers: &HeaderMap,
    with_content: bool,
) -> io::Result<Answer> {
    if is_directory {
        path.push("index.html");
    }
    let mut file = match open_beneath(root, &path)? {
        Found::File(file) => file,
        Found::Directory if is_directory => return Err(ErrorKind::NotFound.into()),
        Found::Directory => return Ok(Answer::Directory),
    };
    // The metadata are read before the content: if the file changes in between, the validators are
    // those of the old content, and the next request with them gets the new content.
    let metadata = file.metadata()?;
    let mut length = metadata.len();
    let validators = Validators::of(&metadata, SystemTime::now());
    if validators.are_held(headers) {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        validators.add_to(response.headers_mut());
        return Ok(Answer::Other(response));
    }
    let mut head = http::Response::new(());
    validators.add_to(head.headers_mut());
    head.headers_mut().insert(CONTENT_TYPE, content_type(&path));
    head.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let is_range = with_content && validators.allow_range(headers);
    match if is_range { Part::of(headers, length) } else { Part::Whole } {
        Part::Whole => {}
        Part::Bytes { first, last } => {
            *head.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = HeaderValue::try_from(format!("bytes {first}-{last}/{length}"));
            head.headers_mut().insert(CONTENT_RANGE, range.map_err(io::Error::other)?);
            file.seek(SeekFrom::Start(first))?;
            length = last - first + 1;
        }
        Part::Unsatisfiable => {
            let line = format!("The file has {length} bytes.");
            let mut response =
                RequestError::new(StatusCode::RANGE_NOT_SATISFIABLE, &line).response();
            let range = HeaderValue::try_from(format!("bytes */{length}"));
            response.headers_mut().insert(CONTENT_RANGE, range.map_err(io::Error::other)?);
            return Ok(Answer::Other(response));
        }
    }
    let mut content = Content { head, file, length, piece: Vec::new() };
    if with_content {
        content.read(length)?;
    }
    Ok(Answer::File(content))
}

/// Redirects to the path of the directory, which ends in a slash.
fn to_directory(request: &Request) -> Response {
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = format!("{}/{query}", request.path());
    let mut response = RequestError::new(StatusCode::TEMPORARY_REDIRECT, &location).response();
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
