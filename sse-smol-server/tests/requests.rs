//! What handlers read from requests: decoded targets, the id to resume from, JSON, `Accept`.

mod support;

use http::StatusCode;
use serde::Deserialize;
use sse_smol_server::{Config, Error, Request, text};
use support::{Binary, Running, read_to_end, send, serve};

#[derive(Deserialize)]
struct Point {
    x: u32,
}

async fn handler(mut request: Request) -> Result<(), Error> {
    let path = request.segments()?;
    let line = match path.to_vec()[..] {
        ["json"] => format!("x: {}", request.json::<Point>().await?.x),
        ["id"] => format!("{:?}", request.last_event_id()?),
        ["query", name] => format!("{:?}", request.query_pairs()?.only(name)?),
        ["accept"] => {
            let accepts = request.accepts("text/event-stream");
            format!("{:?} {accepts}", request.preferred(&["text/html", "text/event-stream"]))
        }
        _ => format!("{path:?}"),
    };
    request.respond(text(StatusCode::OK, &line)).await
}

/// Returns the status and the line of text of the answer to a request.
fn ask(server: &Running, line: &str, headers: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request =
        format!("{line} HTTP/1.0\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    let answer = read_to_end(&mut send(server.address, &request));
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.trim_end().rsplit('\n').next().unwrap().to_owned())
}

#[test]
fn json_is_read_and_other_bodies_are_refused() {
    let server = serve(Config::default().with_max_body(100), handler);
    let json = "Content-Type: application/json\r\n";
    let large = format!("{{\"x\":1{}}}", " ".repeat(200));
    let gzip = format!("{json}Content-Encoding: gzip\r\n");
    let twice = format!("{json}{json}");
    for (headers, body, status, part) in [
        (json, r#"{"x":7}"#, 200, "x: 7"),
        ("Content-Type: Application/JSON; charset=utf-8\r\n", r#"{"x":7}"#, 200, "x: 7"),
        ("Content-Type: application/ld+json\r\n", r#"{"x":7}"#, 200, "x: 7"),
        (json, "", 400, "EOF"),
        (json, r#"{"x":-7}"#, 400, "line 1 column 7"),
        (json, "{\"x\":7} x", 400, "trailing"),
        (json, "{\"x\":\u{1}", 400, "expected"),
        (json, &large, 413, "max_body"),
        ("", r#"{"x":7}"#, 415, "Content-Type: application/json"),
        ("Content-Type: text/plain\r\n", r#"{"x":7}"#, 415, "Content-Type: application/json"),
        (&twice, r#"{"x":7}"#, 415, "Content-Type: application/json"),
        (&gzip, r#"{"x":7}"#, 415, "Content-Encoding"),
    ] {
        let (found, line) = ask(&server, "POST /json", headers, body);
        assert!(found == status && line.contains(part), "{headers:?} {body:?}: {found} {line}");
    }
}

#[test]
fn the_id_comes_from_the_header_or_else_the_last_query_parameter() {
    let server = serve(Config::default(), handler);
    for (query, headers, status, line) in [
        ("", "", 200, "\"\""),
        ("?lastEventId=a%20b", "", 200, "\"a b\""),
        ("?lastEventId=a&lastEventId=b", "", 200, "\"b\""),
        ("?lastEventId=a", "Last-Event-ID: \u{e9}\r\n", 200, "\"\u{e9}\""),
        ("?lastEventId=a", "Last-Event-ID: \r\n", 200, "\"a\""),
        ("?lastEventId=%FF", "", 400, "The query parameter \"lastEventId\" is not UTF-8."),
    ] {
        let found = ask(&server, &format!("GET /id{query}"), headers, "");
        assert_eq!(found, (status, line.to_owned()), "{query} {headers}");
    }
}

#[test]
fn paths_and_queries_are_decoded() {
    let server = serve(Config::default(), handler);
    for (target, status, line) in [
        ("/query/a%20b?a+b=c%2Bd", 200, "Some(\"c+d\")"),
        ("/query/a?a=1&a=2", 400, "The query has more than one parameter \"a\"."),
        ("/a%2Fb/", 200, "Segments([\"a/b\", \"\"])"),
        ("/", 200, "Segments([])"),
        ("/%FF", 400, "The path is not UTF-8."),
    ] {
        let found = ask(&server, &format!("GET {target}"), "", "");
        assert_eq!(found, (status, line.to_owned()), "{target}");
    }
}

#[test]
fn the_preferred_media_type_has_the_highest_weight() {
    let server = serve(Config::default(), handler);
    for (accept, line) in [
        ("", "Some(\"text/html\") true"),
        ("*/*", "Some(\"text/html\") true"),
        ("text/html;q=0.5, text/*", "Some(\"text/event-stream\") true"),
        ("text/html, text/event-stream;q=0", "Some(\"text/html\") false"),
        ("application/json", "None false"),
    ] {
        let found = ask(&server, "GET /accept", &format!("Accept: {accept}\r\n"), "");
        assert_eq!(found, (200, line.to_owned()), "{accept}");
    }
}

#[test]
fn the_demo_routes_also_take_the_id_from_the_query() {
    let server = Binary::start(&[]);
    for target in ["/counter?lastEventId=9", "/async?lastEventId=end"] {
        let answer =
            read_to_end(&mut send(server.address, &format!("GET {target} HTTP/1.0\r\n\r\n")));
        assert!(answer.starts_with("HTTP/1.1 204 "), "{target}: {answer}");
    }
}
