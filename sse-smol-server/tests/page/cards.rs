//! What can be done with a stream on the page.

use std::process::Command;

use super::*;

#[test]
fn several_streams_are_side_by_side() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "");
    // The topic of the printed commands, and a demo.
    let names = "[...document.querySelectorAll('.card h2')].map(name => name.textContent)";
    assert_eq!(page.evaluate(names), json!(["news", "/score?stream=true"]));
    page.click("[data-path='/clock']");
    let open = "[...document.querySelectorAll('.state')].map(state => state.textContent)";
    page.wait_for(&format!("{open}.join() === 'open,open,open'"), TIMEOUT);
    publish(server.address, "news", "hello");
    let all = "[...document.querySelectorAll('.card')].map(card =>
        card.querySelector('.event .data')?.textContent ?? '')";
    page.wait_for(&format!("{all}.every(data => data !== '') && {all}[0] === 'hello'"), TIMEOUT);
    page.resize(1280, 900);
    let tops = "new Set([...document.querySelectorAll('.card')].slice(0, 2)
        .map(card => card.getBoundingClientRect().top)).size";
    assert_eq!(page.evaluate(tops), 1);
    page.close_all();
    assert_eq!(page.evaluate(names), json!([]));
    assert_eq!(page.evaluate("document.querySelector('#empty').hidden"), false);
    drop(page);
    let (_, _, log) = server.stop("-TERM");
    assert_eq!(log.matches("GET /clock 200: ").count(), 1, "{log}");
}

#[test]
fn a_paused_stream_shows_what_it_has_received_when_it_is_resumed() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/topics/news");
    page.wait_for_state("open");
    publish(server.address, "news", "one");
    page.wait_for_events(1);
    page.click("[data-action=pause]");
    publish(server.address, "news", "two");
    let pause = "document.querySelector('[data-action=pause]').textContent";
    page.wait_for(&format!("{pause} === 'Resume (1)'"), TIMEOUT);
    assert_eq!(page.events().len(), 1);
    assert!(page.evaluate(NOTE).as_str().unwrap().starts_with("2 events"));
    page.click("[data-action=pause]");
    page.wait_for_events(2);

    page.click("[data-action=clear]");
    assert_eq!(page.evaluate("document.querySelector('.events').children.length"), 0);
    assert!(page.evaluate(NOTE).as_str().unwrap().starts_with("0 events"));
    publish(server.address, "news", "three");
    page.wait_for_events(1);
}

#[test]
fn events_are_filtered_by_type() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/topics/news");
    page.wait_for_state("open");
    for event_type in ["a", "b", "a", "c"] {
        publish(server.address, &format!("news?type={event_type}"), event_type);
    }
    page.wait_for_events(4);
    let labels = "[...document.querySelectorAll('.types button')].map(type => type.textContent)";
    assert_eq!(page.evaluate(labels), json!(["id only 1", "a 2", "b 1", "c 1"]));
    let shown =
        |page: &mut Browser| page.events().into_iter().map(|[.., data]| data).collect::<String>();
    page.click(".types [data-type=a]");
    assert_eq!(shown(&mut page), "aa");
    page.click(".types [data-type=c]");
    assert_eq!(shown(&mut page), "aac");
    publish(server.address, "news?type=b", "b");
    publish(server.address, "news?type=c", "c");
    page.wait_for_events(4);
    assert_eq!(shown(&mut page), "aacc");
    page.click(".types [data-type=a]");
    page.click(".types [data-type=c]");
    assert_eq!(shown(&mut page), "abacbc");
}

#[test]
fn json_is_shown_on_several_lines_with_all_digits() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/topics/news");
    page.wait_for_state("open");
    let json = r#"{"id":12345678901234567890,"a":[1,{"b":"x, \"y\": {"}],"a":[],"n":{}}"#;
    publish(server.address, "news", json);
    publish(server.address, "news", "{no json");
    page.wait_for_events(2);
    page.click("[data-action=pretty]");
    let pretty = [
        "{",
        r#"  "id": 12345678901234567890,"#,
        r#"  "a": ["#,
        "    1,",
        "    {",
        r#"      "b": "x, \"y\": {""#,
        "    }",
        "  ],",
        r#"  "a": [],"#,
        r#"  "n": {}"#,
        "}",
    ];
    let data =
        |page: &mut Browser| page.events().into_iter().map(|[.., data]| data).collect::<Vec<_>>();
    assert_eq!(data(&mut page), [&*pretty.join("\n"), "{no json"]);
    page.click(".json");
    assert_eq!(data(&mut page), [json, "{no json"], "a click shows one event as it was sent");
}

#[test]
fn long_ids_are_shortened_until_they_are_pressed() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/topics/news");
    page.wait_for_state("open");
    let id = publish(server.address, "news", "hello");
    publish(server.address, "news?id=short", "hello");
    page.wait_for_events(2);
    let ids = "[...document.querySelectorAll('.event .id')].map(id => id.textContent)";
    let short = format!("{}…{}", &id[..4], &id[id.len() - 6..]);
    assert_eq!(page.evaluate(ids), json!(["short", short]));
    assert_eq!(page.evaluate("document.querySelector('.event button.id').title"), json!(id));
    page.click(".event button.id");
    assert_eq!(page.evaluate(ids), json!(["short", id]));
    page.click(".event button.id");
    assert_eq!(page.evaluate(ids), json!(["short", short]));
}

#[test]
fn copied_commands_work_in_a_shell() {
    let server = Binary::start_guarded(&[]);
    let mut page = open(&server, "#stream=/topics/news&after=it's+x");
    let command = page.copied("[data-action=curl]");
    let url = format!("http://{}/topics/news", server.address);
    assert_eq!(command, format!(r"curl -N -H 'Last-Event-ID: it'\''s x' '{url}'"));

    let token = server.token().to_owned();
    page.fill("publish", "token", &token);
    let data = "it's \"quoted\" $HOME\n\\ line";
    page.fill("publish", "data", data);
    page.fill("publish", "type", "greeting");
    let command = page.copied("#publish-curl");
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    page.fill("subscribe", "start", "earliest");
    page.subscribe("news");
    page.wait_for_events(1);
    assert_eq!(page.events()[0][1..], ["greeting", data]);
}
