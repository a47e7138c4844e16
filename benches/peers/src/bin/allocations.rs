//! Counts the allocations of decoders and encoders. A program of its own, because counting slows
//! down allocation.

use allocation_counter::measure;
use peers::decode::{Kind, chunks};
use peers::encoders::Sample;
use peers::measure::{Effort, Table};
use peers::{DECODERS, ENCODERS};
use shapes::{Chunking, Shape};

fn main() {
    let effort = Effort::from_args();
    let shapes = Shape::all(if effort == Effort::Test { 64 << 10 } else { 1 << 20 });
    for chunking in [Chunking::Whole, Chunking::Size(1400)] {
        println!("### Allocations per event, decoding, {}\n", chunking.name());
        let heads = ["decoder"].into_iter().chain(shapes.iter().map(|shape| shape.name));
        let mut table = Table::new(heads);
        for decoder in DECODERS.iter().filter(|decoder| decoder.kind != Kind::Floor) {
            let cells = shapes.iter().map(|shape| {
                let chunks = chunks(shape, chunking);
                let run = || {
                    (decoder.count)(&chunks);
                };
                // A first run, for initialization that happens once in a program.
                run();
                per_event(measure(run).count_total, shape.events)
            });
            table.line([decoder.name.to_owned()].into_iter().chain(cells));
        }
        table.print();
    }
    println!("### Allocations per event, encoding\n");
    let samples = Sample::all();
    let heads = ["encoder"].into_iter().chain(samples.iter().map(|sample| sample.name));
    let mut table = Table::new(heads);
    for encoder in ENCODERS {
        let cells = samples.iter().map(|sample| {
            const EVENTS: usize = 1000;
            let run = || (encoder.run)(sample, EVENTS);
            run();
            per_event(measure(run).count_total, EVENTS)
        });
        table.line([encoder.name.to_owned()].into_iter().chain(cells));
    }
    table.print();
}

fn per_event(allocations: u64, events: usize) -> String {
    format!("{:.2}", allocations as f64 / events as f64)
}
