//! Measures the speed of encoders. `--quick` runs fewer rounds, `--test` only checks the results.

use peers::ENCODERS;
use peers::encoders::Sample;
use peers::measure::{Effort, Table, medians};

fn main() {
    let effort = Effort::from_args();
    let samples = Sample::all();
    let mut times = Vec::new();
    for sample in &samples {
        for encoder in ENCODERS {
            let wire = (encoder.collect)(sample, 3);
            assert_eq!(wire, sample.wire.repeat(3), "{}, {}", encoder.name, sample.name);
        }
        if effort == Effort::Test {
            continue;
        }
        // About 100 µs for the fastest encoder, so that one-time costs do not matter.
        let events = 1000 * 1000 / (200 + sample.wire.len());
        let mut runs: Vec<Box<dyn FnMut()>> = Vec::new();
        for encoder in ENCODERS {
            runs.push(Box::new(move || (encoder.run)(std::hint::black_box(sample), events)));
        }
        let medians = medians(effort, &mut runs);
        times.push(
            medians.iter().map(|time| time.as_secs_f64() * 1e9 / events as f64).collect::<Vec<_>>(),
        );
    }
    if effort == Effort::Test {
        return;
    }
    println!("### Encoding, ns per event\n");
    let heads = ["encoder"].into_iter().chain(samples.iter().map(|sample| sample.name));
    let mut table = Table::new(heads);
    for (index, encoder) in ENCODERS.iter().enumerate() {
        let cells = times.iter().map(|column| format!("{:.1}", column[index]));
        table.line([encoder.name.to_owned()].into_iter().chain(cells));
    }
    table.print();
}
