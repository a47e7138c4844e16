//! The live-reload stream, its script, and pages that a browser reloads.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::browser::Browser;
use super::dir::Dir;
use super::support::{Binary, TIMEOUT, get, read_head, read_to_end};
use super::{Events, file, in_parallel};

#[test]
fn a_reconnecting_client_gets_a_missed_change_exactly_once() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path()]);
    let mut events = Events::of(server.address, "");
    let old = events.connected();
    dir.write("a", "1");
    let new = events.updated();
    drop(events);

    let stale = |events: &mut Events| {
        // Until `updated`, the client keeps its last event ID.
        assert_eq!(events.next(), ("connected".to_owned(), String::new(), new.clone()));
        assert_eq!(events.updated(), new);
        events.assert_silent();
    };
    let current = |events: &mut Events| {
        assert_eq!(events.connected(), new);
        events.assert_silent();
    };
    // The header has precedence over the query, because it is newer.
    let with = |query: &str, header: &str| {
        let query = if query.is_empty() { String::new() } else { format!("?lastEventId={query}") };
        let mut header = format!("Last-Event-ID: {header}\r\n");
        if header.contains(": \r") {
            header.clear();
        }
        let mut events = Events::open(server.address, &format!("/__hotreload{query}"), &header);
        events.retry();
        events
    };
    // The query, the header, and whether the change was missed.
    let cases: [(&str, &str, bool); 7] = [
        ("", &old, true),
        ("", &new, false),
        ("", "", false),
        (&old, "", true),
        (&new, "", false),
        (&old, &new, false),
        (&new, &old, true),
    ];
    in_parallel(&cases, |&(query, header, is_stale)| {
        let mut events = with(query, header);
        if is_stale { stale(&mut events) } else { current(&mut events) }
    });
}

#[test]
fn a_restart_of_the_server_is_a_change() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path()]);
    let address = server.address;
    let old = Events::of(address, "").connected();
    server.stop("-KILL");
    let _server = Binary::start_on(&address.to_string(), &["--watch", dir.path()]);
    let mut events = Events::of(address, &old);
    assert_eq!(events.next().0, "connected");
    let new = events.updated();
    assert_ne!(old, new);
    events.assert_silent();
    assert_eq!(Events::of(address, &new).connected(), new);
}

#[test]
fn events_name_the_version_before_which_pages_have_to_be_reloaded() {
    let dir = Dir::new();
    dir.write("old.css", "");
    let server = Binary::start(&["--watch", dir.path()]);
    let mut events = Events::of(server.address, "");
    let start = events.connected().strip_suffix("-0").unwrap().to_owned();
    let expect = |events: &mut Events, count: u32, reload: u32| {
        let block = events.block();
        let data = format!(r#"{{"reload":"{start}-{reload}","version":"{start}-{count}"}}"#);
        assert!(block.contains(&format!("data: {data}\n")), "{block}, not {data}");
    };
    let write = |names: &[&str]| names.iter().for_each(|name| dir.write(name, "x"));
    let cases: [(&[&str], u32); 6] = [
        (&["a.css"], 0),
        (&["a/b.css"], 2), // the new directory may contain other files
        (&["a.css", "a/b.css", "b.css.map"], 2),
        (&["a.css", "index.html"], 4),
        (&["a.scss"], 5),
        (&["a.css"], 5),
    ];
    for (count, (names, reload)) in (1..).zip(cases) {
        write(names);
        expect(&mut events, count, reload);
    }
    fs::remove_file(dir.0.join("old.css")).unwrap();
    expect(&mut events, 7, 7);
    write(&["a.css"]);
    expect(&mut events, 8, 7);
    let mut late = Events::of(server.address, &format!("{start}-5"));
    expect(&mut late, 8, 7);
}

#[test]
fn open_live_reload_streams_do_not_delay_shutdown() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path(), "--drain", "60"]);
    let mut streams: Vec<_> = (0..10).map(|_| Events::of(server.address, "")).collect();
    for events in &mut streams {
        events.connected();
    }
    // The clients keep their streams open, and are sent a short reconnection time.
    let (time, clean, log) = server.stop("-TERM");
    assert!(clean && time < Duration::from_secs(1), "{time:?}: {log}");
    assert_eq!(log.matches("GET /__hotreload 200: drained, ").count(), 10, "{log}");
    for mut events in streams {
        let rest = read_to_end(&mut events.0);
        let retry = rest.rsplit("retry: ").next().unwrap().trim().parse::<u64>();
        assert!(retry.unwrap() <= 50, "{rest:?}");
    }
}

