//! Generators of the streams.

use std::fmt::Write as _;

use crate::{Numbers, Shape};

const WORDS: [&str; 12] = [
    " the",
    " of",
    " decoding",
    " a",
    " stream",
    "ing",
    " and",
    ",",
    " events",
    " is",
    ".",
    " tokens",
];
const ACCENTS: [&str; 4] = [" naïveté", " “so”", " café", " –"];
const CJK: [&str; 8] =
    ["服务器", "发送", "事件", "是一种", "让网页", "持续", "接收数据", "的技术，"];

impl Shape {
    fn empty(name: &'static str, about: &'static str) -> Self {
        Self { name, about, stream: Vec::new(), blocks: Vec::new(), events: 0, data: 0 }
    }

    /// Appends a block, which includes its blank line.
    fn block(&mut self, wire: &str) {
        self.stream.extend(wire.as_bytes());
        self.blocks.push(self.stream.len());
    }

    /// Appends an event: the lines `before`, and one line of data.
    fn event(&mut self, before: &str, data: &str, line_end: &str) {
        self.block(&format!("{before}data: {data}{line_end}{line_end}"));
        self.events += 1;
        self.data += data.len();
    }

    /// Calls `add` with consecutive numbers until the stream has at least `size` bytes.
    fn filled(mut self, size: usize, mut add: impl FnMut(&mut Self, usize)) -> Self {
        let mut n = 0;
        while self.stream.len() < size {
            add(&mut self, n);
            n += 1;
        }
        self
    }
}

pub(crate) fn all(size: usize) -> Vec<Shape> {
    vec![
        openai(Shape::empty("openai", "completion chunks, one line of JSON each"), size, "\n"),
        anthropic(size),
        Shape::empty("tiny", "only `data: x`").filled(size, |shape, _| shape.event("", "x", "\n")),
        patches(size),
        Shape::empty("megabyte", "one line as long as the stream, such as a base64 image")
            .filled(1, |shape, _| shape.event("", &base64(size), "\n")),
        keepalive(size),
        openai(Shape::empty("crlf", "`openai` with CRLF"), size, "\r\n"),
        cjk(size),
        ticks(size),
    ]
}

/// Events of about 280 bytes, one in twenty with text beyond ASCII.
fn openai(shape: Shape, size: usize, line_end: &str) -> Shape {
    let mut numbers = Numbers::new(1);
    shape.filled(size, |shape, n| {
        let word = if n % 20 == 0 { ACCENTS[numbers.below(4)] } else { WORDS[numbers.below(12)] };
        let data = format!(
            r#"{{"id":"chatcmpl-8f3aB1cD2eF3gH4iJ5kL6mN7oP8qR","object":"chat.completion.chunk","created":1767225600,"model":"a-model-2026-01-01","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{{"index":0,"delta":{{"content":"{word}"}},"logprobs":null,"finish_reason":null}}]}}"#
        );
        shape.event("", &data, line_end);
    })
}

/// Events of about 150 bytes, with a type and data that repeats it.
fn anthropic(size: usize) -> Shape {
    let mut numbers = Numbers::new(2);
    let shape = Shape::empty("anthropic", "a type, and data that repeats it");
    shape.filled(size, |shape, n| {
        let mut text = String::new();
        for _ in 0..6 + n % 4 {
            text += WORDS[numbers.below(12)];
        }
        let data = format!(
            r#"{{"type":"content_block_delta","index":{},"delta":{{"type":"text_delta","text":"{text}"}}}}"#,
            n / 400
        );
        shape.event("event: content_block_delta\n", &data, "\n");
    })
}

/// Events of 16 to 64 KiB in lines of 80 bytes, such as HTML patches from a server.
fn patches(size: usize) -> Shape {
    let mut numbers = Numbers::new(3);
    let shape = Shape::empty("patches", "HTML in lines of 80 bytes, 16 to 64 KiB per event");
    shape.filled(size, |shape, _| {
        let lines = 210 + numbers.below(590);
        let mut wire = String::from("event: patch-elements\n");
        for line in 0..lines {
            let indent = 2 * numbers.below(8);
            let mut text = format!(
                "data: {:indent$}<li class=\"row\" id=\"row-{line}\"><a href=\"/row/{line}\">",
                ""
            );
            while text.len() < 70 {
                text += WORDS[numbers.below(12)].trim_start();
            }
            text.truncate(70);
            writeln!(wire, "{text}</a></li>").expect("memory");
            shape.data += text.len() - "data: ".len() + "</a></li>".len() + 1;
        }
        wire.push('\n');
        shape.data -= 1; // no LF after the last line
        shape.events += 1;
        shape.block(&wire);
    })
}

/// Returns random base64 digits.
fn base64(len: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut numbers = Numbers::new(4);
    (0..len).map(|_| char::from(DIGITS[numbers.below(64)])).collect()
}

/// A mostly idle stream: 63 comments before each event.
fn keepalive(size: usize) -> Shape {
    let shape = Shape::empty("keepalive", "63 comments for each small event");
    shape.filled(size, |shape, n| {
        for _ in 0..63 {
            shape.block(": ping\n\n");
        }
        shape.event("", &format!(r#"{{"seq":{n}}}"#), "\n");
    })
}

/// Data that is mostly text of three bytes per character.
fn cjk(size: usize) -> Shape {
    let mut numbers = Numbers::new(5);
    let shape = Shape::empty("cjk", "Chinese text, about 300 bytes per event");
    shape.filled(size, |shape, _| {
        let mut text = String::new();
        while text.len() < 240 {
            text += CJK[numbers.below(8)];
        }
        shape.event("", &format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#), "\n");
    })
}

/// A price feed: events with an ID, a type and little data.
fn ticks(size: usize) -> Shape {
    let mut numbers = Numbers::new(6);
    let shape = Shape::empty("ticks", "an ID, a type and little data");
    shape.filled(size, |shape, n| {
        let (units, cents) = (90 + numbers.below(20), numbers.below(100));
        let data = format!(r#"{{"symbol":"ACME","price":{units}.{cents:02}}}"#);
        shape.event(&format!("id: {}\nevent: tick\n", 1_000_000 + n), &data, "\n");
    })
}
