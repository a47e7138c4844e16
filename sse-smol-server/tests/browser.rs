//! Tests the demo page in Chromium.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/dir.rs"]
mod dir;
mod support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use browser::{Browser, Tab};
use dir::Dir;
use serde_json::{Value, json};
use support::subscriber::{Subscriber, wait_until};
use support::{Binary, get, read_response, send};

/// The time after which a test gives up waiting for the page. Used up only by a failure.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the events that the page shows, newest first, as `[id, type, data]`.
const EVENTS: &str = "[...document.querySelectorAll('#events tr')]
    .map(row => [1, 2, 3].map(cell => row.cells[cell].textContent))";
const STATE: &str = "document.querySelector('#state').textContent";
const ANSWER: &str = "document.querySelector('#answer').textContent";
/// The number of points of the chart.
const POINTS: &str = "document.querySelector('#chart polyline').points.numberOfItems";

fn open(server: &Binary) -> Browser {
    Browser::open(&format!("http://{}/", server.address))
}

impl Browser {
    fn click(&mut self, selector: &str) {
        self.evaluate(&format!("document.querySelector({}).click()", json!(selector)));
    }

    /// Sets the value of a form field and fires its `change` event.
    fn fill(&mut self, name: &str, value: &str) {
        let (selector, value) = (json!(format!("[name={name}]")), json!(value));
        self.evaluate(&format!(
            "{{ const field = document.querySelector({selector});
                field.value = {value};
                field.dispatchEvent(new Event('change', {{ bubbles: true }})); }}"
        ));
    }

    fn wait_for_state(&mut self, state: &str) {
        self.wait_for(&format!("{STATE} === {}", json!(state)), TIMEOUT);
    }

    /// Selects topics and waits until the page has subscribed to them.
    fn subscribe(&mut self, names: &str) {
        self.fill("names", names);
        self.click("[value=topics]");
        self.wait_for_state("open");
    }

    /// Returns the events that the page shows, oldest first, as `[id, type, data]`.
    fn events(&mut self) -> Vec<[String; 3]> {
        let mut events: Vec<_> = serde_json::from_value(self.evaluate(EVENTS)).unwrap();
        events.reverse();
        events
    }

    /// Publishes with the form of the page. Returns the result that the page shows.
    fn publish(&mut self, topic: &str, event_type: &str, data: &str) -> String {
        self.fill("topic", topic);
        self.fill("type", event_type);
        self.fill("data", data);
        self.evaluate("document.querySelector('#answer').textContent = ''");
        self.click("#publish button");
        self.wait_for(&format!("{ANSWER} !== ''"), TIMEOUT);
        self.evaluate(ANSWER).as_str().unwrap().to_owned()
    }
}

