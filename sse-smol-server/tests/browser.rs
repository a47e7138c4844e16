//! Served files in Chromium.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/dir.rs"]
mod dir;
mod support;

use std::time::Duration;

use browser::Browser;
use dir::Dir;
use serde_json::json;
use support::Binary;

/// The time after which a test gives up waiting for the page. Used up only by a failure.
const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn the_browser_runs_modules_of_all_extensions() {
    // The smallest WebAssembly module.
    const WASM: &str = "\0asm\x01\0\0\0";
    let dir = Dir::new();
    let names = ["a.js", "b.mjs", "c.ts", "d.tsx", "e.jsx", "f.mts"];
    for name in names {
        dir.write(name, &format!("window.seen.push('{name}')"));
    }
    dir.write("app.wasm", WASM);
    let imports: String = names.map(|name| format!("await import('./{name}');")).concat();
    dir.write(
        "index.html",
        &format!(
            "<script type=module>
                window.seen = [];
                {imports}
                await WebAssembly.compileStreaming(fetch('app.wasm'));
                window.seen.push('app.wasm');
            </script>"
        ),
    );
    let server = Binary::start(&["--serve", dir.path()]);
    let mut page = Browser::open(&format!("http://{}/", server.address));
    let all = json!([&names[..], &["app.wasm"]].concat()).to_string();
    page.wait_for(&format!("JSON.stringify(window.seen) === {}", json!(all)), TIMEOUT);
}
