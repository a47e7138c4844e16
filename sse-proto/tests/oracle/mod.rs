//! The standard's algorithm (HTML Standard, 9.2.6), as literally as possible: over all bytes at
//! once, line by line. It is slow and simple, and shares no code with the decoder.
//!
//! The only addition is the limits, which the standard does not have.

#![allow(dead_code)] // each user of this module uses a part of it

use std::time::Duration;

use sse_proto::{DecodeBuffer, Decoder, EventTooLarge, Field, Limits};

/// The result of decoding a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) items: Vec<Item>,
    pub(crate) last_event_id: Vec<u8>,
    pub(crate) retry: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Event {
        event_type: Vec<u8>,
        data: Vec<u8>,
        last_event_id: Vec<u8>,
        /// The last event ID, if it was set since the previous event.
        id: Option<Vec<u8>>,
        /// The reconnection time, if it was set since the previous event.
        retry: Option<Duration>,
    },
    TooLarge {
        field: Field,
        limit: usize,
    },
}

/// Decodes a stream as the standard does, with limits.
pub(crate) fn interpret(stream: &[u8], initial_last_event_id: &[u8], limits: Limits) -> Outcome {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut all = Interpreter {
        limits,
        outcome: Outcome { last_event_id: initial_last_event_id.to_vec(), ..Outcome::default() },
        newly_set: (!initial_last_event_id.is_empty(), false),
        ..Interpreter::default()
    };
    let mut line = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        match stream[at] {
            b'\r' | b'\n' => {
                all.line(&line, true);
                line.clear();
                if stream[at..].starts_with(b"\r\n") {
                    at += 1;
                }
            }
            byte => line.push(byte),
        }
        at += 1;
    }
    all.line(&line, false);
    all.outcome
}

#[derive(Default)]
struct Interpreter {
    limits: Limits,
    outcome: Outcome,
    /// The three buffers of the standard; `data` keeps the LF after each line.
    data: Vec<u8>,
    event_type: Vec<u8>,
    id: Option<Vec<u8>>,
    too_large: bool,
    /// Whether the ID and the reconnection time were set since the last event.
    newly_set: (bool, bool),
}

