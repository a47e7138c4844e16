//! Access rules for requests: by host, by the origin of the page, and for publishers.

use std::collections::HashSet;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use sse_smol_server::{Authority, Request, RequestError, Response, list_members};

use crate::args::Args;
use crate::host::{AllowedOrigin, Host, Origin};
use crate::publishing::Publishing;

/// The access rules.
#[derive(Debug)]
pub(crate) struct Guard {
    publishing: Publishing,
    on_loopback: bool,
    origins: Vec<AllowedOrigin>,
    hosts: Vec<Host>,
}

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
const HEADERS: &str = "Authorization, Content-Type, Event-Id, Event-Retry, Event-Type, \
                       Idempotency-Key, Last-Event-ID";

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The request headers that the response to a preflight depends on.
const PREFLIGHT_VARY: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Headers, Access-Control-Request-Private-Network",
);

/// The page that sent a request, as far as the `Origin` header identifies it.
struct Page {
    /// The `Origin` header, if there is exactly one.
    header: Option<HeaderValue>,
    /// Whether there is more than one `Origin` header.
    several: bool,
    /// Whether `--allow-origin` lists this origin.
    by_name: bool,
    /// Whether `--allow-origin` is `*`.
    by_any: bool,
    /// Whether the header is an origin, and not `null` or invalid.
    is_origin: bool,
    /// Whether this server served the page.
    is_same: bool,
}

impl Guard {
    pub(crate) fn new(args: &Args, publishing: Publishing) -> Self {
        let on_loopback = args.listens_on_loopback();
        if matches!(publishing, Publishing::Open) {
            log::warn!(
                "every client that can connect may publish, without a token (--open-publishing)"
            );
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
    /// that sent it. Returns the response if the request is rejected or is a preflight.
    pub(crate) fn check(&self, request: &mut Request) -> Option<Response> {
        // Load balancers probe by address. The responses reveal nothing of topics and clients.
        let is_probe = !self.on_loopback && matches!(request.path(), "/healthz" | "/readyz");
        if !is_probe && !request.authority().is_none_or(|authority| self.answers_for(authority)) {
            let line = "This server does not serve the host of this request (see --allow-host).";
            return Some(RequestError::new(StatusCode::MISDIRECTED_REQUEST, line).response());
        }
        let page = self.page(request);
        let is_preflight = *request.method() == Method::OPTIONS
            && page.header.is_some()
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        // Set even for a request without an origin. Otherwise a cache could give its response to a
        // page of another origin.
        let vary = if is_preflight { PREFLIGHT_VARY } else { HeaderValue::from_static("Origin") };
        request.response_headers_mut().insert(header::VARY, vary);
        match page.header.clone() {
            Some(origin) if page.may_read() => {
                request.response_headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            }
            // The browser gives the page no reason, so the log has it.
            Some(origin) if page.is_origin => log::info!(
                "the browser withholds the response to {:?} from the page; to allow it, start the \
                 server with --allow-origin {}",
                request.path(),
                String::from_utf8_lossy(origin.as_bytes()),
            ),
            _ => {}
        }
        let allowed = match *request.method() {
            // Browsers withhold the response from pages that may not read it.
            Method::GET | Method::HEAD => return None,
            _ if is_preflight => page.may_read(),
            _ => page.may_change(request.headers()),
        };
        if !allowed {
            let line = "Pages of this origin may not send this request (see --allow-origin).";
            return Some(RequestError::new(StatusCode::FORBIDDEN, line).response());
        }
        is_preflight.then(|| preflight(&page, request.headers()))
    }

    /// Checks whether a request may publish. Returns the response if it may not.
    pub(crate) fn check_publisher(&self, request: &Request) -> Option<Response> {
        let (token, advice) = match &self.publishing {
            Publishing::Open => return None,
            Publishing::Configured(token) => {
                (token, "it is the one that the server was configured with")
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
        let mut response = RequestError::new(StatusCode::UNAUTHORIZED, &line).response();
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(response)
    }

    /// Returns whether requests for this host are answered.
    ///
    /// A foreign site can make its name resolve to this machine (DNS rebinding), so that its pages
    /// count as same-origin. So on a loopback address, the host has to be a name of this machine, a
    /// listed name, or an address, which cannot be rebound.
    fn answers_for(&self, authority: Authority<'_>) -> bool {
        let host = Host::new(authority.host());
        let unlisted = if self.on_loopback { host.is_address() } else { self.hosts.is_empty() };
        unlisted || host.is_local() || self.hosts.contains(&host)
    }

    /// Returns the page that sent a request.
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
    /// Returns whether the page may read responses. With `*`, that includes the origin `null`.
    fn may_read(&self) -> bool {
        self.is_same || self.by_name || self.by_any
    }

    /// Returns whether `--allow-origin` covers the origin. `*` does not cover `null`.
    fn is_listed(&self) -> bool {
        self.by_name || (self.by_any && self.is_origin)
    }

    /// Returns whether the request may change state. Clients other than browsers send neither
    /// `Sec-Fetch-Site` nor `Origin`, and pages cannot set them.
    fn may_change(&self, headers: &HeaderMap) -> bool {
        if self.is_listed() {
            return true;
        }
        if self.several {
            return false;
        }
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
        if sites.peek().is_some() {
            return sites.all(|site| site == "same-origin" || site == "none");
        }
        self.header.is_none() || self.is_same
    }
}

/// Returns the response to a preflight of a page that may send requests. A page whose origin is
/// listed may send every header that the preflight names.
fn preflight(page: &Page, asked: &HeaderMap) -> Response {
    let mut allowed = HEADERS.to_owned();
    if page.is_listed() {
        let mut known: HashSet<_> =
            HEADERS.split(", ").filter_map(|name| name.parse::<HeaderName>().ok()).collect();
        for name in list_members(asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS)) {
            let Ok(name) = HeaderName::from_bytes(name) else {
                let line = "Access-Control-Request-Headers is not a list of header names.";
                return RequestError::new(StatusCode::BAD_REQUEST, line).response();
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
    let allowed = HeaderValue::try_from(allowed).expect("header names are valid header values");
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // Only pages whose origin is listed by name may reach into a private network.
    let private = asked.get("access-control-request-private-network");
    if page.by_name && private.is_some_and(|value| value == "true") {
        let name = HeaderName::from_static("access-control-allow-private-network");
        headers.insert(name, HeaderValue::from_static("true"));
    }
    response
}
