//! The chart of a stream.

use std::time::Instant;

use super::*;

/// The number of points of each line.
const POINTS: &str = "[...document.querySelectorAll('.line')].map(line => +line.dataset.points)";
const LEGEND: &str =
    "[...document.querySelectorAll('.series')].map(series => series.textContent.trim())";
const HIDDEN: &str = "document.querySelector('figure').hidden";

#[test]
fn a_line_grows_by_a_point_with_each_number() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/score?stream=true");
    page.wait_for(&format!("{POINTS}[0] >= 3"), TIMEOUT);
    assert_eq!(page.evaluate(HIDDEN), false);
    let before = page.evaluate(POINTS)[0].as_u64().unwrap();
    page.wait_for(&format!("{POINTS}[0] >= {}", before + 2), TIMEOUT);
    // In one expression, because events keep arriving.
    let counts = page.evaluate(&format!("[{POINTS}[0], {EVENTS}.length]"));
    assert_eq!(counts[0], counts[1]);
    let labels = "[...document.querySelectorAll('svg .time')].map(label => label.textContent)";
    page.wait_for(&format!("{labels}.length >= 2"), TIMEOUT);
    let labels = page.evaluate(labels);
    let is_time = |label: &Value| label.as_str().unwrap().split(':').count() == 3;
    assert!(labels.as_array().unwrap().iter().all(is_time), "{labels}");
    // Events that are not numbers have no chart.
    page.evaluate("location.hash = 'stream=/clock'");
    page.wait_for(&format!("{EVENTS}.some(([, type]) => type === 'time')"), TIMEOUT);
    assert_eq!(page.evaluate(HIDDEN), true);
}

#[test]
fn each_numeric_field_is_a_line_that_can_be_hidden() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/topics/news");
    page.wait_for_state("open");
    publish(
        server.address,
        "news",
        r#"{"cpu":12.5,"memory":40,"host":"a","id":12345678901234567890}"#,
    );
    page.wait_for_events(1);
    assert_eq!(page.evaluate(HIDDEN), true, "one point is no line");
    let mut count = 1;
    let start = Instant::now();
    while page.evaluate(HIDDEN) == true {
        assert!(start.elapsed() < TIMEOUT);
        publish(server.address, "news", r#"{"cpu":13,"memory":39}"#);
        count += 1;
        page.wait_for_events(count);
    }
    assert_eq!(page.evaluate(LEGEND), json!(["cpu 13", "memory 39"]));
    assert_eq!(page.evaluate(POINTS), json!([count, count]));
    // The legend has the values at the pointer, or else the newest.
    let move_pointer = |name: &str| {
        format!(
            "{{ const plot = document.querySelector('.card svg');
                const clientX = plot.getBoundingClientRect().left;
                plot.dispatchEvent(new PointerEvent('{name}', {{ clientX }})); }}"
        )
    };
    page.evaluate(&move_pointer("pointermove"));
    assert_eq!(page.evaluate(LEGEND), json!(["cpu 12.5", "memory 40"]));
    page.evaluate(&move_pointer("pointerleave"));
    assert_eq!(page.evaluate(LEGEND), json!(["cpu 13", "memory 39"]));
    page.click(".series");
    assert_eq!(page.evaluate(POINTS), json!([count]));
    page.click(".series");
    assert_eq!(page.evaluate(POINTS), json!([count, count]));
    page.click("[data-action=clear]");
    assert_eq!(page.evaluate(HIDDEN), true);
}

#[test]
fn reconnections_and_gaps_are_marked() {
    let server = Binary::start(&[]);
    let address = server.address;
    let mut page = open(&server, "#stream=/topics/news");
    page.wait_for_state("open");
    publish(address, "news", "1");
    page.wait_for_events(1);
    server.stop("-TERM");
    page.wait_for_state("reconnecting");
    let _server = Binary::start_on(&address.to_string(), &[]);
    page.wait_for_state("open");
    publish(address, "news", "2");
    publish(address, "news", "3");
    let marks =
        "[...document.querySelectorAll('svg .mark')].map(mark => mark.lastChild.textContent)";
    page.wait_for(&format!("{POINTS}[0] === 4 && {marks}.length === 2"), TIMEOUT);
    assert_eq!(page.evaluate(marks), json!(["reconnected", "gap"]));
    // The line is broken at the gap.
    let moves = "document.querySelector('.line').getAttribute('d').match(/M/g).length";
    assert_eq!(page.evaluate(moves), 2);
}
