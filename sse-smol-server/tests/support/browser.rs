//! A real Chromium, headless, driven by remote debugging.

#![allow(dead_code)] // each test file uses a part of it

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

/// One of the pages of a browser.
pub(crate) struct Tab(Value);

/// A browser, with one page at first.
pub(crate) struct Browser {
    child: Child,
    profile: PathBuf,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: Value,
    calls: u64,
    /// Chromium gets a signal when it cannot write to it any more.
    _stderr: BufReader<ChildStderr>,
}

impl Browser {
    /// Opens a page, and returns when its script has run.
    pub(crate) fn open(url: &str) -> Self {
        // A profile is locked by the browser that uses it; a second one would hand over its page
        // to the first, and exit.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sse-chromium-{}-{count}", std::process::id());
        let profile = std::env::temp_dir().join(name);
        let mut child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-quic", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chromium is installed: see scripts/test");
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let start = said.len();
            let count = stderr.read_line(&mut said).unwrap();
            assert!(count > 0, "Chromium did not start:\n{said}");
            if let Some(address) = said[start..].strip_prefix("DevTools listening on ") {
                break address.trim().to_owned();
            }
        };
        let (socket, _) = tungstenite::connect(address).unwrap();
        if let MaybeTlsStream::Plain(socket) = socket.get_ref() {
            socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        }
        let mut browser =
            Self { child, profile, socket, session: Value::Null, calls: 0, _stderr: stderr };
        browser.open_tab(url);
        browser
    }

    /// Opens a page in another tab, and returns when its script has run. From then on, all calls are
    /// about that tab.
    pub(crate) fn open_tab(&mut self, url: &str) -> Tab {
        // These calls are to the browser, and not to a page.
        self.session = Value::Null;
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        self.session = self.call("Target.attachToTarget", &attach)["sessionId"].take();
        // The answer comes when the document is there, so that nothing is evaluated in the one
        // before it.
        let answer = self.call("Page.navigate", &json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        self.wait_for("document.readyState === 'complete'", Duration::from_secs(20));
        Tab(self.session.clone())
    }

    /// Makes all calls be about this tab.
    pub(crate) fn select(&mut self, tab: &Tab) {
        self.session = tab.0.clone();
    }

    /// Gives the page a window of another size.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        // Not as a mobile device: its window would grow with a page that is too wide.
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else { continue };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    /// The value of a JavaScript expression in the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let mut answer = self.call("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until the expression is true.
    pub(crate) fn wait_for(&mut self, expression: &str, patience: Duration) {
        let start = Instant::now();
        while self.evaluate(expression) != json!(true) {
            let page = self.evaluate("document.body?.innerText");
            assert!(start.elapsed() < patience, "{expression} is still not true of: {page}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to end, it ends its helpers first, which write to the profile until then.
        let close = json!({ "id": 0, "method": "Browser.close" });
        let _ = self.socket.send(Message::text(close.to_string()));
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5)
        {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its other processes go a moment later, and may still write.
        let start = Instant::now();
        while std::fs::remove_dir_all(&self.profile).is_err()
            && self.profile.exists()
            && start.elapsed() < Duration::from_secs(5)
        {
            thread::sleep(Duration::from_millis(20));
        }
    }
}
