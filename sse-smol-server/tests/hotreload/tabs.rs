//! Tabs of a browser that are reloaded.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::browser::{Browser, Tab};
use super::dir::Dir;
use super::support::subscriber::{Subscriber, wait_until};
use super::support::{Binary, TIMEOUT, get, read_response};

/// The maximum number of HTTP/1.1 connections that Chromium opens to one host, over all tabs.
const CONNECTIONS: usize = 6;

/// Writes a page that publishes the query of its URL and `version` when it is loaded, and runs the
/// script `prelude` before.
fn write_page(dir: &Dir, prelude: &str, version: &str) {
    let page = format!(
        r#"<!doctype html>
        <script>{prelude}</script>
        <script src="/__hotreload.js"></script>
        <link rel="stylesheet" href="/style.css">
        <script>
          addEventListener("load", () => {{
            const body = `${{location.search}} {version}`;
            fetch("/topics/loads", {{ method: "POST", body }});
          }});
        </script>"#
    );
    dir.write("index.html", &page);
}

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
        // Before the server starts, so that it is no change.
        write_page(&dir, prelude, "one");
        let server = Binary::start(&["--serve", dir.path(), "--watch", dir.path()]);
        let loads = Subscriber::open(server.address, "/topics/loads");
        let browser = Browser::open("about:blank");
        let mut all = Self { dir, server, browser, tabs: Vec::new(), prelude, loads };
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

    /// Writes another version of the page.
    fn write(&self, version: &str) {
        write_page(&self.dir, self.prelude, version);
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
