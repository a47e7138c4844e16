//! The form that publishes, and the list of topics.

use std::fs;

use super::*;

#[test]
fn the_page_receives_what_it_publishes() {
    let token = concat!(env!("CARGO_TARGET_TMPDIR"), "/token-of-page-tests");
    fs::write(token, "open-sesame").unwrap();
    let server = Binary::start_guarded(&["--token-file", token]);
    let mut page = open(&server, "");
    page.subscribe("chat");
    let answer = page.publish("chat", "", "hello");
    assert!(answer.starts_with("401 ") && answer.contains("Enter the token above"), "{answer}");
    page.fill("publish", "token", "open-sesame");
    let answer = page.publish("no topic", "", "hello");
    assert!(answer.contains("names are 1 to 128"), "{answer}");

    // Types that an `EventSource` does not report without a listener, or confuses with its own
    // events, and text that needs escaping at every step.
    let data = "two lines,\n\u{201c}quoted\u{201d} \u{1f600} <b>&amp;";
    let published = [("greeting", "hello"), ("", data), ("error", "no error at all")];
    let mut expected = Vec::new();
    for (event_type, data) in published {
        let answer = page.publish("chat", event_type, data);
        let id = answer.strip_prefix("Published as ").unwrap_or_else(|| panic!("{answer}"));
        let event_type = if event_type.is_empty() { "message" } else { event_type };
        expected.push([id, event_type, data].map(str::to_owned));
    }
    page.wait_for_events(3);
    assert_eq!(page.events(), expected);
    assert_eq!(page.evaluate(STATE), "open");

    // The button subscribes to new events of the topic in the form.
    page.close_all();
    page.publish("other", "", "before");
    page.click("#follow");
    page.wait_for_state("open");
    page.publish("other", "", "after");
    page.wait_for(&format!("{EVENTS}.length === 1 && {EVENTS}[0][2] === 'after'"), TIMEOUT);
}

#[test]
fn the_form_sets_id_reconnection_time_and_key() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "");
    page.subscribe("chat");
    page.fill("publish", "id", "my-id");
    page.fill("publish", "retry", "1500");
    page.fill("publish", "key", "once");
    assert_eq!(page.publish("chat", "", "hello"), "Published as my-id");
    page.wait_for_events(1);
    assert_eq!(page.events(), [["my-id", "message", "hello"]]);
    let retry = page.evaluate("document.querySelector('.events .retry .data').textContent");
    assert_eq!(retry, "1500 ms");
    assert_eq!(page.submit(), "The key was used before; published as my-id");
    page.fill("publish", "key", "");
    let answer = page.submit();
    assert!(answer.starts_with("409 "), "{answer}");
}

#[test]
fn topics_are_listed_with_subscribers_and_rates() {
    let server = Binary::start(&[]);
    publish(server.address, "weather", "rain");
    let mut page = open(&server, "");
    page.subscribe("news");
    let rows = "[...document.querySelectorAll('#topics tbody tr')]
        .map(row => [...row.cells].map(cell => cell.textContent))";
    let cells = |name: &str, cells: &str| {
        format!("{rows}.some(([name, ...rest]) => name === '{name}' && rest.join() === '{cells}')")
    };
    page.wait_for(&cells("news", "1,0,0"), TIMEOUT);
    page.wait_for(&cells("weather", "0,1,0"), TIMEOUT);
    // The rate is that since the last request of the list, and 0 again after the next one.
    let rate = format!("{rows}.some(([name, , , rate]) => name === 'weather' && Number(rate) > 0)");
    page.evaluate(&format!(
        "window.observed = false; new MutationObserver(() => (window.observed ||= {rate}))
            .observe(document.querySelector('#topics tbody'), {{ childList: true }}); 1"
    ));
    for _ in 0..20 {
        publish(server.address, "weather", "rain");
    }
    page.wait_for("window.observed", TIMEOUT);
    page.wait_for(&cells("weather", "0,21,0"), TIMEOUT);

    // A click subscribes, from the earliest event that is held.
    page.close_all();
    page.click("[data-topic=weather]");
    page.wait_for_events(21);
    page.wait_for(&cells("weather", "1,21,0"), TIMEOUT);
}
