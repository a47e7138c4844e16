//! Links to the page, and the token in them.

use super::*;

#[test]
fn the_printed_link_lets_the_page_publish_and_removes_the_token_from_the_url() {
    let dir = std::env::temp_dir();
    for flags in [&[][..], &["--serve", dir.to_str().unwrap()]] {
        let server = Binary::start_guarded(flags);
        let link = server.start_up_text.lines().find_map(|line| line.strip_prefix("The page:"));
        let mut page = Browser::open(link.unwrap().trim());
        let href = page.evaluate("location.href");
        assert!(!href.as_str().unwrap().contains(['#', '=']), "{href}");
        let clock =
            "[...document.querySelectorAll('.type')].some(type => type.textContent === 'time')";
        page.click("[data-path$='/clock']");
        page.wait_for(clock, TIMEOUT);
        assert!(page.publish("chat", "", "hello").starts_with("Published as "));
        // The token is kept in the session storage of the tab, and nowhere else.
        page.reload();
        page.wait_for(&format!("{TOKEN} !== ''"), TIMEOUT);
        assert!(page.publish("chat", "", "hello").starts_with("Published as "));
        assert_eq!(page.evaluate("localStorage.length + document.cookie.length"), 0);

        // A link followed in the open page also sets the token, and keeps the streams.
        page.evaluate("location.hash = 'token=other'");
        page.wait_for(&format!("{TOKEN} === 'other' && location.hash === ''"), TIMEOUT);
        page.wait_for(clock, TIMEOUT);
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
fn the_url_names_the_streams_and_their_types() {
    let server = Binary::start(&[]);
    publish(server.address, "news?type=a", "one");
    publish(server.address, "news?type=b%26c", "two");
    let mut page = open(&server, "");
    page.fill("subscribe", "start", "earliest");
    page.subscribe("news");
    page.wait_for_events(2);
    page.click("[data-type='b&c']");
    page.click("[data-path='/score?stream=true']");
    let hash = page.evaluate("location.hash");
    let expected = "#stream=/topics/news&after=earliest&type=b%26c&stream=/score%3Fstream%3Dtrue";
    assert_eq!(hash, expected);

    // Also with a token, which is removed.
    let mut page = open(&server, &format!("{expected}&token=secret"));
    let names = "[...document.querySelectorAll('.card h2')].map(name => name.textContent)";
    page.wait_for(&format!("{names}.length === 2"), TIMEOUT);
    assert_eq!(page.evaluate(names), json!(["news", "/score?stream=true"]));
    assert_eq!(page.evaluate("location.hash"), expected);
    assert_eq!(page.evaluate(TOKEN), "secret");
    let first =
        "[...document.querySelectorAll('.card')][0].querySelectorAll('.event:not([hidden])')";
    page.wait_for(&format!("{first}.length === 1"), TIMEOUT);
    assert_eq!(page.evaluate(&format!("{first}[0].querySelector('.data').textContent")), "two");

    // A link followed in the open page replaces the streams.
    page.evaluate("location.hash = 'stream=/topics?topic=a%26topic=b'");
    page.wait_for(&format!("{names}.join('; ') === 'a, b'"), TIMEOUT);
}

#[test]
fn links_to_other_servers_open_no_stream() {
    let server = Binary::start(&[]);
    for path in ["//example.org/", "https://example.org/", "/\\example.org/", "counter"] {
        let mut page = open(&server, &format!("#stream={path}&stream=/clock"));
        page.wait_for_state("open");
        let names = "[...document.querySelectorAll('.card h2')].map(name => name.textContent)";
        assert_eq!(page.evaluate(names), json!(["/clock"]), "{path}");
    }
}

#[test]
fn scripts_in_the_document_do_not_run() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/topics/news");
    page.wait_for_state("open");
    publish(server.address, "news", "<img src=x onerror='window.ran = true'>");
    page.wait_for_events(1);
    assert_eq!(page.evaluate("document.querySelectorAll('.events img').length"), 0);
    page.evaluate(
        "{ const script = document.createElement('script');
           script.textContent = 'window.ran = true';
           document.body.append(script); }",
    );
    assert_eq!(page.evaluate("window.ran ?? false"), false);
}
