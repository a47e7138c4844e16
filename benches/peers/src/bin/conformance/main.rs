//! Measures the conformance of decoders: the table of peers in `docs/performance.md`. `--quick` uses
//! fewer random streams.

#[path = "../../../../../sse-proto/tests/oracle/mod.rs"]
mod oracle;
mod outcome;
mod random;
mod targets;
mod vectors;

use allocation_counter::measure;
use bytes::Bytes;
use outcome::{Outcome, run};
use peers::DECODERS;
use peers::decode::{Decoder, Kind, Start, chunks};
use peers::measure::{Effort, Table};
use peers::ours::{Bytes as OursBytes, WithComments};
use shapes::{Chunking, Shape};

/// Properties from the documentation of each crate: its name, whether it is a client that
/// reconnects, and whether it encodes.
const CRATES: [(&str, &str, &str); 10] = [
    ("sse-proto", "yes, without I/O", "yes"),
    ("sse-core", "delays only", "no"),
    ("sse-stream", "no", "yes"),
    ("sseer", "yes", "no"),
    ("eventsource-stream", "no", "no"),
    ("reqwest-eventsource", "yes", "no"),
    ("eventsource-client", "yes", "no"),
    ("sse-codec", "no", "yes"),
    ("async-sse", "no", "yes"),
    ("russe", "yes", "yes"),
];

fn main() {
    let effort = Effort::from_args();
    let streams = match effort {
        Effort::Full => 5000,
        Effort::Quick => 500,
        Effort::Test => 100,
    };
    // Panics of decoders are counted, not printed.
    std::panic::set_hook(Box::new(|_| {}));
    let mut table = Table::new([
        "crate",
        "vectors",
        "random streams",
        "random bytes",
        "panics",
        "32 MiB line",
        "comments",
        "`no_std`",
        "allocations",
        "client",
        "encoder",
    ]);
    for (name, client, encoder) in CRATES {
        let Some(decoder) = decoder(name) else { continue };
        eprintln!("{name}");
        let vectors = vectors::score(&decoder);
        let text = random::score(&decoder, streams, false);
        let bytes = random::score(&decoder, streams, true);
        // These are slow and not checked, so tests skip them.
        let (large_line, no_std) = match effort {
            Effort::Test => ("", ""),
            _ => (large_line(&decoder), targets::no_std(name)),
        };
        table.line([
            name.to_owned(),
            vectors.cells(),
            text.percent(),
            bytes.percent(),
            (vectors.panics + text.panics + bytes.panics).to_string(),
            large_line.to_owned(),
            if shows_comments(&decoder) { "yes" } else { "no" }.to_owned(),
            no_std.to_owned(),
            allocations(&decoder),
            client.to_owned(),
            encoder.to_owned(),
        ]);
        if name == "sse-proto" {
            assert!(
                vectors.all() && text.all() && bytes.all(),
                "sse-proto conforms to the standard"
            );
        }
    }
    table.print();
}

fn decoder(name: &str) -> Option<Decoder> {
    #[cfg(feature = "heavy")]
    if name == "reqwest-eventsource" {
        return Some(Decoder::new::<peers::loopback::ReqwestEventsource>(Kind::Peer));
    }
    if name == "sse-proto" {
        // To the standard, text that is not UTF-8 is no error.
        return Some(Decoder::new::<OursBytes>(Kind::Ours));
    }
    let mut all = DECODERS.iter().filter(|decoder| decoder.kind != Kind::Floor);
    all.find(|decoder| decoder.name == name).copied()
}

/// The number of streams that a decoder interprets as the standard does.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    streams: usize,
    /// Streams with correct types and data of all events.
    events: usize,
    /// Streams with correct last event IDs and reconnection time as well.
    everything: usize,
    panics: usize,
}

impl Score {
    fn add(&mut self, expected: &Outcome, got: Option<&Outcome>) {
        self.streams += 1;
        let Some(got) = got else {
            self.panics += 1;
            return;
        };
        let same = expected.without_ids() == got.without_ids();
        self.events += usize::from(same);
        self.everything += usize::from(same && expected == got);
    }

    fn all(&self) -> bool {
        self.everything == self.streams
    }

    fn cells(&self) -> String {
        format!("{} ({}) of {}", self.events, self.everything, self.streams)
    }

    fn percent(&self) -> String {
        // Rounded down, so that only all streams are 100 %.
        let percent = |part: usize| (part * 1000 / self.streams) as f64 / 10.0;
        format!("{} % ({} %)", percent(self.events), percent(self.everything))
    }
}

/// Returns the effect of a 32 MiB line on a decoder with default limits, and on the event after it.
fn large_line(decoder: &Decoder) -> &'static str {
    let mut stream = b"data: ".to_vec();
    stream.resize(32 << 20, b'x');
    stream.extend(b"\n\ndata: after\n\n");
    let stream = Bytes::from(stream);
    let chunks: Vec<_> = (0..stream.len())
        .step_by(1 << 20)
        .map(|start| stream.slice(start..stream.len().min(start + (1 << 20))))
        .collect();
    let Some(outcome) = run(decoder, &chunks, Start::default()) else { return "panics" };
    let first = outcome.events.first().map_or(0, |event| event.data.len());
    match (first, outcome.events.len()) {
        (5, 1) if outcome.errors > 0 => "error, goes on",
        (5, 1) => "dropped, goes on",
        (0, 0) => "error, ends",
        (_, 2) => "buffered",
        _ => "other",
    }
}

fn shows_comments(decoder: &Decoder) -> bool {
    let chunks = [Bytes::from_static(b": hello\n\ndata: a\n\n")];
    // In sse-proto, comments are opt-in.
    let ours = Decoder::new::<WithComments>(Kind::Ours);
    let decoder = if decoder.kind == Kind::Ours { &ours } else { decoder };
    run(decoder, &chunks, Start::default()).is_some_and(|outcome| outcome.comments > 0)
}

/// Returns the allocations per event for `openai` in chunks of 1400 B.
fn allocations(decoder: &Decoder) -> String {
    if decoder.name == "reqwest-eventsource" {
        return "–".to_owned(); // would mostly be those of its HTTP client
    }
    let shape = Shape::all(256 << 10).swap_remove(0);
    let chunks = chunks(&shape, Chunking::Size(1400));
    let run = || {
        (decoder.count)(&chunks);
    };
    run();
    format!("{:.1}", measure(run).count_total as f64 / shape.events as f64)
}
