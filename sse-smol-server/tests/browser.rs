//! The page in a real Chromium.

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::time::Duration;

use browser::Browser;
use serde_json::json;
use support::Binary;

const ROWS: &str =
    "[...document.querySelectorAll('#events tr')].map(row => row.cells[3].innerText)";

#[test]
fn the_page_shows_ten_events_as_they_come() {
    let server = Binary::start(&[]);
    let mut page = Browser::open(&format!("http://{}/", server.address));
    // The first event is there while the last ones are not.
    page.wait_for(&format!("{ROWS}.length > 0"), Duration::from_secs(20));
    let early = page.evaluate(&format!("{ROWS}.length"));
    assert!(early.as_u64().unwrap() < 8, "{early} events at first sight");
    assert_eq!(page.evaluate("document.querySelector('#state').innerText"), json!("open"));

    page.wait_for(&format!("{ROWS}.length === 10"), Duration::from_secs(30));
    let expected: Vec<String> = (0..10).rev().map(|n| n.to_string()).collect();
    assert_eq!(page.evaluate(ROWS), json!(expected));
    let types = "[...new Set([...document.querySelectorAll('#events tr')].map(row => row.cells[2].innerText))]";
    assert_eq!(page.evaluate(types), json!(["counter"]));
    page.wait_for(
        "document.querySelector('#state').innerText === 'finished'",
        Duration::from_secs(5),
    );

    // And once more from the start.
    page.evaluate("document.querySelector('#again').click()");
    page.wait_for(&format!("{ROWS}.length === 1"), Duration::from_secs(10));
    drop(page);

    let (_, _, log) = server.stop("-TERM");
    assert!(log.contains("GET /counter 200: finished, 10 events"), "{log}");
    assert!(log.contains("GET /counter 200: closed by the peer"), "{log}");
}