/// Publishes over HTTP and returns the event ID.
fn publish(address: SocketAddr, topic: &str, data: &str) -> String {
    let length = data.len();
    let request = format!(
        "POST /topics/{topic} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{data}"
    );
    let (status, _, body) = read_response(&mut send(address, &request));
    assert_eq!(status, 201, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    body["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_page_shows_events_as_they_arrive() {
    let server = Binary::start(&[]);
    let mut page = open(&server);
    // The first event is shown before the last ones have arrived.
    page.wait_for(&format!("{EVENTS}.length > 0"), TIMEOUT);
    let early = page.evaluate(&format!("[{EVENTS}.length, {STATE}]"));
    assert!(early[0].as_u64().unwrap() < 10, "{early}: events are shown as they arrive");
    assert_eq!(early[1], "open");

    page.wait_for(&format!("{EVENTS}.length === 10"), TIMEOUT);
    // The browser reconnects, and the server responds with 204.
    page.wait_for_state("finished");
    let expected = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"].map(|n| [n, "counter", n]);
    assert_eq!(page.events(), expected);

    // The button restarts the stream.
    page.click("#start");
    page.wait_for(&format!("{EVENTS}.length > 0 && {EVENTS}.length < 10"), TIMEOUT);
    drop(page);

    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("GET /counter 200: finished, 10 events"), "{log}");
    assert_eq!(log.matches("GET /counter 204: ").count(), 1, "{log}");
}

#[test]
fn a_restart_of_the_server_shows_as_a_gap_and_no_event_is_repeated() {
    let server = Binary::start(&[]);
    let address = server.address;
    let mut page = open(&server);
    page.subscribe("news, weather");
    let mut published = vec![publish(address, "news", "one")];
    published.push(publish(address, "weather", "two"));
    published.push(publish(address, "news", "three"));
    page.wait_for(&format!("{EVENTS}.length === 3"), TIMEOUT);

    let (_, clean, _) = server.stop("-KILL");
    assert!(!clean);
    page.wait_for_state("reconnecting");
    let _server = Binary::start_on(&address.to_string(), &[]);
    // Probably published before the page has reconnected: the log holds these events.
    published.push(publish(address, "news", "four"));
    published.push(publish(address, "weather", "five"));
    page.wait_for(&format!("{EVENTS}.length === 6"), TIMEOUT);
    page.wait_for_state("open");
    published.push(publish(address, "news", "six"));
    page.wait_for(&format!("{EVENTS}.length >= 7"), TIMEOUT);

    let mut events = page.events();
    // The new server does not know the last ID of the earlier run.
    let [_, name, notice] = events.remove(3);
    assert_eq!(name, "gap");
    assert!(notice.contains("Events may be missing") && notice.contains(&published[2]), "{notice}");
    assert_eq!(page.evaluate("document.querySelectorAll('#events tr.gap').length"), 1);
    let data = ["one", "two", "three", "four", "five", "six"];
    let expected = published.iter().zip(data).map(|(id, data)| [&**id, "message", data]);
    assert_eq!(events, expected.collect::<Vec<_>>());
}

#[test]
fn the_page_receives_what_it_publishes() {
    let token = concat!(env!("CARGO_TARGET_TMPDIR"), "/token-of-browser-tests");
    fs::write(token, "open-sesame").unwrap();
    let server = Binary::start_guarded(&["--token-file", token]);
    let mut page = open(&server);
    page.subscribe("chat");
    let answer = page.publish("chat", "", "hello");
    assert!(answer.starts_with("401 ") && answer.contains("Enter the token above"), "{answer}");
    page.fill("token", "open-sesame");
    let answer = page.publish("no topic", "", "hello");
    assert!(answer.contains("names are 1 to 128"), "{answer}");

    // Event types without a listener, and text that needs escaping at every step.
    let data = "two lines,\n\u{201c}quoted\u{201d} \u{1f600} <b>&amp;";
    let published = [("greeting", "hello"), ("", data), ("error", "no error at all")];
    let mut expected = Vec::new();
    for (event_type, data) in published {
        let answer = page.publish("chat", event_type, data);
        let id = answer.strip_prefix("Published as ").unwrap_or_else(|| panic!("{answer}"));
        let event_type = if event_type.is_empty() { "message" } else { event_type };
        expected.push([id, event_type, data].map(str::to_owned));
    }
    page.wait_for(&format!("{EVENTS}.length >= 3"), TIMEOUT);
    assert_eq!(page.events(), expected);
    assert_eq!(page.evaluate(STATE), "open");

    // The "follow" button subscribes to new events of another topic; "stop" closes the stream.
    page.publish("other", "", "before");
    page.click("#follow");
    page.wait_for_state("open");
    page.publish("other", "", "after");
    page.wait_for(&format!("{EVENTS}.length === 1 && {EVENTS}[0][2] === 'after'"), TIMEOUT);
    page.click("#stop");
    assert_eq!(page.evaluate(STATE), "closed");
    // With "earliest" checked, the page gets the events in the log.
    page.evaluate("document.querySelector('[name=earliest]').checked = true");
    page.click("#start");
    page.wait_for(&format!("{EVENTS}.length === 2 && {EVENTS}[1][2] === 'before'"), TIMEOUT);
}

#[test]
fn the_printed_link_lets_the_page_publish_and_removes_the_token_from_the_url() {
    let dir = std::env::temp_dir();
    for flags in [&[][..], &["--serve", dir.to_str().unwrap()]] {
        let server = Binary::start_guarded(flags);
        let link = server.start_up_text.lines().find_map(|line| line.strip_prefix("The page:"));
        let mut page = Browser::open(link.unwrap().trim());
        let href = page.evaluate("location.href");
        assert!(!href.as_str().unwrap().contains(['#', '=']), "{href}");
        assert!(page.publish("chat", "", "hello").starts_with("Published as "));
        // The token is kept in the session storage of the tab, and nowhere else.
        page.reload();
        page.wait_for("!!draft.token.value", TIMEOUT);
        assert!(page.publish("chat", "", "hello").starts_with("Published as "));
        assert_eq!(page.evaluate("localStorage.length + document.cookie.length"), 0);

        // A link followed in the open page also sets the token.
        page.evaluate("location.hash = 'token=other'");
        page.wait_for("draft.token.value === 'other' && location.hash === ''", TIMEOUT);
        page.click("[value=counter]");
        page.wait_for(&format!("{EVENTS}.some(([, type]) => type === 'counter')"), TIMEOUT);
        let answer = page.publish("chat", "", "hello");
        assert!(
            answer.starts_with("401 ") && answer.contains("printed it when it started"),
            "{answer}"
        );

        let token = server.token().to_owned();
        let (_, _, log) = server.stop("-TERM");
        assert!(!log.contains(&token), "{log}");
    }
}

#[test]
fn the_chart_grows_by_a_point_with_each_number() {
    let server = Binary::start(&[]);
    let mut page = open(&server);
    page.click("[value=score]");
    page.wait_for(&format!("{POINTS} >= 3"), TIMEOUT);
    assert_eq!(page.evaluate("document.querySelector('figure').hidden"), false);
    let before = page.evaluate(POINTS).as_u64().unwrap();
    page.wait_for(&format!("{POINTS} >= {}", before + 2), TIMEOUT);
    // In one expression, because events keep arriving.
    let counts = page.evaluate(&format!("[{POINTS}, {EVENTS}.length]"));
    assert_eq!(counts[0], counts[1]);
    // Events that are not numbers hide the chart.
    page.click("[value=clock]");
    page.wait_for(&format!("{EVENTS}.some(([, type]) => type === 'time')"), TIMEOUT);
    assert_eq!(page.evaluate("document.querySelector('figure').hidden"), true);
}

#[test]
fn the_page_fits_the_width_of_a_phone() {
    let server = Binary::start(&[]);
    let mut page = open(&server);
    page.resize(360, 740);
    let fits = |page: &mut Browser, what: &str| {
        let widths = "[innerWidth, document.documentElement.scrollWidth,
            ...['#scroll', 'section'].map(box => document.querySelector(box)).map(box =>
                box.scrollWidth - box.clientWidth)]";
        let widths = page.evaluate(widths);
        assert_eq!(widths[0], 360, "{what}");
        assert!(widths[1].as_u64().unwrap() <= 360, "{what}: {widths}");
        assert_eq!(
            (widths[2].as_u64(), widths[3].as_u64()),
            (Some(0), Some(0)),
            "{what}: {widths}"
        );
    };
    page.wait_for(&format!("{EVENTS}.length > 0"), TIMEOUT);
    fits(&mut page, "the counter, with its chart");

    let long = "word".repeat(60);
    page.subscribe(&long[..128]);
    page.publish(&long[..128], &long, &long);
    let gap = json!({ "reason": "unknown", "requested": long, "earliest": long, "latest": long });
    page.publish(&long[..128], "gap", &gap.to_string());
    page.wait_for("document.querySelector('#events tr.gap') !== null", TIMEOUT);
    fits(&mut page, "events with long words");
    let answer = page.publish(&long, "", "");
    assert!(answer.starts_with("400 "), "{answer}");
    fits(&mut page, "a long error of a publication");
    page.fill("names", &long);
    page.click("#start");
    page.wait_for("document.querySelector('#note').textContent.startsWith('400')", TIMEOUT);
    assert_eq!(page.evaluate(STATE), "closed");
    fits(&mut page, "a long error of a subscription");
}