#[test]
fn the_script_contains_the_version() {
    let server = Binary::start(&[]);
    let version = Events::of(server.address, "").connected();
    let (status, head, script) = file(server.address, "/__hotreload.js");
    assert_eq!(status, 200);
    assert!(head.contains("Content-Type: text/javascript; charset=utf-8\r\n"), "{head}");
    assert!(head.contains("Cache-Control: no-store\r\n"), "{head}");
    assert!(script.contains(&format!("__hotreload?lastEventId={version}\"")), "{script}");
}

/// Returns a page that publishes the number of its loads and its text each time it is loaded.
fn page(text: &str) -> String {
    format!(
        r#"<!doctype html>
        <script src="/__hotreload.js"></script>
        <p>{text}</p>
        <script>
          const loads = (sessionStorage.loads = 1 + Number(sessionStorage.loads ?? 0));
          const body = `${{loads}} ${{document.querySelector("p").innerText}}`;
          fetch("/topics/loads", {{ method: "POST", body }});
        </script>"#
    )
}

#[test]
fn a_page_in_a_browser_is_reloaded_once_for_each_change() {
    let dir = Dir::new();
    let write = |path: &Path, text: &str| fs::write(path, page(text)).unwrap();
    let index = dir.0.join("index.html");
    write(&index, "one");
    let arguments = ["--serve", dir.path(), "--watch", dir.path(), "--drain", "60"];
    let mut server = Binary::start(&arguments);
    let address = server.address;
    let loads = || {
        let mut events = Events::open(address, "/topics/loads?lastEventId=earliest", "");
        let start = events.block();
        assert!(start.starts_with("id: ") && !start.contains("data"), "{start}");
        events
    };
    let expect_load = |events: &mut Events, line: &str| {
        let block = events.block();
        assert!(block.contains(&format!("data: {line}\n")), "{line}, not {block:?}");
    };

    let mut events = loads();
    let mut browser = Browser::open(&format!("http://{address}/"));
    expect_load(&mut events, "1 one");
    write(&index, "two");
    expect_load(&mut events, "2 two");
    events.assert_silent();

    // After a crash or a graceful shutdown, the page reloads once the server is back.
    for (signal, text, loads_again) in [("-KILL", "three", 3), ("-TERM", "four", 4)] {
        // Graceful shutdown would wait for this stream.
        drop(events);
        let (time, ..) = server.stop(signal);
        assert!(time < Duration::from_secs(5), "{signal}: {time:?}");
        write(&index, text);
        server = Binary::start_on(&address.to_string(), &arguments);
        events = loads();
        expect_load(&mut events, &format!("{loads_again} {text}"));
        events.assert_silent();
    }

    // The page has reconnected, with one stream.
    write(&index, "five");
    expect_load(&mut events, "5 five");
    events.assert_silent();
    browser.wait_for("document.querySelector('p').innerText === 'five'", TIMEOUT);

    // A manual reload does not cause another one.
    browser.reload();
    expect_load(&mut events, "6 five");
    events.assert_silent();
}

/// Restarting a development server must be quick, so `--watch` disables the drain period.
#[test]
fn with_watch_shutdown_does_not_wait_for_open_streams() {
    let dir = Dir::new();
    let server = Binary::start(&["--watch", dir.path()]);
    let mut sockets: Vec<_> = ["/clock", "/topics/a", "/__hotreload", "/score?stream=true"]
        .iter()
        .map(|path| get(server.address, path))
        .collect();
    for socket in &mut sockets {
        read_head(socket);
    }
    let (time, clean, log) = server.stop("-TERM");
    assert!(clean && time < Duration::from_secs(1), "{time:?}: {log}");
}

#[test]
fn the_server_prints_the_element_that_pages_need() {
    let dir = Dir::new();
    let served = Binary::start(&["--watch", dir.path(), "--serve", dir.path()]);
    let line = "\nReload:    <script src=\"/__hotreload.js\"></script>\n";
    assert!(served.start_up_text.contains(line), "{}", served.start_up_text);
    // Pages of another server need the address.
    let watched = Binary::start(&["--watch", dir.path()]);
    let line = format!(
        "\nReload:    <script src=\"http://{}/__hotreload.js\"></script>\n",
        watched.address
    );
    assert!(watched.start_up_text.contains(&line), "{}", watched.start_up_text);
    assert!(!Binary::start(&[]).start_up_text.contains("Reload:"));
}
