//! Access control: allowed hosts, allowed origins, and the token for publishing.

mod support;

use std::io::Write as _;
use std::net::SocketAddr;

use support::subscriber::Publisher;
use support::{Binary, get, read_head, read_response, send};

/// Sends a request with these headers, each ended by CRLF. Returns status, head and body.
fn request(address: SocketAddr, line: &str, headers: &str, body: &str) -> (u16, String, String) {
    request_for(&address.to_string(), address, line, headers, body)
}

fn request_for(
    host: &str,
    address: SocketAddr,
    line: &str,
    headers: &str,
    body: &str,
) -> (u16, String, String) {
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    read_response(&mut send(address, &head))
}

/// Asserts that publishing requires this token and subscribing does not.
fn assert_token_required(server: &Binary, token: &str) {
    let post = |headers: &str| request(server.address, "POST /topics/a", headers, "x");
    for wrong in [
        String::new(),
        format!("Authorization: Bearer {}\r\n", &token[1..]),
        format!("Authorization: Bearer {token}x\r\n"),
        format!("Authorization: Bearer {}\r\n", "x".repeat(token.len())),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \u{e9}\r\n".to_owned(),
    ] {
        let (status, head, _) = post(&wrong);
        assert!(status == 401 && head.contains("Www-Authenticate: Bearer\r\n"), "{wrong}: {head}");
    }
    assert_eq!(post(&format!("Authorization: bearer {token}\r\n")).0, 201);
    // Subscribing requires no token.
    assert!(read_head(&mut get(server.address, "/topics/a")).starts_with("HTTP/1.1 200 "));
}

#[test]
fn by_default_publishing_requires_the_printed_token() {
    for (listen, flags) in [("127.0.0.1:0", &[][..]), ("0.0.0.0:0", &["--public"])] {
        let server = Binary::start_guarded_on(listen, flags);
        let (address, token) = (server.address, server.token().to_owned());
        assert!(token.len() >= 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{token}");
        assert_token_required(&server, &token);
        let text = &server.start_up_text;
        let listening = format!("Listening on http://{listen}/\n");
        let port = address.port().to_string();
        assert!(text.starts_with(&listening.replace(":0/", &format!(":{port}/"))), "{text}");
        assert!(text.contains(&format!("http://{address}/#token={token}\n")), "{text}");
        // The log does not contain the token.
        let (_, _, log) = server.stop("-TERM");
        assert!(log.contains("POST /topics/a 201") && !log.contains(&token), "{log}");
        let again = Binary::start_guarded_on(listen, flags);
        assert_ne!(again.token(), token, "each start generates another token");
    }
}

#[test]
fn the_printed_command_publishes() {
    let server = Binary::start_guarded(&[]);
    let command = server.start_up_text.lines().find_map(|line| line.strip_prefix("Publish:"));
    let output = std::process::Command::new("sh").args(["-c", command.unwrap()]).output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && answer.contains("\"duplicate\":false"), "{answer}");
}

#[test]
fn with_served_files_the_printed_link_leads_to_the_page_beside_them() {
    let dir = std::env::temp_dir();
    let server = Binary::start_guarded(&["--serve", dir.to_str().unwrap()]);
    let link = format!("http://{}/__sse#token={}", server.address, server.token());
    assert!(server.start_up_text.contains(&link), "{}", server.start_up_text);
}

#[test]
fn the_token_comes_from_a_file_or_the_environment() {
    let file = std::env::temp_dir().join(format!("sse-token-{}", std::process::id()));
    std::fs::write(&file, " s3cret\r\n").unwrap();
    let path = file.to_str().unwrap();
    assert_token_required(&Binary::start_guarded(&["--token-file", path]), "s3cret");
    let server = Binary::start_with_variable("SSE_TOKEN", "s3cret", &[]);
    assert!(!server.start_up_text.contains("s3cret"), "{}", server.start_up_text);
    assert_token_required(&server, "s3cret");
    let named = ["--token-env", "PUBLISH_TOKEN"];
    assert_token_required(
        &Binary::start_with_variable("PUBLISH_TOKEN", "s3cret", &named),
        "s3cret",
    );

    // An unauthorized request is rejected before its body is received.
    let server = Binary::start_guarded(&["--token-file", path]);
    std::fs::remove_file(&file).unwrap();
    let line = format!("POST /topics/a HTTP/1.1\r\nHost: {}\r\n", server.address);
    let mut socket = send(server.address, &format!("{line}Content-Length: 1000000\r\n\r\n"));
    assert_eq!(read_response(&mut socket).0, 401);
}

