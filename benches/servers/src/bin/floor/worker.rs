//! A thread with connections of its own. What is published to one is told to the others.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{SocketFlags, accept_with, sockopt};
use servers::message::Message;
use servers::net::{Poller, listen};

use crate::connection::{Connection, Request};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
const DONE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// About what one write can take at most: it is not to matter how often there is one.
const LARGE: usize = 256 << 10;

/// Beside the numbers of connections.
const LISTENER: usize = usize::MAX;
const MAIL: usize = usize::MAX - 1;

/// What other threads have had published, by topic, and what wakes the thread that is to send it.
#[derive(Debug)]
pub(crate) struct Mail {
    published: Mutex<Vec<(String, Arc<[u8]>)>>,
    wake: OwnedFd,
}

impl Mail {
    pub(crate) fn new() -> Self {
        let wake =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("a descriptor");
        Self { published: Mutex::default(), wake }
    }
}

pub(crate) struct Worker {
    poller: Poller,
    listener: OwnedFd,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    topics: HashMap<String, Vec<usize>>,
    mails: Arc<[Mail]>,
    own: usize,
    buffer: Vec<u8>,
    /// Whole events, many.
    events: Arc<[u8]>,
}

impl Worker {
    pub(crate) fn new(port: u16, own: usize, mails: Arc<[Mail]>) -> io::Result<Self> {
        let poller = Poller::new()?;
        let listener = listen(port)?;
        poller.watch(&listener, LISTENER)?;
        poller.watch(&mails[own].wake, MAIL)?;
        let event = framed(Message::sample().as_bytes());
        let events = event.repeat(LARGE / event.len()).into();
        let (connections, free, topics) = (Vec::new(), Vec::new(), HashMap::new());
        let buffer = vec![0; 64 << 10];
        Ok(Self { poller, listener, connections, free, topics, mails, own, buffer, events })
    }

    pub(crate) fn run(&mut self) {
        loop {
            self.poller.wait(Duration::from_secs(60)).expect("epoll");
            for at in 0..self.poller.count() {
                let ready = self.poller.ready(at);
                match ready.token {
                    LISTENER => self.accept(),
                    MAIL => self.open_mail(),
                    token => {
                        if ready.writable {
                            self.go_on(token);
                        }
                        if ready.readable {
                            self.receive(token);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) =
            accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            sockopt::set_tcp_nodelay(&socket, true).expect("TCP");
            let token = self.free.pop().unwrap_or(self.connections.len());
            self.poller.watch(&socket, token).expect("epoll");
            if token == self.connections.len() {
                self.connections.push(None);
            }
            self.connections[token] = Some(Connection::new(socket));
        }
    }

    fn receive(&mut self, token: usize) {
        let Some(connection) = &mut self.connections[token] else { return };
        if !connection.receive(&mut self.buffer) {
            self.connections[token] = None;
            self.free.push(token);
            for subscribers in self.topics.values_mut() {
                subscribers.retain(|other| *other != token);
            }
            return;
        }
        while let Some(request) = self.connections[token].as_mut().and_then(Connection::request) {
            self.answer(token, &request);
        }
    }

    fn answer(&mut self, token: usize, request: &Request) {
        let (path, topic) = request.target.split_once('?').unwrap_or((&request.target, ""));
        if request.publishes {
            let event: Arc<[u8]> = framed(&request.body).into();
            for (other, mail) in self.mails.iter().enumerate() {
                if other != self.own {
                    let letter = (topic.to_owned(), Arc::clone(&event));
                    mail.published.lock().expect("no panics").push(letter);
                    rustix::io::write(&mail.wake, &1_u64.to_ne_bytes()).expect("room");
                }
            }
            self.deliver(topic, &event);
            return self.send(token, DONE);
        }
        match path {
            "/events" => {
                self.topics.entry(topic.to_owned()).or_default().push(token);
                self.send(token, HEAD);
            }
            "/hello" => self.send(token, &[HEAD, &framed(b"hello")].concat()),
            path => {
                let many = path.strip_prefix("/blob/").map_or(usize::MAX, |many| {
                    let one = framed(&[0; servers::message::LEN]).len();
                    one * many.parse::<usize>().expect("a number")
                });
                self.send(token, HEAD);
                let events = Arc::clone(&self.events);
                if let Some(connection) = &mut self.connections[token] {
                    connection.repeat(events, many);
                }
                self.go_on(token);
            }
        }
    }

    fn open_mail(&mut self) {
        let mail = &self.mails[self.own];
        // Only its being there matters.
        let _ = rustix::io::read(&mail.wake, &mut [0_u8; 8]);
        let published = std::mem::take(&mut *mail.published.lock().expect("no panics"));
        for (topic, event) in published {
            self.deliver(&topic, &event);
        }
    }

    fn deliver(&mut self, topic: &str, event: &[u8]) {
        let subscribers = self.topics.remove(topic).unwrap_or_default();
        for token in &subscribers {
            self.send(*token, event);
        }
        if !subscribers.is_empty() {
            self.topics.insert(topic.to_owned(), subscribers);
        }
    }

    fn send(&mut self, token: usize, bytes: &[u8]) {
        let Some(connection) = &mut self.connections[token] else { return };
        if !connection.send(bytes) {
            self.poller.watch_room(&connection.socket, token, true).expect("epoll");
        }
    }

    fn go_on(&mut self, token: usize) {
        let Some(connection) = &mut self.connections[token] else { return };
        let more = !connection.go_on();
        self.poller.watch_room(&connection.socket, token, more).expect("epoll");
    }
}

/// An event with this data, as a chunk.
fn framed(data: &[u8]) -> Vec<u8> {
    let head = format!("{:x}\r\ndata: ", data.len() + 8);
    [head.as_bytes(), data, b"\n\n\r\n"].concat()
}
