//! An event source for web pages that need what the browser's `EventSource` lacks: methods other
//! than GET, request headers, a body.
//!
//! ```text
//! rustup target add wasm32-unknown-unknown
//! cargo build --release -p sse-proto --example wasm --target wasm32-unknown-unknown
//! wasm-bindgen --target web --out-dir pkg target/wasm32-unknown-unknown/release/examples/wasm.wasm
//! ```
//!
//! In the page:
//!
//! ```js
//! import init, { follow } from "./pkg/wasm.js";
//! await init();
//! const request = new Request("/v1/messages", { method: "POST", headers: { ... }, body: "..." });
//! await follow(request, (type, data, id) => console.log(type, data, id));
//! ```

#![cfg(target_family = "wasm")]

use js_sys::{Function, Uint8Array};
use sse_proto::{Decoder, Rejected, Text, is_event_stream};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStreamDefaultReader, ReadableStreamReadResult, Request, Response};

/// Makes the request, and calls `on_event` with the type, data and last event ID of each event of
/// the response, until it ends. A response with status 204 has no events.
///
/// # Errors
///
/// The value that the browser or the callback threw, or a string with the reason why the response
/// was rejected.
#[wasm_bindgen]
pub async fn follow(request: Request, on_event: Function) -> Result<(), JsValue> {
    let window = web_sys::window().ok_or("there is no window")?;
    let response = JsFuture::from(window.fetch_with_request(&request)).await?;
    let response: Response = response.unchecked_into();
    let content_type = response.headers().get("content-type")?;
    match response.status() {
        200 if is_event_stream(content_type.iter().map(String::as_bytes)) => {}
        200 => return Err(Rejected::ContentType.to_string().into()),
        204 => return Ok(()),
        status => return Err(Rejected::Status(status).to_string().into()),
    }
    let body = response.body().ok_or("the response has no body")?;
    let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
    let mut decoder = Decoder::new();
    loop {
        let read = JsFuture::from(reader.read()).await?;
        let read: ReadableStreamReadResult = read.unchecked_into();
        if read.get_done() == Some(true) {
            return Ok(());
        }
        let chunk = read.get_value().unchecked_into::<Uint8Array>().to_vec();
        let mut input = &chunk[..];
        loop {
            match decoder.next_event(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    let text = |text: Text<'_>| JsValue::from(&*text.to_str_lossy());
                    let (event_type, id) = (text(event.event_type()), text(event.last_event_id()));
                    let called =
                        on_event.call3(&JsValue::NULL, &event_type, &text(event.data()), &id);
                    if let Err(thrown) = called {
                        let _ = reader.cancel();
                        return Err(thrown);
                    }
                }
                // The event is dropped; the stream continues.
                Err(too_large) => web_sys::console::warn_1(&too_large.to_string().into()),
            }
        }
    }
}
