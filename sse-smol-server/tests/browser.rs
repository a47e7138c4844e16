//! The page in a real Chromium.

#[path = "support/browser.rs"]
mod browser;
#[path = "support/dir.rs"]
mod dir;
mod support;

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use browser::{Browser, Tab};
use dir::Dir;
use serde_json::{Value, json};
use support::subscriber::Subscriber;
use support::{Binary, read_response, send};

/// How long a page may take to show what is there. It is only ever used up by a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// The events that the page shows, newest first, as `[id, type, data]`.
const EVENTS: &str = "[...document.querySelectorAll('#events tr')]
    .map(row => [1, 2, 3].map(cell => row.cells[cell].textContent))";
const STATE: &str = "document.querySelector('#state').textContent";
const ANSWER: &str = "document.querySelector('#answer').textContent";
/// How many points the chart has.
const POINTS: &str = "document.querySelector('#chart polyline').points.numberOfItems";

fn open(server: &Binary) -> Browser {
    Browser::open(&format!("http://{}/", server.address))
}

impl Browser {
    fn click(&mut self, selector: &str) {
        self.evaluate(&format!("document.querySelector({}).click()", json!(selector)));
    }

    /// Fills in a field, as if the user had typed it.
    fn fill(&mut self, name: &str, value: &str) {
        let (selector, value) = (json!(format!("[name={name}]")), json!(value));
        self.evaluate(&format!(
            "{{ const field = document.querySelector({selector});
                field.value = {value};
                field.dispatchEvent(new Event('change', {{ bubbles: true }})); }}"
        ));
    }

    fn wait_for_state(&mut self, state: &str) {
        self.wait_for(&format!("{STATE} === {}", json!(state)), PATIENCE);
    }

    /// Chooses topics, and waits until the page is subscribed to them.
    fn subscribe(&mut self, names: &str) {
        self.fill("names", names);
        self.click("[value=topics]");
        self.wait_for_state("open");
    }

    /// The events on the page, oldest first, as `[id, type, data]`.
    fn events(&mut self) -> Vec<[String; 3]> {
        let mut events: Vec<_> = serde_json::from_value(self.evaluate(EVENTS)).unwrap();
        events.reverse();
        events
    }

    /// Publishes with the page's form, and gives what the page says to that.
    fn publish(&mut self, topic: &str, event_type: &str, data: &str) -> String {
        self.fill("topic", topic);
        self.fill("type", event_type);
        self.fill("data", data);
        self.evaluate("document.querySelector('#answer').textContent = ''");
        self.click("#publish button");
        self.wait_for(&format!("{ANSWER} !== ''"), PATIENCE);
        self.evaluate(ANSWER).as_str().unwrap().to_owned()
    }
}

/// Publishes as a program does, and gives the id.
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
fn the_page_shows_ten_events_as_they_come() {
    let server = Binary::start(&[]);
    let mut page = open(&server);
    // The first event is there while the last ones are not.
    page.wait_for(&format!("{EVENTS}.length > 0"), PATIENCE);
    let early = page.evaluate(&format!("[{EVENTS}.length, {STATE}]"));
    assert!(early[0].as_u64().unwrap() < 10, "{early} at first sight");
    assert_eq!(early[1], "open");

    page.wait_for(&format!("{EVENTS}.length === 10"), PATIENCE);
    // The browser comes back by itself, and is told that there is no more.
    page.wait_for_state("finished");
    let expected = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"].map(|n| [n, "counter", n]);
    assert_eq!(page.events(), expected);

    // And once more from the start.
    page.click("#start");
    page.wait_for(&format!("{EVENTS}.length > 0 && {EVENTS}.length < 10"), PATIENCE);
    drop(page);

    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("GET /counter 200: finished, 10 events"), "{log}");
    assert_eq!(log.matches("GET /counter 204: ").count(), 1, "{log}");
}

#[test]
fn a_restart_of_the_server_shows_as_a_gap_and_nothing_comes_twice() {
    let server = Binary::start(&[]);
    let address = server.address;
    let mut page = open(&server);
    page.subscribe("news, weather");
    let mut published = vec![publish(address, "news", "one")];
    published.push(publish(address, "weather", "two"));
    published.push(publish(address, "news", "three"));
    page.wait_for(&format!("{EVENTS}.length === 3"), PATIENCE);

    let (_, clean, _) = server.stop("-KILL");
    assert!(!clean);
    page.wait_for_state("reconnecting");
    let _server = Binary::start_on(&address.to_string(), &[]);
    // Most likely before the page is back: they are held for it.
    published.push(publish(address, "news", "four"));
    published.push(publish(address, "weather", "five"));
    page.wait_for(&format!("{EVENTS}.length === 6"), PATIENCE);
    page.wait_for_state("open");
    published.push(publish(address, "news", "six"));
    page.wait_for(&format!("{EVENTS}.length >= 7"), PATIENCE);

    let mut events = page.events();
    // Between the runs, for people to see: the server does not know the last id of the run before.
    let [_, name, notice] = events.remove(3);
    assert_eq!(name, "gap");
    assert!(notice.contains("Events may be missing") && notice.contains(&published[2]), "{notice}");
    assert_eq!(page.evaluate("document.querySelectorAll('#events tr.gap').length"), 1);
    let data = ["one", "two", "three", "four", "five", "six"];
    let expected = published.iter().zip(data).map(|(id, data)| [&**id, "message", data]);
    assert_eq!(events, expected.collect::<Vec<_>>());
}

