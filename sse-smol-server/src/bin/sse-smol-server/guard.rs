//! Which requests are answered: rules for hosts, origins of pages, and publishers.

use std::collections::HashSet;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use sse_smol_server::{Authority, Request, Response, text};

use crate::args::Args;
use crate::host::{AllowedOrigin, Host, Origin};
use crate::publishing::Publishing;

/// The rules.
#[derive(Debug)]
pub(crate) struct Guard {
    publishing: Publishing,
    on_loopback: bool,
    origins: Vec<AllowedOrigin>,
    hosts: Vec<Host>,
}

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
const HEADERS: &str = "Authorization, Content-Type, Event-Id, Event-Retry, Event-Type, \
                       Idempotency-Key, Last-Event-ID";

/// What the answer to a preflight depends on.
const PREFLIGHT_VARY: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network",
);

/// The page that a request came from, if a browser sent it.
struct Page {
    /// The `Origin` header, unless there is none or more than one.
    header: Option<HeaderValue>,
    several: bool,
    /// Whether `--allow-origin` lists the origin.
    by_name: bool,
    /// Whether `--allow-origin` is `*`.
    by_any: bool,
    is_origin: bool,
    is_same: bool,
}

impl Guard {
    pub(crate) fn new(args: &Args, publishing: Publishing) -> Self {
        let on_loopback = args.listens_on_loopback();
        if matches!(publishing, Publishing::Open) {
            log::warn!("publishing needs no token (--open-publishing)");
        }
        if !on_loopback && args.allow_host.is_empty() {
            log::warn!(
                "requests for any host name are answered, so a web page whose name resolves to this \
                 address (DNS rebinding) can read everything: list the names of this server with \
                 --allow-host"
            );
        }
        Self {
            publishing,
            on_loopback,
            origins: args.allow_origin.clone(),
            hosts: args.allow_host.clone(),
        }
    }

    /// Checks a request before it is routed, and sets the response headers that depend on the page
    /// it came from. Returns the response if the request ends here.
    pub(crate) fn check(&self, request: &mut Request) -> Option<Response> {
        // Load balancers probe by address, and learn nothing from the answer.
        let is_probe = !self.on_loopback && request.path() == "/healthz";
        if !is_probe && !request.authority().is_none_or(|authority| self.answers_for(authority)) {
            let line = "This server does not answer for this host (see --allow-host).";
            return Some(text(StatusCode::MISDIRECTED_REQUEST, line));
        }
        let page = self.page(request);
        let is_preflight = *request.method() == Method::OPTIONS
            && page.header.is_some()
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        // Also without an origin, or a cache would give one page the answer for another.
        let vary = if is_preflight { PREFLIGHT_VARY } else { HeaderValue::from_static("Origin") };
        request.response_headers_mut().insert(header::VARY, vary);
        if let Some(origin) = page.header.clone().filter(|_| page.may_read()) {
            request.response_headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        let allowed = match *request.method() {
            // The browser withholds the answer from pages that may not read it.
            Method::GET | Method::HEAD => return None,
            _ if is_preflight => page.may_read(),
            _ => page.may_change(request.headers()),
        };
        if !allowed {
            let line = "Pages of this origin may not do that (see --allow-origin).";
            return Some(text(StatusCode::FORBIDDEN, line));
        }
        is_preflight.then(|| preflight(&page, request.headers()))
    }

    /// Whether a request may publish. Returns the refusal if not.
    pub(crate) fn check_publisher(&self, request: &Request) -> Option<Response> {
        let (token, advice) = match &self.publishing {
            Publishing::Open => return None,
            Publishing::Configured(token) => {
                (token, "it is the one that the server is configured with")
            }
            Publishing::Generated(token) => {
                (token, "the server printed it when it started, with a link to the page")
            }
        };
        let given = request.headers().get(header::AUTHORIZATION);
        let given = given.map_or(Ok(""), HeaderValue::to_str).unwrap_or("?");
        let line = match given.split_once(' ') {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case("bearer") => {
                if token.is(given.trim()) {
                    return None;
                }
                format!("This is not the token for publishing: {advice}.")
            }
            _ => format!("Publishing needs a bearer token: {advice}."),
        };
        let mut response = text(StatusCode::UNAUTHORIZED, &line);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(response)
    }

    /// Whether requests for this host are answered.
    ///
    /// A page elsewhere can have its name resolve to this machine, and is then of the same origin.
    /// So, on a loopback address, the host has to be this machine by name, or an address, which
    /// cannot be made to lead elsewhere.
    fn answers_for(&self, authority: Authority<'_>) -> bool {
        let host = Host::new(authority.host());
        let unlisted = if self.on_loopback { host.is_address() } else { self.hosts.is_empty() };
        unlisted || host.is_local() || self.hosts.contains(&host)
    }

    fn page(&self, request: &Request) -> Page {
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        let (first, several) = (origins.next(), origins.next().is_some());
        let header = first.filter(|_| !several);
        let origin = header.and_then(|value| value.to_str().ok()).and_then(Origin::parse);
        let is = |rule: fn(&AllowedOrigin, &Origin) -> bool| {
            origin.as_ref().is_some_and(|origin| self.origins.iter().any(|one| rule(one, origin)))
        };
        Page {
            header: header.cloned(),
            several,
            by_name: is(|rule, origin| matches!(rule, AllowedOrigin::Only(only) if only == origin)),
            by_any: self.origins.contains(&AllowedOrigin::Any),
            is_origin: origin.is_some(),
            is_same: origin.as_ref().is_some_and(|origin| {
                request.authority().is_some_and(|authority| origin.is_of(authority))
            }),
        }
    }
}

impl Page {
    /// Whether the page may read answers. That includes pages of the origin `null`, if all may.
    fn may_read(&self) -> bool {
        self.is_same || self.by_name || self.by_any
    }

