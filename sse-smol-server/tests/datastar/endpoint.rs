//! The cases of Datastar's SDK test suite, compared byte by byte, which the suite itself does not:
//! it ignores the order of fields and of options, spaces, and the text of scripts. The order of
//! options is that of the specification's data formats.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};
use sse_smol_server::Config;

use crate::conformance;
use crate::support::{dechunk, read_head, read_to_end, send, serve};

const ELEMENTS: &str = "event: datastar-patch-elements\n";
const SIGNALS: &str = "event: datastar-patch-signals\n";
const BOTH: &str = "id: event1\nretry: 2000\n";
const BODY: &str = "data: selector body\ndata: mode append\n";

/// Events in the form of the suite's requests, and the stream that answers them.
type Case = (Value, String);

fn elements(more: Value) -> Value {
    with(json!({ "type": "patchElements" }), more)
}

fn signals(more: Value) -> Value {
    with(json!({ "type": "patchSignals" }), more)
}

fn script(more: Value) -> Value {
    with(json!({ "type": "executeScript" }), more)
}

/// Returns an event with the fields of [`BOTH`].
fn all(event: Value) -> Value {
    with(event, json!({ "eventId": "event1", "retryDuration": 2000 }))
}

fn cases_of_elements() -> Vec<Case> {
    vec![
        (json!([]), String::new()),
        (
            json!([elements(json!({ "elements": "<div>Merge</div>" }))]),
            format!("{ELEMENTS}data: elements <div>Merge</div>\n\n"),
        ),
        (
            json!([elements(json!({
                "elements": "<div>Merge</div>", "mode": "outer", "useViewTransition": false,
            }))]),
            format!("{ELEMENTS}data: elements <div>Merge</div>\n\n"),
        ),
        (
            json!([all(elements(json!({
                "elements": "<div>Merge</div>", "selector": "div", "mode": "append",
                "useViewTransition": true,
            })))]),
            format!(
                "{ELEMENTS}{BOTH}data: selector div\ndata: mode append\n\
                 data: useViewTransition true\ndata: elements <div>Merge</div>\n\n"
            ),
        ),
        (
            json!([elements(json!({ "elements": "<div>\n  <span>Merge</span>\n</div>" }))]),
            format!(
                "{ELEMENTS}data: elements <div>\ndata: elements   <span>Merge</span>\n\
                 data: elements </div>\n\n"
            ),
        ),
        (
            json!([elements(json!({ "selector": "#target", "mode": "remove" }))]),
            format!("{ELEMENTS}data: selector #target\ndata: mode remove\n\n"),
        ),
        (
            json!([all(elements(json!({
                "selector": "#target", "mode": "remove", "useViewTransition": true,
            })))]),
            format!(
                "{ELEMENTS}{BOTH}data: selector #target\ndata: mode remove\n\
                 data: useViewTransition true\n\n"
            ),
        ),
        (
            json!([
                elements(json!({ "elements": "<div>Merge</div>" })),
                elements(json!({ "elements": "<div>Merge 2</div>" })),
            ]),
            format!(
                "{ELEMENTS}data: elements <div>Merge</div>\n\n\
                 {ELEMENTS}data: elements <div>Merge 2</div>\n\n"
            ),
        ),
    ]
}

fn cases_of_signals() -> Vec<Case> {
    vec![
        (
            json!([signals(json!({ "signals": { "one": 1, "two": 2 } }))]),
            format!("{SIGNALS}data: signals {{\"one\":1,\"two\":2}}\n\n"),
        ),
        (
            json!([all(signals(json!({
                "signals": { "one": 1, "two": 2 }, "onlyIfMissing": true,
            })))]),
            format!(
                "{SIGNALS}{BOTH}data: onlyIfMissing true\ndata: signals {{\"one\":1,\"two\":2}}\n\n"
            ),
        ),
        (
            json!([signals(json!({ "signals": { "one": "first\n signal" } }))]),
            format!("{SIGNALS}data: signals {{\"one\":\"first\\n signal\"}}\n\n"),
        ),
        (
            json!([signals(json!({
                "signals-raw": "{\n\"one\": \"first signal\",\n\"two\":  \n\"second signal\"}",
            }))]),
            format!(
                "{SIGNALS}data: signals {{\ndata: signals \"one\": \"first signal\",\n\
                 data: signals \"two\":  \ndata: signals \"second signal\"}}\n\n"
            ),
        ),
        (
            json!([all(signals(json!({
                "signals": { "one": null, "two": { "alpha": null } },
            })))]),
            format!("{SIGNALS}{BOTH}data: signals {{\"one\":null,\"two\":{{\"alpha\":null}}}}\n\n"),
        ),
    ]
}

fn cases_of_scripts() -> Vec<Case> {
    vec![
        (
            json!([script(json!({ "script": "console.log('hello');" }))]),
            format!(
                "{ELEMENTS}{BODY}data: elements <script data-effect=\"el.remove()\">\
                 console.log('hello');</script>\n\n"
            ),
        ),
        (
            json!([all(script(json!({
                "script": "console.log('hello');", "autoRemove": false,
                "attributes": { "blocking": "false", "type": "text/javascript" },
            })))]),
            format!(
                "{ELEMENTS}{BOTH}{BODY}data: elements <script blocking=\"false\" \
                 type=\"text/javascript\">console.log('hello');</script>\n\n"
            ),
        ),
        (
            json!([script(json!({ "script": "if (true) {\n  console.log('hello');\n}" }))]),
            format!(
                "{ELEMENTS}{BODY}data: elements <script data-effect=\"el.remove()\">if (true) {{\n\
                 data: elements   console.log('hello');\ndata: elements }}</script>\n\n"
            ),
        ),
    ]
}

/// Adds the fields of one object to another.
fn with(mut object: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    object.as_object_mut().unwrap().extend(more);
    object
}

#[test]
fn the_endpoint_of_the_test_suite_answers_byte_by_byte() {
    let server = serve(Config::default(), conformance::serve);
    let address = server.address;
    for (events, expected) in
        [cases_of_elements(), cases_of_signals(), cases_of_scripts()].into_iter().flatten()
    {
        let input = json!({ "events": events }).to_string();
        let query = percent_encode(input.as_bytes(), NON_ALPHANUMERIC);
        let get = format!("GET /test?datastar={query} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let length = input.len();
        let head = format!("POST /test HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}");
        let post = format!("{head}\r\nContent-Type: application/json\r\n\r\n{input}");
        for request in [get, post] {
            let mut socket = send(address, &request);
            let head = read_head(&mut socket);
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
            assert!(head.contains("\r\nContent-Type: text/event-stream\r\n"), "{head}");
            assert!(head.contains("\r\nCache-Control: no-cache"), "{head}");
            let body = dechunk(&read_to_end(&mut socket));
            assert_eq!(body, (expected.clone(), true), "{input}");
        }
    }
}