#[test]
fn what_the_page_publishes_comes_back_to_it() {
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

    // A type that the page has not heard of; text that needs care on every way.
    let data = "two lines,\n\u{201c}quoted\u{201d} \u{1f600} <b>&amp;";
    let published = [("greeting", "hello"), ("", data), ("error", "no error at all")];
    let mut expected = Vec::new();
    for (event_type, data) in published {
        let answer = page.publish("chat", event_type, data);
        let id = answer.strip_prefix("Published as ").unwrap_or_else(|| panic!("{answer}"));
        let event_type = if event_type.is_empty() { "message" } else { event_type };
        expected.push([id, event_type, data].map(str::to_owned));
    }
    page.wait_for(&format!("{EVENTS}.length >= 3"), PATIENCE);
    assert_eq!(page.events(), expected);
    assert_eq!(page.evaluate(STATE), "open");

    // Another topic from there on, by its button; a page that was stopped is left alone.
    page.publish("other", "", "before");
    page.click("#follow");
    page.wait_for_state("open");
    page.publish("other", "", "after");
    page.wait_for(&format!("{EVENTS}.length === 1 && {EVENTS}[0][2] === 'after'"), PATIENCE);
    page.click("#stop");
    assert_eq!(page.evaluate(STATE), "closed");
    // What was held is there for those who ask for it.
    page.evaluate("document.querySelector('[name=earliest]').checked = true");
    page.click("#start");
    page.wait_for(&format!("{EVENTS}.length === 2 && {EVENTS}[1][2] === 'before'"), PATIENCE);
}

