//! The signals of requests.

use serde::Deserialize;
use sse_smol_server::datastar::read_signals;
use sse_smol_server::{Config, Response};

use crate::support::{Running, read_response, send, serve};

#[derive(Debug, Deserialize)]
struct Signals {
    #[serde(default)]
    text: String,
}

/// Serves answers with the signal `text`.
fn server() -> Running {
    serve(Config::default(), |mut request| async move {
        let Signals { text } = read_signals(&mut request).await?;
        request.respond(Response::new(text.into_bytes())).await
    })
}

/// Requests with a method, a query and a body. Returns the status and the body.
fn answer(server: &Running, method: &str, query: &str, body: &str) -> (u16, String) {
    let address = server.address;
    let length = body.len();
    let head = format!("{method} /{query} HTTP/1.1\r\nHost: {address}\r\nDatastar-Request: true");
    let request = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
    let (status, _, body) = read_response(&mut send(address, &request));
    (status, body)
}

#[test]
fn get_reads_the_query_parameter() {
    let server = server();
    for (query, expected) in [
        ("?datastar=%7B%22text%22%3A%22a+b%2Bc%26%C3%A9%22%7D", "a b+c&é"),
        ("?datastar={%22text%22:%22x%22}", "x"),
        ("?a=1&datastar=%7B%22text%22:%22x%22,%22more%22:[1]%7D&b", "x"),
        ("?datastar=%7B%22text%22:%22first%22%7D&datastar=no", "first"),
        // Without signals.
        ("", ""),
        ("?", ""),
        ("?datastar", ""),
        ("?datastar=", ""),
        ("?Datastar=no&xdatastar=no", ""),
    ] {
        // The body of a GET has no signals.
        assert_eq!(answer(&server, "GET", query, "no"), (200, expected.to_owned()), "{query}");
    }
}

#[test]
fn other_methods_read_the_body() {
    let server = server();
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let query = if method == "DELETE" { "" } else { "?datastar=no" };
        let found = answer(&server, method, query, "{\"text\": \"a+b%20c é\"}\n");
        assert_eq!(found, (200, "a+b%20c é".to_owned()), "{method}");
    }
}

#[test]
fn delete_reads_the_query_parameter_if_there_is_one() {
    let server = server();
    let found = answer(&server, "DELETE", "?datastar=%7B%22text%22:%22x%22%7D", "no");
    assert_eq!(found, (200, "x".to_owned()));
}

#[test]
fn invalid_signals_are_answered_with_400_and_the_reason() {
    let server = server();
    let (status, found) = answer(&server, "GET", "?datastar=%7B%22text%22:%22%FF%22%7D", "");
    assert_eq!(status, 400);
    assert!(found.contains("The query parameter \"datastar\" is not UTF-8."), "{found}");
    for (method, query, body, reason) in [
        ("GET", "?datastar=%7B", "", "EOF while parsing an object at line 1 column 1."),
        ("GET", "?datastar=%7B%22text%22:1%7D", "", "invalid type: integer `1`"),
        ("POST", "", "", "EOF while parsing a value at line 1 column 0."),
        ("POST", "", "{}{}", "trailing characters at line 1 column 3."),
        ("POST", "", "text=x", "expected"),
        ("POST", "", "null", "invalid type: null"),
        ("DELETE", "", "", "EOF while parsing a value"),
    ] {
        let (status, found) = answer(&server, method, query, body);
        assert_eq!(status, 400, "{method} {query} {body}");
        assert!(found.contains(&format!("The signals cannot be read: {reason}")), "{found}");
    }
}

#[test]
fn a_body_that_is_too_large_is_answered_with_413() {
    let config = Config::default().with_max_body(10);
    let server = serve(config, |mut request| async move {
        let _: serde_json::Value = read_signals(&mut request).await?;
        unreachable!("the body is too large")
    });
    let (status, _) = answer(&server, "POST", "", "{\"text\": \"too large\"}");
    assert_eq!(status, 413);
}
