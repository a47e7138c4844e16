//! The connections of the browser that streams hold.

use super::*;

const STATES: &str = "[...document.querySelectorAll('.state')].map(state => state.textContent)";

#[test]
fn streams_do_not_start_by_themselves_on_the_last_connection() {
    let server = Binary::start(&[]);
    let mut browser = open(&server, "#stream=/clock&stream=/score?stream=true&stream=/topics/a");
    browser.wait_for(&format!("{STATES}.join() === 'open,open,open'"), TIMEOUT);
    // Two more streams are open then, one in each of these tabs but the last.
    let path = "#stream=/topics/news";
    for _ in 0..2 {
        browser.open_tab(&url(&server, path));
        browser.wait_for_state("open");
    }
    let tab = browser.open_tab(&url(&server, &format!("{path}&stream=/clock")));
    browser.wait_for(&format!("{STATES}.join() === 'idle,idle'"), TIMEOUT);
    let note = format!("{NOTE}.includes('5 streams are open in the tabs of this browser')");
    browser.wait_for(&note, TIMEOUT);
    // One connection is left to publish, and to load pages.
    assert!(browser.publish("news", "", "hello").starts_with("Published as "));
    browser.open_tab("about:blank");
    browser.select(&tab);
    browser.reload();
    browser.wait_for(&note, TIMEOUT);

    // The user can start it anyway.
    browser.click("[data-action=toggle]");
    browser.wait_for(&format!("{STATES}.join() === 'open,idle'"), TIMEOUT);
    // A stream that is stopped is no longer counted.
    browser.click("[data-action=toggle]");
    browser.wait_for(&format!("{STATES}.join() === 'closed,idle'"), TIMEOUT);
}

#[test]
fn the_stream_of_live_reload_counts_once() {
    let server = Binary::start(&[]);
    let streams = "#stream=/topics/a&stream=/topics/b&stream=/topics/c&stream=/topics/d";
    let mut page = open(&server, streams);
    page.wait_for(&format!("{STATES}.join() === 'open,open,open,open'"), TIMEOUT);
    // As in `/__hotreload.js`: one page holds the lock, and the others wait for it.
    page.evaluate(
        "new Promise((held) => {
            const name = `${location.origin}/__hotreload`;
            const hold = () => { held(); return new Promise(() => {}); };
            for (let page = 0; page < 3; page += 1) navigator.locks.request(name, hold);
        })",
    );
    page.click("[data-path='/clock']");
    let note = "[...document.querySelectorAll('.note')].at(-1).textContent";
    page.wait_for(&format!("{note}.includes('Not started: 5 streams are open')"), TIMEOUT);
    page.click("[data-action=close]");
    page.click("[data-path='/clock']");
    page.wait_for(&format!("{STATES}.join() === 'open,open,open,open'"), TIMEOUT);
}
