//! The page of the example in two tabs of Chromium, with a script of the test's own in the place of
//! Datastar's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sse_smol_server::Config;

use crate::app::App;
use crate::browser::Browser;
use crate::support::{Running, serve};

/// The time after which the test gives up waiting for the page. Used up only by a failure.
const TIMEOUT: Duration = Duration::from_secs(20);

fn server() -> Running {
    let script = include_bytes!("script.js").to_vec();
    let app = Arc::new(App::new(Some(script)).unwrap());
    serve(Config::default(), move |request| {
        let app = Arc::clone(&app);
        async move { app.serve(request).await }
    })
}

impl Browser {
    fn wait_for_page(&mut self, count: u32, items: &[&str]) {
        let expected = json!([count.to_string(), items]).to_string();
        let found = "JSON.stringify([document.querySelector('#count').textContent,
            [...document.querySelectorAll('#list li')].map(item => item.textContent)])";
        self.wait_for(&format!("{found} === {}", json!(expected)), TIMEOUT);
        assert!(self.evaluate("document.body.dataset.error").is_null());
    }

    fn click_on(&mut self, id: &str) {
        self.evaluate(&format!("document.getElementById({}).click()", json!(id)));
    }

    fn add(&mut self, item: &str) {
        self.evaluate(&format!(
            "{{ const field = document.querySelector('#text');
                field.value = {};
                field.dispatchEvent(new Event('input', {{ bubbles: true }})); }}",
            json!(item)
        ));
        self.click_on("add");
        // The answer clears the field, and focuses it by a script that removes itself.
        let done = "document.querySelector('#text').value === ''
            && document.activeElement.id === 'text'
            && document.querySelectorAll('body > script').length === 0";
        self.wait_for(done, TIMEOUT);
    }
}

#[test]
fn two_tabs_share_a_counter_and_a_list() {
    let server = server();
    let url = format!("http://{}/", server.address);
    let mut browser = Browser::open(&url);
    browser.wait_for_page(0, &[]);
    browser.click_on("increment");
    browser.wait_for_page(1, &[]);
    let note = "document.querySelector('#note').textContent === 'You counted to 1.'";
    browser.wait_for(note, TIMEOUT);
    browser.add("first <b>& \"last\"");
    browser.wait_for_page(1, &["first <b>& \"last\""]);

    let second = browser.open_tab(&url);
    browser.wait_for_page(1, &["first <b>& \"last\""]);
    let third = browser.open_tab(&url);
    browser.add("second");
    browser.click_on("increment");
    for tab in [&second, &third] {
        browser.select(tab);
        browser.wait_for_page(2, &["first <b>& \"last\"", "second"]);
    }
}

#[test]
fn the_list_is_bounded() {
    let server = server();
    let url = format!("http://{}/", server.address);
    let mut browser = Browser::open(&url);
    browser.wait_for_page(0, &[]);
    let items: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    for item in &items {
        browser.add(item);
    }
    let newest: Vec<&str> = items[5..].iter().map(String::as_str).collect();
    browser.wait_for_page(0, &newest);
    browser.reload();
    browser.wait_for_page(0, &newest);
}