#[test]
fn publishing_is_open_only_with_the_flag() {
    let server = Binary::start_guarded(&["--open-publishing"]);
    Publisher::open(server.address).publish("a", "x");
    assert!(!server.start_up_text.contains("oken"), "{}", server.start_up_text);
    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("WARN") && log.contains("--open-publishing"), "{log}");
}

#[test]
fn a_public_server_without_allowed_hosts_logs_a_warning() {
    let warns = |listen: &str, flags: &[&str]| {
        let (_, _, log) = Binary::start_guarded_on(listen, flags).stop("-TERM");
        log.contains("WARN") && log.contains("--allow-host")
    };
    assert!(warns("0.0.0.0:0", &["--public"]));
    assert!(!warns("0.0.0.0:0", &["--public", "--allow-host", "example.org"]));
    assert!(!warns("127.0.0.1:0", &[]));
}

#[test]
fn pages_of_other_origins_need_to_be_allowed() {
    let server = Binary::start(&["--allow-origin", "HTTPS://Good.example:443/"]);
    let address = server.address;
    let from = |origin: &str| format!("Origin: {origin}\r\n");
    let same = from(&format!("http://{address}"));
    let (good, bad) = (from("https://good.example"), from("https://bad.example"));

    assert_eq!(request(address, "POST /topics/a", &same, "x").0, 201);
    let (status, head, _) = request(address, "POST /topics/a", &good, "x");
    assert_eq!(status, 201);
    assert!(head.contains("\r\nAccess-Control-Allow-Origin: https://good.example\r\n"), "{head}");
    assert!(head.contains("\r\nVary: Origin\r\n"), "{head}");
    assert_eq!(request(address, "POST /topics/a", &bad, "x").0, 403);
    assert_eq!(request(address, "POST /topics/a", &from("null"), "x").0, 403);

    let requested =
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: event-type\r\n";
    let (status, head, body) =
        request(address, "OPTIONS /topics/a", &format!("{good}{requested}"), "");
    assert_eq!((status, body.as_str()), (204, ""));
    assert!(head.contains("Access-Control-Allow-Methods: GET, HEAD, POST, DELETE\r\n"), "{head}");
    assert!(head.contains("Event-Type") && head.contains("Last-Event-ID"), "{head}");
    assert_eq!(request(address, "OPTIONS /topics/a", &format!("{bad}{requested}"), "").0, 403);

    let get = |headers: &str| {
        let line = format!("GET /topics/a HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        read_head(&mut send(address, &line))
    };
    assert!(get(&good).contains("Access-Control-Allow-Origin: https://good.example\r\n"));
    // Without the header, the browser withholds the response from the page.
    assert!(!get(&bad).contains("Access-Control-Allow-Origin"));
    assert!(!get(&format!("{good}{good}")).contains("Access-Control-Allow-Origin"));
    assert!(get("").contains("\r\nVary: Origin\r\n"), "caches distinguish responses by origin");
    // The page does not learn the reason, so the log has it.
    let (_, _, log) = server.stop("-TERM");
    assert!(
        log.contains("/topics/a") && log.contains("--allow-origin https://bad.example"),
        "{log}"
    );
    assert!(!log.contains("--allow-origin https://good.example"), "{log}");
}

#[test]
fn an_allowed_origin_may_send_the_headers_that_it_requests() {
    let preflight = |server: &Binary, origin: &str, requested: &str| {
        let headers =
            format!("Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\n{requested}");
        let (status, head, _) = request(server.address, "OPTIONS /topics/a", &headers, "");
        let value = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_default().to_owned()
        };
        let allowed = value("Access-Control-Allow-Headers").to_ascii_lowercase();
        (status, allowed, value("Vary"), value("Access-Control-Allow-Private-Network"))
    };
    let requested = "Access-Control-Request-Headers: cache-control, last-event-id,pragma\r\n\
                Access-Control-Request-Headers: datastar-request\r\n";
    let private = "Access-Control-Request-Private-Network: true\r\n";
    let named = Binary::start(&["--allow-origin", "https://good.example"]);
    let any = Binary::start(&["--allow-origin", "*"]);
    for server in [&named, &any] {
        let (status, allowed, vary, _) = preflight(server, "https://good.example", requested);
        assert_eq!(status, 204);
        for name in ["cache-control", "last-event-id", "pragma", "datastar-request", "event-type"] {
            let count = allowed.split(", ").filter(|one| *one == name).count();
            assert_eq!(count, 1, "{name} in {allowed}");
        }
        for header in ["Origin", "Access-Control-Request-Headers"] {
            assert!(vary.split(", ").any(|one| one == header), "{header} in {vary}");
        }
        let broken = "Access-Control-Request-Headers: a b\r\n";
        assert_eq!(preflight(server, "https://good.example", broken).0, 400);
    }
    // Private network access is granted only to origins listed by name.
    assert_eq!(preflight(&named, "https://good.example", private).3, "true");
    assert_eq!(preflight(&named, "https://good.example", "").3, "");
    assert_eq!(preflight(&any, "https://good.example", private).3, "");
    // The server's own pages may send its request headers; other origins may send none.
    let (status, allowed, ..) = preflight(&named, &format!("http://{}", named.address), requested);
    assert!(status == 204 && allowed.contains("event-type") && !allowed.contains("pragma"));
    assert_eq!(preflight(&named, "https://bad.example", requested).0, 403);
}