impl Interpreter {
    /// Processes a line. `complete` is false for the bytes after the last line end: they have no
    /// effect, but can exceed a limit.
    fn line(&mut self, line: &[u8], complete: bool) {
        if line.is_empty() {
            if complete {
                self.dispatch();
            }
            return;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(0) => return,
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        if !complete && value.is_empty() {
            return;
        }
        match name {
            b"retry" => {
                let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                if complete && is_number {
                    let number = std::str::from_utf8(value).unwrap();
                    let milliseconds = number.parse().unwrap_or(u64::MAX);
                    self.outcome.retry = Some(Duration::from_millis(milliseconds));
                    self.newly_set.1 = true;
                }
            }
            _ if self.too_large => {}
            b"data" => {
                if self.data.len() + value.len() > self.limits.data {
                    self.drop_block(Field::Data, self.limits.data);
                } else if complete {
                    self.data.extend(value);
                    self.data.push(b'\n');
                }
            }
            b"event" => {
                if self.fields_len() + value.len() > self.limits.fields {
                    self.drop_block(Field::EventType, self.limits.fields);
                } else if complete {
                    self.event_type = value.to_vec();
                }
            }
            b"id" => {
                let nul = value.iter().position(|byte| *byte == 0);
                if self.fields_len() + nul.unwrap_or(value.len()) > self.limits.fields {
                    self.drop_block(Field::Id, self.limits.fields);
                } else if complete && nul.is_none() {
                    self.id = Some(value.to_vec());
                }
            }
            _ => {}
        }
    }

    fn fields_len(&self) -> usize {
        let id = self.id.as_ref().map_or(0, Vec::len);
        self.outcome.last_event_id.len() + id + self.event_type.len()
    }

    fn drop_block(&mut self, field: Field, limit: usize) {
        self.outcome.items.push(Item::TooLarge { field, limit });
        self.data.clear();
        self.event_type.clear();
        self.id = None;
        self.too_large = true;
    }

    fn dispatch(&mut self) {
        if self.too_large {
            self.too_large = false;
            return;
        }
        if let Some(id) = self.id.take() {
            self.outcome.last_event_id = id;
            self.newly_set.0 = true;
        }
        let event_type = std::mem::take(&mut self.event_type);
        let mut data = std::mem::take(&mut self.data);
        if data.pop().is_none() {
            return;
        }
        let (id_is_set, retry_is_set) = std::mem::take(&mut self.newly_set);
        let last_event_id = self.outcome.last_event_id.clone();
        self.outcome.items.push(Item::Event {
            event_type: if event_type.is_empty() { b"message".to_vec() } else { event_type },
            data,
            id: id_is_set.then(|| last_event_id.clone()),
            last_event_id,
            retry: self.outcome.retry.filter(|_| retry_is_set),
        });
    }
}

/// Decodes a stream in these chunks with the decoder.
pub(crate) fn decode<'c, B: DecodeBuffer>(
    decoder: &mut Decoder<B>,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> Outcome {
    let mut items = Vec::new();
    for mut chunk in chunks {
        feed(decoder, &mut chunk, &mut items);
        assert!(chunk.is_empty(), "`Ok(None)` means that the chunk is consumed");
    }
    Outcome { items, last_event_id: decoder.last_event_id().to_vec(), retry: decoder.retry() }
}

/// Decodes one chunk, and appends the results to `items`.
pub(crate) fn feed<B: DecodeBuffer>(
    decoder: &mut Decoder<B>,
    chunk: &mut &[u8],
    items: &mut Vec<Item>,
) {
    loop {
        items.push(match decoder.next_event(chunk) {
            Ok(None) => return,
            Ok(Some(event)) => Item::Event {
                event_type: event.event_type().to_vec(),
                data: event.data().to_vec(),
                last_event_id: event.last_event_id().to_vec(),
                id: event.id().map(|id| id.as_ref().to_vec()),
                retry: event.retry(),
            },
            Err(error) => too_large(error),
        });
    }
}

fn too_large(error: EventTooLarge) -> Item {
    Item::TooLarge { field: error.field(), limit: error.limit() }
}

/// Cuts the stream at each of `cuts`, taken modulo its length plus one. Equal cuts give empty
/// chunks.
pub(crate) fn cut<'s>(stream: &'s [u8], cuts: &[usize]) -> Vec<&'s [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.sort_unstable();
    ends.push(stream.len());
    let mut start = 0;
    ends.into_iter().map(|end| &stream[std::mem::replace(&mut start, end)..end]).collect()
}

/// Asserts that decoders with both kinds of buffers decode a stream in these chunks as the standard
/// does, with this initial last event ID and these limits.
pub(crate) fn check(chunks: &[&[u8]], initial_last_event_id: &[u8], limits: Limits) {
    let expected = interpret(&chunks.concat(), initial_last_event_id, limits);
    let mut growable = Decoder::with_limits(limits);
    growable.set_last_event_id(initial_last_event_id).expect("the initial ID fits");
    assert_eq!(
        decode(&mut growable, chunks.iter().copied()),
        expected,
        "growable buffers, {chunks:?}"
    );

    // A decoder that is cloned between two chunks continues as the original would.
    let mut cloned = Decoder::with_limits(limits);
    cloned.set_last_event_id(initial_last_event_id).expect("the initial ID fits");
    let mut items = Vec::new();
    for mut chunk in chunks.iter().copied() {
        cloned = cloned.clone();
        feed(&mut cloned, &mut chunk, &mut items);
    }
    assert_eq!(items, expected.items, "cloned, {chunks:?}");

    // The lengths of borrowed buffers are the limits. They are reduced, because 16 MiB for each
    // test case would be slow.
    let room = chunks.concat().len() + initial_last_event_id.len();
    let (mut fields, mut data) = (vec![0; limits.fields.min(room)], vec![0; limits.data.min(room)]);
    let limits = Limits::default().with_data(data.len()).with_fields(fields.len());
    let expected = interpret(&chunks.concat(), initial_last_event_id, limits);
    let mut borrowed = Decoder::with_buffers(&mut fields, &mut data);
    borrowed.set_last_event_id(initial_last_event_id).expect("the initial ID fits");
    assert_eq!(
        decode(&mut borrowed, chunks.iter().copied()),
        expected,
        "borrowed buffers, {chunks:?}"
    );
}
