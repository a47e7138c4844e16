//! Tests the example `wasm` of `sse-proto` in Chromium.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/dir.rs"]
mod dir;
mod support;

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{env, fs, future};

use browser::Browser;
use dir::Dir;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;
use sse_proto::{Event, Rejected, event_id, event_type};
use sse_smol_server::{Config, Error, Request, RequestError, Response};
use support::{TIMEOUT, serve};

/// The page. Its script keeps what the example returns and calls.
const PAGE: &str = r#"<!doctype html>
<script type="module">
    import init, { follow } from "./wasm.js";
    await init();
    const seen = [];
    const take = (type, data, id) => seen.push([type, data, id]);
    const run = async (path, options = {}, on_event = take) => {
        try {
            await follow(new Request(path, options), on_event);
            seen.push("end");
        } catch (error) {
            seen.push(String(error));
        }
    };
    await run("/echo", { method: "POST", headers: { "X-Token": "secret" }, body: "a\né" });
    await run("/echo", { method: "POST" });
    await run("/none");
    await run("/page");
    await run("/endless", {}, () => { throw "enough"; });
    window.seen = JSON.stringify(seen);
</script>
"#;

/// Builds the example, and its module for pages in `directory`.
fn build(directory: &Path) {
    // This program is target/PROFILE/deps/NAME.
    let program = env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap();
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "-q", "-p", "sse-proto", "--example", "wasm"])
        .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.unwrap().success(), "the example has to be built: see scripts/test");
    let status = Command::new("wasm-bindgen")
        .args(["--target", "web", "--no-typescript", "--out-dir"])
        .arg(directory)
        .arg(target.join("wasm32-unknown-unknown/debug/examples/wasm.wasm"))
        .status();
    assert!(status.expect("wasm-bindgen is installed: see scripts/test").success());
}

/// Answers with a file of the page.
fn file(content: impl Into<Vec<u8>>, content_type: &'static str) -> Response {
    let mut response = Response::new(content.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Answers a `POST` that has a token with the lines of its body and an event with all fields.
async fn echo(mut request: Request) -> Result<(), Error> {
    request.allow(&[Method::POST])?;
    if request.headers().get("x-token").is_none_or(|token| token != "secret") {
        Err(RequestError::new(StatusCode::UNAUTHORIZED, "The token is missing."))?;
    }
    let body = String::from_utf8(request.body().await?)?;
    let mut stream = request.open().await?;
    for line in body.lines() {
        stream.send(Event::new(line)).await?;
    }
    let all = Event::new(&body).with_type(event_type!("both")).with_id(event_id!("7"));
    stream.send(all).await
}

#[test]
fn the_example_reads_streams_in_a_page() {
    let dir = Dir::new();
    build(&dir.0);
    let read = |name: &str| fs::read(dir.0.join(name)).unwrap();
    let files = Arc::new((read("wasm.js"), read("wasm_bg.wasm")));
    let (closed, on_close) = mpsc::channel();
    let server = serve(Config::default(), move |request| {
        let (files, closed) = (Arc::clone(&files), closed.clone());
        async move {
            let response = match request.path() {
                "/page" => file(PAGE, "text/html; charset=utf-8"),
                "/wasm.js" => file(&*files.0, "text/javascript"),
                "/wasm_bg.wasm" => file(&*files.1, "application/wasm"),
                "/none" => return request.no_content().await,
                "/echo" => return echo(request).await,
                "/endless" => {
                    let mut stream = request.open().await?;
                    stream.on_close(move |end| closed.send(end.reason.label()).unwrap());
                    stream.send(Event::new("one")).await?;
                    return future::pending().await;
                }
                _ => RequestError::new(StatusCode::NOT_FOUND, "There is no such file.").response(),
            };
            request.respond(response).await
        }
    });
    let mut page = Browser::open(&format!("http://{}/page", server.address));
    page.wait_for("window.seen !== undefined", Duration::from_secs(20));
    let expected = json!([
        // A stream that a `POST` with a header and a body requests.
        ["message", "a", ""],
        ["message", "é", ""],
        ["both", "a\né", "7"],
        "end",
        Rejected::Status(401).to_string(),
        // 204 has no events.
        "end",
        Rejected::ContentType.to_string(),
        "enough",
    ]);
    assert_eq!(page.evaluate("window.seen"), expected.to_string());
    // The stream whose callback has thrown is cancelled.
    assert_eq!(on_close.recv_timeout(TIMEOUT).unwrap(), "peer_closed");
}