#[test]
fn only_same_origin_or_allowed_pages_may_publish() {
    let server = Binary::start(&["--public", "--allow-origin", "https://good.example"]);
    let public = Binary::start_on("0.0.0.0:0", &["--public"]);
    let post = |server: &Binary, host: &str, headers: &str| {
        request_for(host, server.address, "POST /topics/a", headers, "x").0
    };
    // By `Origin`, for browsers that do not send `Sec-Fetch-Site`.
    for (host, origin, status) in [
        ("example.org", "http://example.org", 201),
        ("EXAMPLE.org.", "http://example.org:80", 201),
        ("example.org:80", "http://EXAMPLE.ORG", 201),
        ("example.org:443", "https://example.org", 201),
        ("example.org", "https://example.org:443", 201),
        ("example.org:8080", "http://example.org:8080", 201),
        ("example.org:8080", "https://example.org:8080", 403),
        ("example.org:8080", "http://example.org", 403),
        ("example.org:8080", "http://example.org:8081", 403),
        ("example.org", "https://example.org:8443", 403),
        ("example.org:443", "http://example.org", 403),
        ("example.org", "http://other.example", 403),
        ("example.org", "http://example.org/", 403),
        ("example.org", "ftp://example.org", 403),
        ("example.org", "example.org", 403),
        ("example.org", "null", 403),
        ("example.org", "", 403),
        ("", "http://", 403),
    ] {
        let headers = format!("Origin: {origin}\r\n");
        assert_eq!(post(&public, host, &headers), status, "{origin} for {host}");
    }
    let several = "Origin: http://example.org\r\nOrigin: http://example.org\r\n";
    assert_eq!(post(&public, "example.org", several), 403);
    assert_eq!(post(&public, "example.org", "Origin: http://example.org http://a\r\n"), 403);
    // By `Sec-Fetch-Site`.
    for (site, status) in [
        ("same-origin", 201),
        ("none", 201),
        ("same-site", 403),
        ("cross-site", 403),
        ("Same-Origin", 403),
        ("", 403),
    ] {
        let header = format!("Sec-Fetch-Site: {site}\r\n");
        assert_eq!(post(&public, "example.org", &header), status, "{site}");
        // Behind a proxy that changes `Host`, the origin does not match the host.
        let header = format!("{header}Origin: https://front.example\r\n");
        assert_eq!(post(&public, "10.0.0.1:8080", &header), status, "{site}");
    }
    let both = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n";
    assert_eq!(post(&public, "example.org", both), 403);
    // The list of allowed origins has precedence.
    let listed = "Origin: https://good.example\r\nSec-Fetch-Site: cross-site\r\n";
    assert_eq!(post(&server, "localhost", listed), 201);
    assert_eq!(post(&server, "localhost", &listed.replace("good", "bad")), 403);
    let any = Binary::start(&["--allow-origin", "*"]);
    assert_eq!(post(&any, "localhost", "Origin: https://any.example\r\n"), 201);
    assert_eq!(post(&any, "localhost", "Origin: null\r\n"), 403);
    assert_eq!(post(&any, "localhost", ""), 201, "a client that is not a browser may publish");
}