#[test]
fn the_printed_link_lets_its_page_publish_and_hides_the_token() {
    let dir = std::env::temp_dir();
    for flags in [&[][..], &["--serve", dir.to_str().unwrap()]] {
        let server = Binary::start_guarded(flags);
        let link = server.start_up_text.lines().find_map(|line| line.strip_prefix("The page:"));
        let mut page = Browser::open(link.unwrap().trim());
        let href = page.evaluate("location.href");
        assert!(!href.as_str().unwrap().contains(['#', '=']), "{href}");
        assert!(page.publish("chat", "", "hello").starts_with("Published as "));
        // It is kept for the tab, and nowhere else.
        page.evaluate("window.isOld = true; location.reload()");
        // The page before the reload answers until it is gone.
        let reloaded = "!window.isOld && document.readyState === 'complete'";
        page.wait_for(&format!("{reloaded} && !!draft.token.value"), PATIENCE);
        assert!(page.publish("chat", "", "hello").starts_with("Published as "));
        assert_eq!(page.evaluate("localStorage.length + document.cookie.length"), 0);

        // A link that is followed in the open page counts as well, such as one of the next start.
        page.evaluate("location.hash = 'token=other'");
        page.wait_for("draft.token.value === 'other' && location.hash === ''", PATIENCE);
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
    page.wait_for(&format!("{POINTS} >= 3"), PATIENCE);
    assert_eq!(page.evaluate("document.querySelector('figure').hidden"), false);
    let before = page.evaluate(POINTS).as_u64().unwrap();
    page.wait_for(&format!("{POINTS} >= {}", before + 2), PATIENCE);
    // At one moment, for more come all the time.
    let counts = page.evaluate(&format!("[{POINTS}, {EVENTS}.length]"));
    assert_eq!(counts[0], counts[1]);
    // Words are no numbers.
    page.click("[value=clock]");
    page.wait_for(&format!("{EVENTS}.some(([, type]) => type === 'time')"), PATIENCE);
    assert_eq!(page.evaluate("document.querySelector('figure').hidden"), true);
}

#[test]
fn nothing_is_wider_than_a_phone() {
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
    page.wait_for(&format!("{EVENTS}.length > 0"), PATIENCE);
    fits(&mut page, "the counter, with its chart");

    let long = "word".repeat(60);
    page.subscribe(&long[..128]);
    page.publish(&long[..128], &long, &long);
    let gap = json!({ "reason": "unknown", "requested": long, "earliest": long, "latest": long });
    page.publish(&long[..128], "gap", &gap.to_string());
    page.wait_for("document.querySelector('#events tr.gap') !== null", PATIENCE);
    fits(&mut page, "long words everywhere");
    let answer = page.publish(&long, "", "");
    assert!(answer.starts_with("400 "), "{answer}");
    fits(&mut page, "a long refusal");
    page.fill("names", &long);
    page.click("#start");
    page.wait_for("document.querySelector('#note').textContent.startsWith('400')", PATIENCE);
    assert_eq!(page.evaluate(STATE), "closed");
    fits(&mut page, "a long refusal of a stream");
}

/// The connections that Chromium opens to one server, for all tabs together.
const CONNECTIONS: usize = 6;

/// As many tabs with live reload as there are connections.
struct Tabs {
    dir: Dir,
    _server: Binary,
    browser: Browser,
    tabs: Vec<Tab>,
    /// What the pages publish when they are loaded.
    loads: Subscriber,
}

impl Tabs {
    fn open() -> Self {
        let dir = Dir::new();
        dir.write("style.css", "body { color: green }");
        dir.write("archive.zip", "no page");
        let server = Binary::start(&["--serve", dir.path(), "--watch", dir.path()]);
        let loads = Subscriber::open(server.address, "/topics/loads");
        show(&dir, "one");
        let url = |tab: usize| format!("http://{}/?{tab}", server.address);
        let mut browser = Browser::open("about:blank");
        let tabs = (0..CONNECTIONS).map(|tab| browser.open_tab(&url(tab))).collect();
        let mut all = Self { dir, _server: server, browser, tabs, loads };
        all.each_is_loaded("one");
        all
    }

    /// The next pages that are loaded: the query of their URL, and what they show.
    fn next(&mut self, count: usize) -> Vec<String> {
        let start = Instant::now();
        let loaded = self.loads.read_events(count).iter().map(|event| event.data.clone()).collect();
        self.loads.events.drain(..count);
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        loaded
    }

    fn each_is_loaded(&mut self, shows: &str) {
        let mut loaded = self.next(CONNECTIONS);
        loaded.sort();
        let expected: Vec<_> = (0..CONNECTIONS).map(|tab| format!("?{tab} {shows}")).collect();
        assert_eq!(loaded, expected);
    }

    /// Expects no page to be loaded for a while.
    fn none_is_loaded(&mut self) {
        thread::sleep(Duration::from_millis(1500));
        self.loads.take(usize::MAX);
        let loaded: Vec<_> = self.loads.events.iter().map(|event| &event.data).collect();
        assert!(loaded.is_empty(), "{loaded:?}");
    }
}

/// Writes a page that publishes when it is loaded, by its URL and what it shows.
fn show(dir: &Dir, shows: &str) {
    let page = format!(
        r#"<!doctype html>
        <script src="/__hotreload.js"></script>
        <link rel="stylesheet" href="/style.css">
        <script>
          addEventListener("load", () => {{
            const body = `${{location.search}} {shows}`;
            fetch("/topics/loads", {{ method: "POST", body }});
          }});
        </script>"#
    );
    dir.write("index.html", &page);
}

#[test]
fn one_change_reloads_each_of_six_tabs_once() {
    let mut tabs = Tabs::open();
    for shows in ["two", "three"] {
        tabs.none_is_loaded();
        show(&tabs.dir, shows);
        tabs.each_is_loaded(shows);
    }
    tabs.none_is_loaded();
}

#[test]
fn a_page_of_six_tabs_can_go_elsewhere_and_come_back() {
    let mut tabs = Tabs::open();
    tabs.none_is_loaded();
    let tab = tabs.tabs.pop().unwrap();
    tabs.browser.select(&tab);
    tabs.browser.evaluate("location.href = '/?elsewhere'");
    assert_eq!(tabs.next(1), ["?elsewhere one"]);

    // From the cache of pages, which runs no script again, or not.
    tabs.browser.evaluate("history.back()");
    tabs.browser.wait_for("location.search === '?5'", PATIENCE);
    tabs.loads.take(usize::MAX);
    tabs.loads.events.clear();
    show(&tabs.dir, "two");
    tabs.each_is_loaded("two");

    // The page stays where the browser takes the answer for a download.
    tabs.browser.evaluate("location.href = '/archive.zip'");
    thread::sleep(Duration::from_secs(1));
    show(&tabs.dir, "three");
    tabs.each_is_loaded("three");
    tabs.none_is_loaded();
}