/// The maximum number of HTTP/1.1 connections that Chromium opens to one host, over all tabs.
const CONNECTIONS: usize = 6;

/// Returns the number of open streams.
fn streams(server: &Binary) -> usize {
    let (_, _, metrics) = read_response(&mut get(server.address, "/metrics"));
    let streams = metrics.lines().find_map(|line| line.strip_prefix("sse_streams "));
    streams.unwrap().parse().unwrap()
}

/// Tabs with live reload.
struct Tabs {
    dir: Dir,
    server: Binary,
    browser: Browser,
    /// The tabs by the query of their URL.
    tabs: Vec<(usize, Tab)>,
    /// A script that each page runs before the one for live reload.
    prelude: &'static str,
    /// A subscriber to the topic to which each page publishes when it is loaded.
    loads: Subscriber,
}

impl Tabs {
    /// Opens this number of tabs.
    fn open(count: usize, prelude: &'static str) -> Self {
        let dir = Dir::new();
        dir.write("style.css", "body { color: green }");
        dir.write("archive.zip", "no page");
        let server = Binary::start(&["--serve", dir.path(), "--watch", dir.path()]);
        let loads = Subscriber::open(server.address, "/topics/loads");
        let browser = Browser::open("about:blank");
        let mut all = Self { dir, server, browser, tabs: Vec::new(), prelude, loads };
        all.write("one");
        for tab in 0..count {
            all.open_tab(tab);
        }
        all.assert_each_loads_once("one");
        all
    }

