//! A worker thread with its own connections. It forwards publications to the other workers.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{SocketFlags, accept_with, sockopt};
use servers::message::{LEN, Message};
use servers::net::{Poller, listen};

use crate::connection::{Connection, Request};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
const DONE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// About the maximum that one write can take, in bytes, so that the cost per write does not matter.
const LARGE: usize = 256 << 10;

/// Tokens that differ from the indices of connections.
const LISTENER: usize = usize::MAX;
const MAILBOX: usize = usize::MAX - 1;

/// Messages from other workers by topic, and the eventfd that wakes the worker to send them.
#[derive(Debug)]
pub(crate) struct Mailbox {
    published: Mutex<Vec<(String, Arc<[u8]>)>>,
    wake: OwnedFd,
}

impl Mailbox {
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
    mailboxes: Arc<[Mailbox]>,
    own: usize,
    buffer: Vec<u8>,
}

impl Worker {
    pub(crate) fn new(port: u16, own: usize, mailboxes: Arc<[Mailbox]>) -> io::Result<Self> {
        let poller = Poller::new()?;
        let listener = listen(port)?;
        poller.watch(&listener, LISTENER)?;
        poller.watch(&mailboxes[own].wake, MAILBOX)?;
        let (connections, free, topics) = (Vec::new(), Vec::new(), HashMap::new());
        let buffer = vec![0; 64 << 10];
        Ok(Self { poller, listener, connections, free, topics, mailboxes, own, buffer })
    }

    pub(crate) fn run(&mut self) {
        loop {
            self.poller.wait(Duration::from_secs(60)).expect("epoll");
            for at in 0..self.poller.count() {
                let ready = self.poller.ready(at);
                match ready.token {
                    LISTENER => self.accept(),
                    MAILBOX => self.deliver_mailbox(),
                    token => {
                        if ready.writable {
                            self.resume(token);
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
            self.respond(token, &request);
        }
    }

    fn respond(&mut self, token: usize, request: &Request) {
        let (path, topic) = request.target.split_once('?').unwrap_or((&request.target, ""));
        if request.publishes {
            let event: Arc<[u8]> = framed(&request.body).into();
            for (other, mailbox) in self.mailboxes.iter().enumerate() {
                if other != self.own {
                    let message = (topic.to_owned(), Arc::clone(&event));
                    mailbox.published.lock().expect("no panics").push(message);
                    rustix::io::write(&mailbox.wake, &1_u64.to_ne_bytes()).expect("room");
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
                let blob = path.strip_prefix("/blob/").and_then(|blob| blob.split_once('/'));
                let number = |text: &str| text.parse::<usize>().expect("a number");
                let event =
                    framed(Message::sample(blob.map_or(LEN, |(_, len)| number(len))).as_bytes());
                let bytes = blob.map_or(usize::MAX, |(count, _)| number(count) * event.len());
                self.send(token, HEAD);
                if let Some(connection) = &mut self.connections[token] {
                    connection.repeat(event.repeat(LARGE / event.len()).into(), bytes);
                }
                self.resume(token);
            }
        }
    }

    fn deliver_mailbox(&mut self) {
        let mailbox = &self.mailboxes[self.own];
        // Resets the eventfd. The value does not matter.
        let _ = rustix::io::read(&mailbox.wake, &mut [0_u8; 8]);
        let published = std::mem::take(&mut *mailbox.published.lock().expect("no panics"));
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

    fn resume(&mut self, token: usize) {
        let Some(connection) = &mut self.connections[token] else { return };
        let more = !connection.resume();
        self.poller.watch_room(&connection.socket, token, more).expect("epoll");
    }
}

/// Encodes an event with this data as a chunk.
fn framed(data: &[u8]) -> Vec<u8> {
    let head = format!("{:x}\r\ndata: ", data.len() + 8);
    [head.as_bytes(), data, b"\n\n\r\n"].concat()
}
