//! Who may do what: closed by default.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use sse_smol_server::{Request, Response, text};
use subtle::ConstantTimeEq as _;

use crate::args::Args;

/// The rules.
#[derive(Debug)]
pub(crate) struct Guard {
    token: Option<Vec<u8>>,
    on_loopback: bool,
    origins: Vec<String>,
    hosts: Vec<String>,
}

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Event-Id, Event-Retry, Event-Type, Idempotency-Key, Last-Event-ID",
);

impl Guard {
    pub(crate) fn new(args: &Args, address: SocketAddr) -> Result<Self, String> {
        let from_file = args.token_file.as_ref().map(|path| {
            let why = |error| format!("cannot read the token from {}: {error}", path.display());
            fs::read(path).map_err(why)
        });
        let token = match from_file.transpose()? {
            Some(token) => Some(token),
            None => env::var_os(&args.token_env).map(OsString::into_encoded_bytes),
        };
        let token = token.map(|token| token.trim_ascii().to_vec());
        if token.as_ref().is_some_and(Vec::is_empty) {
            return Err("the token for publishing is empty".to_owned());
        }
        if token.as_ref().is_some_and(|token| !token.iter().all(u8::is_ascii_graphic)) {
            let why = "the token for publishing holds what no header can: use visible ASCII";
            return Err(why.to_owned());
        }
        Ok(Self {
            token,
            on_loopback: address.ip().to_canonical().is_loopback(),
            origins: args.allow_origin.clone(),
            hosts: args.allow_host.clone(),
        })
    }

    /// Checks a request before anything else sees it, and sets what its answer has to say of the
    /// page that it came from. Gives the answer if that is all.
    pub(crate) fn check(&self, request: &mut Request) -> Option<Response> {
        let host = request.headers().get(header::HOST).map(|host| host.to_str().map(str::to_owned));
        // Without a host there is only HTTP/1.0, which no browser speaks.
        let host = host.unwrap_or(Ok(String::new())).unwrap_or_else(|_| "?".to_owned());
        if !self.is_host(&host) {
            let line = "This server does not answer for this host (see --allow-host).";
            return Some(text(StatusCode::MISDIRECTED_REQUEST, line));
        }
        // Also without an origin, or a cache would give one page the answer for another.
        request.response_headers_mut().insert(header::VARY, HeaderValue::from_static("Origin"));
        let origin = request.headers().get(header::ORIGIN)?.clone();
        let allowed = self.is_origin(origin.to_str().unwrap_or_default(), &host);
        if allowed {
            request.response_headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        let changes_nothing = matches!(*request.method(), Method::GET | Method::HEAD);
        // What a browser may read of the answer is its business; the headers say it.
        if changes_nothing {
            return None;
        }
        if !allowed {
            let line = "Pages of this origin may not do that (see --allow-origin).";
            return Some(text(StatusCode::FORBIDDEN, line));
        }
        let preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        preflight.then(|| {
            let mut response = Response::new(Vec::new());
            *response.status_mut() = StatusCode::NO_CONTENT;
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
            response
        })
    }

    /// Whether a request may publish. Gives the answer if not.
    pub(crate) fn check_publisher(&self, request: &Request) -> Option<Response> {
        let Some(token) = &self.token else {
            let line = "Publishing is closed: start the server with a token (see --token-file).";
            return (!self.on_loopback).then(|| text(StatusCode::FORBIDDEN, line));
        };
        let given = text_of(request.headers(), &header::AUTHORIZATION);
        let given = match given.split_once(' ') {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => given.trim(),
            _ => "",
        };
        // Lengths are no secret, contents are: how long this takes does not tell where they differ.
        if given.as_bytes().ct_eq(token).into() {
            return None;
        }
        let mut response = text(StatusCode::UNAUTHORIZED, "Publishing needs the bearer token.");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(response)
    }

    /// A page elsewhere can have its name lead here, and would be of the same origin then. So, on
    /// a loopback address, the name has to be one of this machine's.
    fn is_host(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let local = name.eq_ignore_ascii_case("localhost")
            || name.to_ascii_lowercase().ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
        let listed = self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        // HTTP/1.0 need not name a host; browsers do.
        let free = !self.on_loopback && self.hosts.is_empty();
        local || listed || free || host.is_empty()
    }

    fn is_origin(&self, origin: &str, host: &str) -> bool {
        let same = origin.split_once("://").is_some_and(|(_, origin_host)| origin_host == host);
        same || self.origins.iter().any(|listed| listed == "*" || listed == origin)
    }
}

fn text_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
