//! Event streams without an operating system and without an allocator.
//!
//! On a device, the chunks would come from a modem or a network stack. Here they are constants, so
//! that the same code also runs on the development machine:
//!
//! ```text
//! cargo run -p sse-proto --example no_std
//! rustup target add thumbv7em-none-eabi
//! RUSTFLAGS="-L sse-proto/examples/no_std -C link-arg=-Tlink.x" cargo build --release \
//!     -p sse-proto --example no_std --no-default-features --target thumbv7em-none-eabi
//! ```

#![cfg_attr(target_os = "none", no_std, no_main)]

use sse_proto::{Decoder, Event, EventTooLarge, EventType};

/// The decoder's memory for IDs and event types, in bytes.
const FIELDS: usize = 48;
/// The decoder's memory for data that spans chunks or has several lines, in bytes.
const DATA: usize = 128;

const CHUNKS: [&[u8]; 4] = [
    b"retry: 30000\n\nevent: set-point\nid: 17\nda",
    b"ta: 21\n\n: keep-alive\n\nevent: other\ndata: 99\n\neve",
    b"nt: set-point\nid: 18\ndata: 19\r",
    b"\n\r\n",
];

/// A thermostat whose set point comes from an event stream.
#[derive(Debug, Default, PartialEq)]
struct Thermostat {
    set_point: Option<u8>,
    events: usize,
    /// The report to send, encoded into memory of its own.
    report: [u8; 32],
    report_len: usize,
}

impl Thermostat {
    fn run(&mut self, chunks: &[&[u8]]) -> Result<(), EventTooLarge> {
        let (mut fields, mut data) = ([0; FIELDS], [0; DATA]);
        let mut decoder = Decoder::with_buffers(&mut fields, &mut data);
        for mut chunk in chunks.iter().copied() {
            while let Some(event) = decoder.next_event(&mut chunk)? {
                self.events += 1;
                if event.event_type() == "set-point" {
                    self.set_point = event.data().to_str().ok().and_then(|text| text.parse().ok());
                    self.report(&event);
                }
            }
        }
        Ok(())
    }

    fn report(&mut self, event: &Event<'_>) {
        const APPLIED: EventType<'static> = EventType::from_static("applied");
        let report = Event::new(event.last_event_id().as_bytes()).with_type(APPLIED);
        // A report that does not fit is not sent.
        self.report_len = report.encode_to_slice(&mut self.report).unwrap_or(0);
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    let mut thermostat = Thermostat::default();
    thermostat.run(&CHUNKS).expect("the events fit into the buffers");
    assert_eq!((thermostat.set_point, thermostat.events), (Some(19), 3));
    let report = &thermostat.report[..thermostat.report_len];
    assert_eq!(report, b"event: applied\ndata: 18\n\n");
    println!("set point {:?} after {} events", thermostat.set_point, thermostat.events);
}

#[cfg(target_os = "none")]
use panic_halt as _;

#[cfg(target_os = "none")]
#[cortex_m_rt::entry]
fn main() -> ! {
    let mut thermostat = Thermostat::default();
    // `black_box` keeps the compiler from evaluating all of this at compile time.
    let outcome = thermostat.run(core::hint::black_box(&CHUNKS));
    let _ = core::hint::black_box((outcome, thermostat));
    loop {}
}
