//! What the page shows of a stream: its events, its response and its end.

use super::*;

#[test]
fn events_are_shown_as_they_arrive() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/counter");
    // The first event is shown before the last ones have arrived.
    page.wait_for(&format!("{EVENTS}.length > 0"), TIMEOUT);
    let early = page.evaluate(&format!("[{EVENTS}.length, {STATE}]"));
    assert!(early[0].as_u64().unwrap() < 10, "{early}: events are shown as they arrive");
    assert_eq!(early[1], "open");

    page.wait_for_events(10);
    // The page reconnects, and the server responds with 204.
    page.wait_for_state("finished");
    let expected = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"].map(|n| [n, "counter", n]);
    assert_eq!(page.events(), expected);

    // The button restarts the stream.
    page.click("[data-action=toggle]");
    page.wait_for(&format!("{EVENTS}.length > 10 && {STATE} === 'open'"), TIMEOUT);
    page.click("[data-action=toggle]");
    assert_eq!(page.evaluate(STATE), "closed");
    drop(page);

    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("GET /counter 200: finished, 10 events"), "{log}");
    assert_eq!(log.matches("GET /counter 204: ").count(), 1, "{log}");
}

#[test]
fn a_restart_of_the_server_shows_as_a_gap_and_no_event_is_repeated() {
    let server = Binary::start(&[]);
    let address = server.address;
    let mut page = open(&server, "");
    page.subscribe("news, weather");
    let mut published = vec![publish(address, "news", "one")];
    published.push(publish(address, "weather", "two"));
    published.push(publish(address, "news", "three"));
    page.wait_for_events(3);

    let (_, clean, _) = server.stop("-KILL");
    assert!(!clean);
    page.wait_for_state("reconnecting");
    let _server = Binary::start_on(&address.to_string(), &[]);
    // Probably published before the page has reconnected: the log holds these events.
    published.push(publish(address, "news", "four"));
    published.push(publish(address, "weather", "five"));
    page.wait_for_events(6);
    page.wait_for_state("open");
    assert!(page.evaluate(NOTE).as_str().unwrap().contains("1 reconnection"));
    published.push(publish(address, "news", "six"));
    page.wait_for(&format!("{EVENTS}.length >= 7"), TIMEOUT);

    let mut events = page.events();
    // The new server does not know the last ID of the earlier run.
    let [_, name, notice] = events.remove(3);
    assert_eq!(name, "gap");
    assert!(notice.contains("Events may be missing") && notice.contains(&published[2]), "{notice}");
    assert_eq!(page.evaluate("document.querySelectorAll('.events .gap').length"), 1);
    let data = ["one", "two", "three", "four", "five", "six"];
    let expected = published.iter().zip(data).map(|(id, data)| [&**id, "message", data]);
    assert_eq!(events, expected.collect::<Vec<_>>());
}

#[test]
fn comments_reconnection_times_and_ids_without_data_are_shown() {
    let server = Binary::start(&["--keep-alive", "0.05"]);
    let mut page = open(&server, "#stream=/topics/news");
    page.wait_for_state("open");
    publish(server.address, "news?retry=700", "hello");
    page.wait_for_events(1);
    // The newest row of each kind.
    let shown =
        "Object.fromEntries([...document.querySelectorAll('.events li')].reverse().map(row =>
        [row.className, row.querySelector('.type').textContent + ': '
            + row.querySelector('.data').textContent]))";
    // Comments that repeat share one row.
    page.wait_for(&format!("/^comment ×[0-9]+: /.test({shown}.comment)"), TIMEOUT);
    let shown = page.evaluate(shown);
    assert_eq!(shown["retry"], "retry: 700 ms");
    assert_eq!(shown["id"], "id only: ");
    assert_eq!(shown["event"], "message: hello");
    let rows = page.evaluate("document.querySelectorAll('.events .comment').length");
    assert!(rows.as_u64().unwrap() <= 2, "{rows} rows of comments, around one event");
}

#[test]
fn attempts_to_reach_a_stopped_server_share_a_row() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/topics/news");
    page.wait_for_state("open");
    publish(server.address, "news?retry=500", "hello");
    page.wait_for_events(1);
    server.stop("-KILL");
    let rows = "[...document.querySelectorAll('.events .connection')]
        .map(row => row.querySelector('.type').textContent)";
    page.wait_for(&format!("/^connection ×[3-9]$/.test({rows}[0])"), TIMEOUT);
    let count = page.evaluate(&format!("{rows}.length"));
    assert_eq!(count, 2, "one row for the end of the stream, one for the attempts");
}

#[test]
fn the_response_head_is_shown() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/clock");
    page.wait_for_state("open");
    let head = "document.querySelector('.head').textContent.replaceAll(/\\s+/g, ' ')";
    let head = page.evaluate(head);
    let head = head.as_str().unwrap();
    assert!(head.contains("Response: 200 OK"), "{head}");
    assert!(head.contains("content-typetext/event-stream"), "{head}");
}

#[test]
fn a_refused_stream_shows_why() {
    let server = Binary::start(&[]);
    let long = "word".repeat(60);
    for (path, expected) in [
        (&*format!("/topics/{long}"), "400 Bad Request: "),
        ("/nowhere", "404 Not Found: There is nothing at this path"),
        ("/healthz", "no event stream: the content type is text/plain"),
    ] {
        let mut page = open(&server, &format!("#stream={path}"));
        page.wait_for_state("failed");
        let note = page.evaluate(NOTE);
        assert!(note.as_str().unwrap().contains(expected), "{path}: {note}");
        let head = page.evaluate("document.querySelector('.head summary').textContent");
        assert!(head.as_str().unwrap().starts_with("Response: "), "{path}: {head}");
        assert_eq!(
            page.evaluate("document.querySelector('[data-action=toggle]').textContent"),
            "Start"
        );
    }
}

#[test]
fn a_subscription_starts_after_an_event_id() {
    let server = Binary::start(&[]);
    publish(server.address, "news", "one");
    let id = publish(server.address, "news?id=caf%C3%A9-2", "two");
    publish(server.address, "news", "three");
    let mut page = open(&server, "#stream=/clock");
    page.fill("subscribe", "start", "after");
    page.fill("subscribe", "after", &id);
    page.subscribe("news");
    page.wait_for_events(1);
    assert_eq!(page.events()[0][2], "three");

    page.fill("subscribe", "start", "earliest");
    page.subscribe("news");
    page.wait_for_events(3);
    assert_eq!(page.events()[1], [&*id, "message", "two"]);
}