    fn open_tab(&mut self, query: usize) {
        let url = self.url(&query.to_string());
        self.tabs.push((query, self.browser.open_tab(&url)));
    }

    /// Writes a page that publishes the query of its URL and `version` when it is loaded.
    fn write(&self, version: &str) {
        let page = format!(
            r#"<!doctype html>
            <script>{}</script>
            <script src="/__hotreload.js"></script>
            <link rel="stylesheet" href="/style.css">
            <script>
              addEventListener("load", () => {{
                const body = `${{location.search}} {version}`;
                fetch("/topics/loads", {{ method: "POST", body }});
              }});
            </script>"#,
            self.prelude
        );
        self.dir.write("index.html", &page);
    }

    /// Returns the URL of the page with this query.
    fn url(&self, query: &str) -> String {
        format!("http://{}/?{query}", self.server.address)
    }

    /// Returns the number of live-reload streams. The subscriber to page loads has another stream.
    fn streams(&self) -> usize {
        streams(&self.server) - 1
    }

    /// Returns the next `count` page loads: the query of the URL and the version of the page.
    fn next(&mut self, count: usize) -> Vec<String> {
        let start = Instant::now();
        let loaded = self.loads.read_events(count).iter().map(|event| event.data.clone()).collect();
        self.loads.events.drain(..count);
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        loaded
    }

    fn assert_each_loads_once(&mut self, version: &str) {
        let mut loaded = self.next(self.tabs.len());
        loaded.sort();
        let mut expected: Vec<_> =
            self.tabs.iter().map(|(query, _)| format!("?{query} {version}")).collect();
        expected.sort();
        assert_eq!(loaded, expected);
    }

    /// Asserts that no page is loaded within 1.5 seconds.
    fn assert_none_loads(&mut self) {
        thread::sleep(Duration::from_millis(1500));
        self.loads.take(usize::MAX);
        let loaded: Vec<_> = self.loads.events.iter().map(|event| &event.data).collect();
        assert!(loaded.is_empty(), "{loaded:?}");
    }
}

