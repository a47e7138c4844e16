//! A server whose responses are given.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

/// Answers one connection after another.
pub(crate) struct Server {
    pub(crate) url: String,
    ids: Arc<Mutex<Vec<Option<String>>>>,
}

/// An event stream with this body, which ends with the connection.
pub(crate) fn event_stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}")
}

/// The end of all streams.
pub(crate) fn no_content() -> String {
    "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned()
}

/// The response of a server that is overloaded.
pub(crate) fn unavailable() -> String {
    "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned()
}

impl Server {
    /// Starts a server that gives these responses.
    pub(crate) fn start(responses: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let ids = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&ids);
        thread::spawn(move || {
            for response in responses {
                let (mut peer, _) = listener.accept().unwrap();
                let lines = BufReader::new(&peer).lines().map(Result::unwrap);
                let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let id = head.iter().find_map(|line| line.strip_prefix("last-event-id:"));
                requests.lock().unwrap().push(id.map(|id| id.trim().to_owned()));
                peer.write_all(response.as_bytes()).unwrap();
            }
        });
        Self { url, ids }
    }

    /// Returns the last event IDs of the requests so far.
    pub(crate) fn last_event_ids(&self) -> Vec<Option<String>> {
        self.ids.lock().unwrap().clone()
    }
}
