//! Drives a headless Chromium over its remote debugging protocol.

#![allow(dead_code)] // each test file uses a part of it

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

/// The time in which a page loads. Used up only by a failure.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The starts of the messages with which Chromium fails an evaluation because the document is
/// replaced.
const NAVIGATION_ERRORS: [&str; 4] = [
    "Inspected target navigated or closed",
    "Execution context was destroyed",
    "Cannot find context with specified id",
    "Cannot find default execution context",
];

/// One tab of a browser.
pub(crate) struct Tab(Value);

/// A browser process. Calls act on the selected tab.
pub(crate) struct Browser {
    child: Child,
    profile: PathBuf,
    socket: WebSocket<MaybeTlsStream<TcpStream>>,
    session: Value,
    calls: u64,
    /// Kept open: Chromium is killed by SIGPIPE when it writes to a closed stderr.
    _stderr: BufReader<ChildStderr>,
}

impl Browser {
    /// Starts a browser and opens a page in it. Returns when the page has loaded.
    pub(crate) fn open(url: &str) -> Self {
        // Each browser needs its own profile: one that finds its profile locked hands the page
        // over to the running browser and exits.
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
        let mut startup_output = String::new();
        let address = loop {
            let start = startup_output.len();
            let count = stderr.read_line(&mut startup_output).unwrap();
            assert!(count > 0, "Chromium did not start:\n{startup_output}");
            if let Some(address) = startup_output[start..].strip_prefix("DevTools listening on ") {
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

    /// Opens a page in a new tab and selects it. Returns when the page has loaded.
    pub(crate) fn open_tab(&mut self, url: &str) -> Tab {
        // Without a session, these calls go to the browser instead of a page.
        self.session = Value::Null;
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        self.session = self.call("Target.attachToTarget", &attach)["sessionId"].take();
        self.navigate(url);
        Tab(self.session.clone())
    }

    /// Directs all further calls to this tab.
    pub(crate) fn select(&mut self, tab: &Tab) {
        self.session = tab.0.clone();
    }

    /// Closes a tab.
    pub(crate) fn close(&mut self, tab: Tab) {
        self.session = tab.0;
        self.call("Page.close", &json!({}));
    }

    /// Navigates to a URL. Returns when the page has loaded.
    pub(crate) fn navigate(&mut self, url: &str) {
        // Chromium answers once the new document exists, so nothing is evaluated in the old one.
        let answer = self.call("Page.navigate", &json!({ "url": url }));
        assert!(answer["errorText"].is_null(), "{url}: {answer}");
        self.wait_for("document.readyState === 'complete'", TIMEOUT);
    }

    /// Reloads the page. Returns when it has loaded.
    pub(crate) fn reload(&mut self) {
        // Chromium answers while the old document still exists.
        self.evaluate("window.isOld = true");
        self.call("Page.reload", &json!({}));
        self.wait_for("!window.isOld && document.readyState === 'complete'", TIMEOUT);
    }

    /// Navigates to the previous entry of the history. Returns before the page has changed.
    pub(crate) fn start_going_back(&mut self) {
        let history = self.call("Page.getNavigationHistory", &json!({}));
        let current = history["currentIndex"].as_u64().unwrap();
        let current = usize::try_from(current).unwrap();
        let entry = json!({ "entryId": history["entries"][current - 1]["id"] });
        self.call("Page.navigateToHistoryEntry", &entry);
    }

    /// Sets the window size of the page, in CSS pixels.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        // Not `mobile`: a mobile viewport would widen to fit a page that is too wide.
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// Sets the color scheme that the user prefers: `light` or `dark`.
    pub(crate) fn prefer_color_scheme(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// Calls a method. Panics if it fails.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.try_call(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_call(&mut self, method: &str, parameters: &Value) -> Result<Value, Value> {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.socket.send(Message::text(message.to_string())).unwrap();
        loop {
            let message = match self.socket.read() {
                // A read with a timeout is not resumed after the process was stopped.
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {
                    continue;
                }
                message => message.unwrap(),
            };
            let Message::Text(text) = message else { continue };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.calls {
                let error = answer["error"].take();
                return if error.is_null() { Ok(answer["result"].take()) } else { Err(error) };
            }
        }
    }

    /// Evaluates a JavaScript expression in the page and returns its value. Panics if the page
    /// changes meanwhile: expressions must not navigate.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let value = self.evaluate_unless_navigating(expression);
        value.unwrap_or_else(|| panic!("the page changed during the evaluation of {expression}"))
    }

    /// Evaluates a JavaScript expression in the page. Returns its value, or `None` if its document
    /// was replaced meanwhile.
    fn evaluate_unless_navigating(&mut self, expression: &str) -> Option<Value> {
        let parameters = json!({
            "expression": expression, "returnByValue": true, "awaitPromise": true,
        });
        let mut answer = match self.try_call("Runtime.evaluate", &parameters) {
            Ok(answer) => answer,
            Err(error) => {
                let message = error["message"].as_str().unwrap_or_default();
                let navigates = NAVIGATION_ERRORS.iter().any(|start| message.starts_with(start));
                assert!(navigates, "{expression}: {error}");
                return None;
            }
        };
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        Some(answer["result"]["value"].take())
    }

    /// Waits until the expression is true. The page may navigate meanwhile. Panics after `timeout`.
    pub(crate) fn wait_for(&mut self, expression: &str, timeout: Duration) {
        let start = Instant::now();
        while self.evaluate_unless_navigating(expression) != Some(json!(true)) {
            if start.elapsed() > timeout {
                let page = self.evaluate_unless_navigating("document.body?.innerText");
                panic!("{expression} is still not true of: {page:?}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A graceful close stops the helper processes first, which write to the profile.
        let close = json!({ "id": 0, "method": "Browser.close" });
        let _ = self.socket.send(Message::text(close.to_string()));
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5)
        {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Helper processes exit slightly later and may still write to the profile.
        let start = Instant::now();
        while std::fs::remove_dir_all(&self.profile).is_err()
            && self.profile.exists()
            && start.elapsed() < Duration::from_secs(5)
        {
            thread::sleep(Duration::from_millis(20));
        }
    }
}