    /// Whether `--allow-origin` covers the origin.
    fn is_listed(&self) -> bool {
        self.by_name || (self.by_any && self.is_origin)
    }

    /// Whether the request may change something. Programs that are no browsers send neither header;
    /// pages can set neither.
    fn may_change(&self, headers: &HeaderMap) -> bool {
        if self.is_listed() {
            return true;
        }
        if self.several {
            return false;
        }
        let mut sites = headers.get_all("sec-fetch-site").iter().peekable();
        if sites.peek().is_some() {
            return sites.all(|site| site == "same-origin" || site == "none");
        }
        self.header.is_none() || self.is_same
    }
}

/// Answers a preflight of a page that may make requests. Pages whose origin is listed may send any
/// header that they ask for.
fn preflight(page: &Page, asked: &HeaderMap) -> Response {
    let mut allowed = HEADERS.to_owned();
    if page.is_listed() {
        let mut known: HashSet<_> =
            HEADERS.split(", ").filter_map(|name| name.parse::<HeaderName>().ok()).collect();
        let values = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
        for name in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
            let name = name.trim_ascii();
            if name.is_empty() {
                continue;
            }
            let Ok(name) = HeaderName::from_bytes(name) else {
                let line = "Access-Control-Request-Headers is no list of header names.";
                return text(StatusCode::BAD_REQUEST, line);
            };
            if !known.contains(&name) {
                allowed.push_str(", ");
                allowed.push_str(name.as_str());
                known.insert(name);
            }
        }
    }
    let mut response = Response::new(Vec::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let allowed = HeaderValue::try_from(allowed).expect("header names are header values");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // A public page may reach into a private network only if the operator named it.
    let private = asked.get("access-control-request-private-network");
    if page.by_name && private.is_some_and(|value| value == "true") {
        let name = HeaderName::from_static("access-control-allow-private-network");
        headers.insert(name, HeaderValue::from_static("true"));
    }
    response
}