#[test]
fn one_change_reloads_each_of_six_tabs_without_locks_once() {
    // As over plain HTTP from another machine: each tab has a stream of its own.
    let mut tabs = Tabs::open(CONNECTIONS, "delete Navigator.prototype.locks");
    for version in ["two", "three"] {
        tabs.assert_none_loads();
        assert_eq!(tabs.streams(), CONNECTIONS);
        tabs.write(version);
        tabs.assert_each_loads_once(version);
    }
    tabs.assert_none_loads();
}

#[test]
fn twelve_tabs_share_one_stream_and_one_change_reloads_each_once() {
    let mut tabs = Tabs::open(2 * CONNECTIONS, "");
    for version in ["two", "three", "four"] {
        tabs.assert_none_loads();
        assert_eq!(tabs.streams(), 1);
        let start = Instant::now();
        tabs.write(version);
        tabs.assert_each_loads_once(version);
        println!("all tabs were reloaded after {:?}", start.elapsed());
    }
    tabs.assert_none_loads();

    // A tab that is left takes the stream over from those that are closed.
    tabs.open_tab(100);
    assert_eq!(tabs.next(1), ["?100 four"]);
    for (_, tab) in tabs.tabs.drain(..2 * CONNECTIONS) {
        tabs.browser.close(tab);
    }
    wait_until("one tab holds the stream", || tabs.streams() == 1);
    tabs.write("five");
    tabs.assert_each_loads_once("five");
    tabs.assert_none_loads();
}

#[test]
fn changed_style_sheets_are_replaced_without_a_reload() {
    let mut tabs = Tabs::open(3, "");
    let color = |number: u32| format!("rgb(0, 0, {number})");
    let wait_for_color = |tabs: &mut Tabs, property: &str, number: u32| {
        for (_, tab) in &tabs.tabs {
            tabs.browser.select(tab);
            let is = format!("getComputedStyle(document.body).{property} === '{}'", color(number));
            tabs.browser.wait_for(&is, TIMEOUT);
            tabs.browser.wait_for("document.querySelectorAll('link').length === 1", TIMEOUT);
        }
    };
    for number in 1..4 {
        tabs.assert_none_loads();
        tabs.dir.write("style.css", &format!("body {{ color: {} }}", color(number)));
        wait_for_color(&mut tabs, "color", number);
    }
    // Changes that follow each other while the style sheet is being loaded.
    for number in 4..8 {
        tabs.dir.write("style.css", &format!("body {{ color: {} }}", color(number)));
        thread::sleep(Duration::from_millis(250));
    }
    wait_for_color(&mut tabs, "color", 7);
    // Style sheets that others import are loaded again, too.
    tabs.dir.write("style.css", "@import 'more.css';");
    for number in 8..11 {
        let more = format!("body {{ background-color: {} }}", color(number));
        tabs.dir.write("more.css", &more);
        wait_for_color(&mut tabs, "backgroundColor", number);
    }
    tabs.assert_none_loads();

    // Together with another change, and after it.
    tabs.dir.write("style.css", "");
    tabs.write("two");
    tabs.assert_each_loads_once("two");
    tabs.dir.write("style.css", &format!("body {{ color: {} }}", color(11)));
    wait_for_color(&mut tabs, "color", 11);
    tabs.assert_none_loads();
}

#[test]
fn a_page_without_style_sheets_is_reloaded_when_one_changes() {
    let mut tabs = Tabs::open(1, "");
    tabs.browser.evaluate("document.querySelector('link').remove()");
    tabs.dir.write("style.css", "body { color: red }");
    tabs.assert_each_loads_once("one");
    tabs.assert_none_loads();
}

