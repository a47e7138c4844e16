//! The page of the binary in Chromium.

#[path = "../support/browser.rs"]
mod browser;
#[path = "../support/mod.rs"]
mod support;

mod cards;
mod chart;
mod connections;
mod decoder;
mod files;
mod forms;
mod layout;
mod links;
mod streams;

use std::net::SocketAddr;
use std::time::Duration;

use browser::Browser;
use serde_json::{Value, json};
use support::{Binary, read_response, send};

/// The time after which a test gives up waiting for the page. Used up only by a failure.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the events that all streams of the page show, newest first, as `[id, type, data]`.
const EVENTS: &str = "[...document.querySelectorAll('.events :is(.event, .gap):not([hidden])')]
    .map(row => ['.id', '.type', '.data'].map(part => row.querySelector(part))
        .map(part => part.title || part.textContent))";
const STATE: &str = "document.querySelector('.state').textContent";
const NOTE: &str = "document.querySelector('.note').textContent";
const ANSWER: &str = "document.querySelector('#answer').textContent";
const TOKEN: &str = "document.querySelector('#publish [name=token]').value";

/// Opens the page with a fragment, which is empty or begins with `#`.
fn open(server: &Binary, fragment: &str) -> Browser {
    Browser::open(&url(server, fragment))
}

fn url(server: &Binary, fragment: &str) -> String {
    format!("http://{}/{fragment}", server.address)
}

impl Browser {
    fn click(&mut self, selector: &str) {
        self.evaluate(&format!("document.querySelector({}).click()", json!(selector)));
    }

    /// Sets the value of a form field and fires its `change` event.
    fn fill(&mut self, form: &str, name: &str, value: &str) {
        let (selector, value) = (json!(format!("#{form} [name={name}]")), json!(value));
        self.evaluate(&format!(
            "{{ const field = document.querySelector({selector});
                field.value = {value};
                field.dispatchEvent(new Event('change', {{ bubbles: true }})); }}"
        ));
    }

    fn wait_for_state(&mut self, state: &str) {
        self.wait_for(&format!("{STATE} === {}", json!(state)), TIMEOUT);
    }

    fn wait_for_events(&mut self, count: usize) {
        self.wait_for(&format!("{EVENTS}.length === {count}"), TIMEOUT);
    }

    /// Closes all streams.
    fn close_all(&mut self) {
        self.evaluate(
            "document.querySelectorAll('[data-action=close]').forEach(button => button.click())",
        );
    }

    /// Closes all streams, subscribes to topics with the form, and waits until the stream is open.
    fn subscribe(&mut self, topics: &str) {
        self.close_all();
        self.fill("subscribe", "target", topics);
        self.click("#subscribe .primary");
        self.wait_for_state("open");
    }

    /// Returns the events that the page shows, oldest first, as `[id, type, data]`.
    fn events(&mut self) -> Vec<[String; 3]> {
        let mut events: Vec<_> = serde_json::from_value(self.evaluate(EVENTS)).unwrap();
        events.reverse();
        events
    }

    /// Publishes with the form of the page. Returns the result that the page shows.
    fn publish(&mut self, topic: &str, event_type: &str, data: &str) -> String {
        self.fill("publish", "topic", topic);
        self.fill("publish", "type", event_type);
        self.fill("publish", "data", data);
        self.submit()
    }

    /// Submits the form that publishes. Returns the result that the page shows.
    fn submit(&mut self) -> String {
        self.evaluate("document.querySelector('#answer').textContent = ''");
        self.click("#publish .primary");
        self.wait_for(&format!("{ANSWER} !== ''"), TIMEOUT);
        self.evaluate(ANSWER).as_str().unwrap().to_owned()
    }

    /// Clicks a button that copies to the clipboard. Returns the copied text.
    fn copied(&mut self, selector: &str) -> String {
        // The clipboard of a headless browser is available only with a permission.
        self.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }");
        self.click(selector);
        self.evaluate("window.copied").as_str().unwrap().to_owned()
    }
}

/// Publishes over HTTP and returns the event ID.
fn publish(address: SocketAddr, target: &str, data: &str) -> String {
    let length = data.len();
    let request = format!(
        "POST /topics/{target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{data}"
    );
    let (status, _, body) = read_response(&mut send(address, &request));
    assert_eq!(status, 201, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    body["id"].as_str().unwrap().to_owned()
}