#[test]
fn foreign_host_names_are_rejected_against_dns_rebinding() {
    let server = Binary::start(&["--allow-host", "Dev.Example.:443"]);
    let with = |server: &Binary, target: &str, host: &str| {
        let line = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        read_response(&mut send(server.address, &line)).0
    };
    for host in [
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "a.localhost",
        "127.0.0.1:80",
        "[::1]:80",
        "dev.example:9",
        "DEV.example.",
        "",
        // IP addresses cannot be rebound.
        "10.0.0.1",
        "192.168.1.1:8080",
        "[fe80::1]",
    ] {
        assert_eq!(with(&server, "/healthz", host), 200, "{host}");
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "notlocalhost",
        "dev.example.evil.example",
        "127.1",
    ] {
        assert_eq!(with(&server, "/healthz", host), 421, "{host}");
    }
    for host in ["\u{e9}", "[[[localhost]]]", "localhost:99999", "user@localhost", "localhost/"] {
        assert_eq!(with(&server, "/healthz", host), 400, "{host}");
    }
    // The host of an absolute target has precedence over `Host`.
    assert_eq!(with(&server, "http://evil.example/healthz", "localhost"), 421);
    assert_eq!(with(&server, "http://localhost/healthz", "evil.example"), 200);
    assert_eq!(with(&server, "http://localhost/healthz", "a:b"), 400);
    assert_eq!(with(&server, "https://localhost/healthz", "localhost"), 400);
    assert_eq!(with(&server, "http://user@localhost/healthz", "localhost"), 400);

    // On other addresses, a list of hosts applies to every route except health checks.
    let listed = Binary::start_on("0.0.0.0:0", &["--public", "--allow-host", "example.org"]);
    assert_eq!(with(&listed, "/topics", "example.org:8080"), 200);
    assert_eq!(with(&listed, "/topics", "localhost"), 200);
    for host in ["evil.example", "10.0.0.1"] {
        assert_eq!(with(&listed, "/topics", host), 421, "{host}");
        assert_eq!(with(&listed, "/metrics", host), 421, "{host}");
        assert_eq!(with(&listed, "/healthz", host), 200, "{host}");
    }
    let public = Binary::start_on("0.0.0.0:0", &["--public"]);
    assert_eq!(with(&public, "/topics", "any.example"), 200);
}

/// Through a proxy on the same machine, every client has a loopback address.
#[test]
fn a_loopback_address_does_not_permit_publishing() {
    let server = Binary::start_guarded(&[]);
    let mut socket = send(server.address, "POST /topics/a HTTP/1.1\r\nHost: localhost\r\n");
    socket.write_all(b"X-Forwarded-For: 192.0.2.1\r\nContent-Length: 1\r\n\r\nx").unwrap();
    let (status, _, answer) = read_response(&mut socket);
    assert!(status == 401 && answer.contains("printed"), "{answer}");
}