#[test]
fn pages_of_another_server_are_reloaded_if_their_origin_is_allowed() {
    let dir = Dir::new();
    dir.write("style.css", "body { color: rgb(0, 0, 1) }");
    // The server of the application, which has live reload from the other one.
    let app = Binary::start(&["--serve", dir.path()]);
    let origin = format!("http://{}", app.address);
    let write = |server: &Binary, text: &str| {
        let script = format!("<script src=\"http://{}/__hotreload.js\"></script>", server.address);
        let styles = r#"<link rel="stylesheet" href="/style.css">"#;
        dir.write("index.html", &format!("<!doctype html>{script}{styles}<p>{text}</p>"));
    };
    let text_is = |text: &str| format!("document.querySelector('p')?.innerText === '{text}'");

    let server = Binary::start(&["--watch", dir.path(), "--allow-origin", &origin]);
    write(&server, "one");
    let mut browser = Browser::open("about:blank");
    let tabs: Vec<_> = (0..7).map(|_| browser.open_tab(&origin)).collect();
    wait_until("the tabs share a stream", || streams(&server) == 1);
    write(&server, "two");
    for tab in &tabs {
        browser.select(tab);
        browser.wait_for(&text_is("two"), TIMEOUT);
    }
    wait_until("the tabs share a stream", || streams(&server) == 1);
    browser.evaluate("window.isSame = true");
    dir.write("style.css", "body { color: rgb(0, 0, 2) }");
    browser.wait_for("getComputedStyle(document.body).color === 'rgb(0, 0, 2)'", TIMEOUT);
    assert_eq!(browser.evaluate("window.isSame"), true);
    drop(browser);

    // The browser runs the script, but withholds the stream from it.
    let other = Binary::start(&["--watch", dir.path()]);
    write(&other, "three");
    let mut browser = Browser::open(&origin);
    wait_until("the browser requests the stream", || {
        let (_, _, metrics) = read_response(&mut get(other.address, "/metrics"));
        metrics.contains("sse_streams_ended_total{")
    });
    write(&other, "four");
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(browser.evaluate(&text_is("three")), true);
}

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
    let mut page = open(&server);
    let all = json!([&names[..], &["app.wasm"]].concat()).to_string();
    page.wait_for(&format!("JSON.stringify(window.seen) === {}", json!(all)), TIMEOUT);
}

#[test]
fn a_restart_of_the_server_reloads_each_of_twelve_tabs_once() {
    let mut tabs = Tabs::open(2 * CONNECTIONS, "");
    let address = tabs.server.address.to_string();
    tabs.server.signal("-KILL");
    wait_until("the server has stopped", || TcpStream::connect(&address).is_err());
    // The pages publish to the new server.
    let flags = ["--serve", tabs.dir.path(), "--watch", tabs.dir.path()];
    tabs.server = Binary::start_on(&address, &flags);
    tabs.loads = Subscriber::open(tabs.server.address, "/topics/loads?lastEventId=earliest");
    tabs.assert_each_loads_once("one");
    tabs.assert_none_loads();
}

#[test]
fn a_page_in_one_of_six_tabs_can_navigate_away_and_back() {
    let mut tabs = Tabs::open(CONNECTIONS, "");
    tabs.assert_none_loads();
    tabs.browser.select(&tabs.tabs[CONNECTIONS - 1].1);
    tabs.browser.navigate(&tabs.url("elsewhere"));
    assert_eq!(tabs.next(1), ["?elsewhere one"]);

    // The page may come from the back/forward cache, which runs no script again.
    tabs.browser.start_going_back();
    tabs.browser.wait_for("location.search === '?5'", TIMEOUT);
    tabs.loads.take(usize::MAX);
    tabs.loads.events.clear();
    tabs.write("two");
    tabs.assert_each_loads_once("two");

    // A download does not unload the page.
    tabs.browser.evaluate("location.href = '/archive.zip'");
    thread::sleep(Duration::from_secs(1));
    tabs.write("three");
    tabs.assert_each_loads_once("three");
    tabs.assert_none_loads();
}
