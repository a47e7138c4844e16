//! Measures the speed of decoders. `--quick` runs fewer rounds, `--test` only checks the results.

use std::collections::BTreeMap;

use peers::decode::{Decode, Kind, Seen, chunks};
use peers::measure::{Effort, Table, medians};
use peers::{DECODERS, floors, ours};
use shapes::{CHUNKINGS, Chunking, Shape};

/// The speed of one row on one shape in MB/s, and whether its result is correct.
#[derive(Clone, Copy)]
struct Cell {
    speed: f64,
    right: bool,
}

fn main() {
    let effort = Effort::from_args();
    let shapes = Shape::all(if effort == Effort::Test { 64 << 10 } else { 1 << 20 });
    let mut cells: BTreeMap<(usize, usize), Vec<Cell>> = BTreeMap::new();
    for (row, chunking) in CHUNKINGS.into_iter().enumerate() {
        for (column, shape) in shapes.iter().enumerate() {
            cells.insert((row, column), measure(shape, chunking, effort));
        }
    }
    if effort == Effort::Test {
        return;
    }

    let mut table = Table::new(["shape", "events", "bytes", "what it is"]);
    for shape in &shapes {
        let (events, bytes) = (shape.events.to_string(), shape.stream.len().to_string());
        table.line([shape.name, &events, &bytes, shape.about]);
    }
    println!("### Shapes\n");
    table.print();

    let all = &[Kind::Peer, Kind::StreamPeer][..];
    println!("### Speed relative to the fastest peer\n\nData as `str`, which all peers return:\n");
    ratios(&shapes, &cells, |cells| to_fastest::<ours::Loop>(cells, all));
    println!("Data as bytes, for callers that check or parse it themselves:\n");
    ratios(&shapes, &cells, |cells| to_fastest::<ours::Bytes>(cells, all));
    println!("`EventCodec`, data as `str`:\n");
    ratios(&shapes, &cells, |cells| to_fastest::<ours::Codec>(cells, all));
    println!("`Client`, data as `str`:\n");
    ratios(&shapes, &cells, |cells| to_fastest::<ours::OpenClient>(cells, all));
    println!(
        "### Speed of `Events` relative to the fastest peer that is a `Stream`, data as `str`\n"
    );
    ratios(&shapes, &cells, |cells| to_fastest::<ours::Stream>(cells, &[Kind::StreamPeer]));
    println!("### Speed relative to finding the line ends, data as bytes\n");
    ratios(&shapes, &cells, |cells| {
        let ratio = speed::<ours::Bytes>(cells) / speed::<floors::Memchr2>(cells);
        Some(format!("{ratio:.2}"))
    });
    println!("### Speed relative to checking that the chunks are UTF-8, data as `str`\n");
    ratios(&shapes, &cells, |cells| {
        let ratio = speed::<ours::Loop>(cells) / speed::<floors::Simdutf8>(cells);
        Some(format!("{ratio:.2}"))
    });

    for (row, chunking) in CHUNKINGS.into_iter().enumerate() {
        println!("### MB/s, {}\n", chunking.name());
        let mut table = Table::new(["decoder"].into_iter().chain(shapes.iter().map(|s| s.name)));
        for (index, decoder) in DECODERS.iter().enumerate() {
            let speeds = (0..shapes.len()).map(|column| {
                let Cell { speed, right } = cells[&(row, column)][index];
                let digits = usize::from(speed < 10.0);
                format!("{speed:.digits$}{}", if right { "" } else { " (wrong)" })
            });
            table.line([decoder.name.to_owned()].into_iter().chain(speeds));
        }
        table.print();
    }
}

fn measure(shape: &Shape, chunking: Chunking, effort: Effort) -> Vec<Cell> {
    let chunks = chunks(shape, chunking);
    let expected = Seen { events: shape.events, data: shape.data };
    let right: Vec<bool> = DECODERS
        .iter()
        .map(|row| row.kind == Kind::Floor || (row.count)(&chunks) == expected)
        .collect();
    for (row, right) in DECODERS.iter().zip(&right) {
        let how = format!("{} of {}, {}", row.name, shape.name, chunking.name());
        // A wrong peer is marked in the tables; sse-proto must be correct.
        assert!(*right || row.kind != Kind::Ours, "{how}: wrong");
        if !right {
            eprintln!("{how}: wrong");
        }
    }
    if effort == Effort::Test {
        return Vec::new();
    }
    eprintln!("{}, {}", shape.name, chunking.name());
    let mut runs: Vec<Box<dyn FnMut()>> = Vec::new();
    for row in DECODERS {
        let chunks = &chunks;
        runs.push(Box::new(move || {
            std::hint::black_box((row.count)(std::hint::black_box(chunks)));
        }));
    }
    let times = medians(effort, &mut runs);
    let speed = |time: std::time::Duration| shape.stream.len() as f64 / time.as_secs_f64() / 1e6;
    times.into_iter().zip(right).map(|(time, right)| Cell { speed: speed(time), right }).collect()
}

/// Returns the speed of one row in MB/s.
fn speed<D: Decode>(cells: &[Cell]) -> f64 {
    let index = DECODERS.iter().position(|row| row.name == D::NAME).expect("the decoder has a row");
    cells[index].speed
}

/// Returns the speed of one row relative to the fastest peer of these kinds with correct results.
fn to_fastest<D: Decode>(cells: &[Cell], kinds: &[Kind]) -> Option<String> {
    let peers = DECODERS.iter().zip(cells);
    let peers = peers.filter(|(row, cell)| kinds.contains(&row.kind) && cell.right);
    let speeds = peers.map(|(row, cell)| (row.name, cell.speed));
    let (peer, fastest) = speeds.max_by(|left, right| left.1.total_cmp(&right.1))?;
    Some(format!("{:.2} ({peer})", speed::<D>(cells) / fastest))
}

/// Prints a table of shapes by chunkings.
fn ratios(
    shapes: &[Shape],
    cells: &BTreeMap<(usize, usize), Vec<Cell>>,
    cell: impl Fn(&[Cell]) -> Option<String>,
) {
    let heads = ["shape".to_owned()].into_iter().chain(CHUNKINGS.map(Chunking::name));
    let mut table = Table::new(heads);
    for (column, shape) in shapes.iter().enumerate() {
        let line = (0..CHUNKINGS.len())
            .map(|row| cell(&cells[&(row, column)]).unwrap_or_else(|| "–".into()));
        table.line([shape.name.to_owned()].into_iter().chain(line));
    }
    table.print();
}
