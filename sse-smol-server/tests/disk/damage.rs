//! Damaged files: cut, zeroed, flipped and swapped at random places.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use fastrand::Rng;
use smol::future::block_on;
use sse_smol_server::storage::disk::{DiskConfig, DiskStorage};
use sse_smol_server::storage::{PageLimit, Storage as _, StorageError, StorageErrorKind};
use sse_smol_server::{Publication, Start};

use crate::Run;
use crate::dir::Dir;

/// The size of a page of the file in bytes.
const PAGE: usize = 4096;

const TOPICS: [&str; 2] = ["a", "b"];

/// A file, and what was published to it.
struct Original {
    bytes: Vec<u8>,
    is_closed: bool,
    epoch: String,
    /// The topics and fields of all events that were published: position 1 is first.
    events: Vec<(&'static str, String)>,
    ids: Vec<String>,
    /// The positions that the file holds.
    held: BTreeSet<u64>,
}

fn config(directory: &Path, recover: bool) -> DiskConfig {
    let mut config = DiskConfig::new(directory);
    config.history.events = 150;
    config.recover = recover;
    config
}

/// Returns the positions of all events of a storage. Panics if it has an event that was never
/// published, or events out of order.
fn read(storage: &DiskStorage, original: &Original) -> Result<BTreeSet<u64>, StorageError> {
    let mut positions = BTreeSet::new();
    for topic in TOPICS {
        let mut after = 0;
        loop {
            let limit = PageLimit { events: 100, bytes: 1 << 20 };
            let page = block_on(storage.read(topic, after, limit))?;
            for event in page.events {
                assert!(event.position > after, "in order");
                after = event.position;
                let (of, fields) = &original.events[usize::try_from(after).unwrap() - 1];
                assert_eq!((topic, &event.fields[..]), (*of, fields.as_bytes()));
                positions.insert(after);
            }
            if page.is_last {
                break;
            }
        }
    }
    Ok(positions)
}

/// Returns a file after its process has closed it, or as a kill leaves it.
fn original(is_closed: bool) -> Original {
    let directory = Dir::new();
    let run = Run::with(config(&directory.0, false)).unwrap();
    let mut rng = Rng::with_seed(1);
    let (mut events, mut ids) = (Vec::new(), Vec::new());
    for n in 0..400 {
        let (topic, data) = (TOPICS[n % 2], format!("{n} {}", "x".repeat(rng.usize(..1500))));
        ids.push(run.publish(topic, &data));
        events.push((topic, format!("data: {data}\n\n")));
    }
    let path = directory.0.join("events.redb");
    let killed = (!is_closed).then(|| fs::read(&path).unwrap());
    drop(run);
    let bytes = killed.unwrap_or_else(|| fs::read(&path).unwrap());
    fs::write(&path, &bytes).unwrap();
    let storage = DiskStorage::open(config(&directory.0, false)).unwrap();
    let mut original =
        Original { bytes, is_closed, epoch: storage.epoch(), events, ids, held: BTreeSet::new() };
    original.held = read(&storage, &original).unwrap();
    assert_eq!(original.held.len(), 300);
    original
}

/// Damages a file at a random place, and returns how.
fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) -> String {
    let at = if rng.bool() { rng.usize(..bytes.len()) } else { rng.usize(..2 * PAGE) };
    let pages = bytes.len() / PAGE;
    match rng.u8(..5) {
        0 => {
            // Some file systems lose whole blocks, and some copies end anywhere.
            let len = if rng.bool() { at } else { at / PAGE * PAGE };
            bytes.truncate(len);
            format!("cut to {len}")
        }
        1 => {
            bytes[at..].fill(0);
            format!("zeroed from {at}")
        }
        2 => {
            let end = bytes.len().min(at + rng.usize(1..4 * PAGE));
            bytes[at..end].fill(0);
            format!("zeroed from {at} to {end}")
        }
        3 => {
            // In a byte that is used.
            let at = (at..bytes.len()).find(|at| bytes[*at] != 0).unwrap_or(at);
            let bit = rng.u8(..8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
        _ => {
            let (one, other) = (rng.usize(..pages), rng.usize(..pages));
            for byte in 0..PAGE {
                bytes.swap(one * PAGE + byte, other * PAGE + byte);
            }
            format!("pages {one} and {other} swapped")
        }
    }
}

fn damage_and_open(seed: u64, rounds: usize) {
    let mut rng = Rng::with_seed(seed);
    let (mut refused, mut reduced, mut whole, mut mostly) = (0, 0, 0, 0);
    for original in [original(true), original(false)] {
        for _ in 0..rounds {
            let directory = Dir::new();
            let mut bytes = original.bytes.clone();
            let how = damage(&mut bytes, &mut rng);
            fs::write(directory.0.join("events.redb"), bytes).unwrap();
            let opened = DiskStorage::open(config(&directory.0, false));
            let is_refused = opened.is_err();
            let storage = opened.unwrap_or_else(|error| {
                assert_eq!(error.kind(), StorageErrorKind::Damaged, "{how}: {error}");
                assert!(error.to_string().contains("events.redb"), "{how}: {error}");
                let recovered = DiskStorage::open(config(&directory.0, true));
                recovered.unwrap_or_else(|error| panic!("{how}: {error}"))
            });
            let held = read(&storage, &original).unwrap_or_else(|e| panic!("{how}: {e}"));
            if is_refused {
                refused += 1;
                let is_most = held.len() * 10 >= original.held.len() * 9;
                mostly += usize::from(is_most);
                // Other kinds of damage may affect the whole file.
                let is_small = how.contains("flipped") || how.contains("swapped");
                assert!(is_most || !is_small, "{how}: {} events are left", held.len());
                assert_eq!(kept_aside(&directory.0), 1, "{how}: the damaged file is kept");
            }
            if held == original.held {
                whole += 1;
            } else {
                reduced += 1;
                let missing: Vec<_> = original.held.difference(&held).collect();
                // The engine cannot distinguish damage of the last transaction from an interrupted
                // one, unless the file was closed.
                let is_last = !original.is_closed && missing == [&(original.ids.len() as u64)];
                assert!(storage.epoch() != original.epoch || is_last, "{how}: no {missing:?}");
            }
            assert!(!is_refused || storage.epoch() != original.epoch, "{how}: the epoch");
            drop(storage);
            let run = Run::with(config(&directory.0, false)).unwrap();
            let id = run.publish("a", "new");
            assert!(!original.ids.contains(&id), "{how}: the ID {id} is assigned twice");
        }
    }
    println!(
        "{refused} refused, of which {mostly} kept nine of ten events; {reduced} had fewer events than \
         before, and {whole} all of them"
    );
    assert!(refused > rounds / 2, "{refused} refused");
    assert!(whole > 0, "{whole} whole");
}

/// Returns the number of files that were kept under another name. The engine may have changed them
/// when it tried to repair them.
fn kept_aside(directory: &Path) -> usize {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name());
    files.filter(|name| name.to_string_lossy().starts_with("events.redb.damaged-")).count()
}

#[test]
fn a_damaged_file_is_refused_and_recovered_on_request() {
    let directory = Dir::new();
    let run = Run::open(&directory);
    let ids: Vec<String> =
        (0..200).map(|n| run.publish("a", &format!("{n} {}", "x".repeat(500)))).collect();
    drop(run);
    let path = directory.0.join("events.redb");
    let intact = fs::read(&path).unwrap();
    // The header, a page in the middle, and the end.
    let mut refused = 0;
    for (start, len) in [(0, 64), (intact.len() / 3, 8192), (64, 256), (0, intact.len())] {
        let mut damaged = intact.clone();
        damaged[start..start + len].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&path, &damaged).unwrap();
        let opened = DiskStorage::open(DiskConfig::new(directory.path()));
        if let Err(error) = opened {
            refused += 1;
            assert_eq!(error.kind(), StorageErrorKind::Damaged, "{error}");
            assert!(error.to_string().contains("events.redb"), "{error}");
            let mut config = DiskConfig::new(directory.path());
            config.recover = true;
            let run = Run::with(config).unwrap();
            run.publish("a", "after");
            let events = run.read(&["a"], Start::After(&ids[0]), 1);
            assert_eq!(events[0].0, "gap");
            drop(run);
        }
    }
    assert!(refused >= 3, "{refused} kinds of damage are noticed");
}

#[test]
fn events_of_a_damaged_file_are_kept_and_deleted_ones_stay_deleted() {
    let directory = Dir::new();
    let mut config = DiskConfig::new(directory.path());
    config.history.events = 20;
    let run = Run::with(config.clone()).unwrap();
    for n in 0..30 {
        run.publish("a", &format!("{n} {}", "x".repeat(1500)));
        run.publish("deleted", &n.to_string());
    }
    let large = "y".repeat(100_000);
    let key = Publication::new(&*large).with_id("own").with_key("k");
    run.wait(run.topics.publish("b", key)).unwrap();
    assert_eq!(run.wait(run.topics.delete("deleted")), Ok(true));
    drop(run);
    let path = directory.0.join("events.redb");
    let mut bytes = fs::read(&path).unwrap();
    // The header, so that no page can be found.
    bytes[..4096].fill(0);
    fs::write(&path, &bytes).unwrap();
    let error = DiskStorage::open(config.clone()).unwrap_err();
    assert_eq!(error.kind(), StorageErrorKind::Damaged, "{error}");
    config.recover = true;
    let run = Run::with(config.clone()).unwrap();
    let list = run.wait(run.topics.list(None, 10)).unwrap().topics;
    let rows: Vec<_> = list.iter().map(|row| (&*row.name, row.events)).collect();
    assert_eq!(rows, [("a", 20), ("b", 1)]);
    let data = run.data(&["a"], Start::Earliest, 20);
    assert!(data.iter().zip(10..30).all(|(data, n)| data.starts_with(&format!("{n} "))));
    assert_eq!(run.data(&["b"], Start::Earliest, 1), [&*large]);
    assert!(run.wait(run.topics.publish("b", key)).unwrap().duplicate);
    // What was recovered is there without the flag, and the damaged file until it is deleted.
    drop(run);
    config.recover = false;
    let run = Run::with(config).unwrap();
    assert_eq!(run.data(&["b"], Start::Earliest, 1), [large]);
    let aside = fs::read_dir(&directory.0).unwrap().map(|file| file.unwrap().path());
    let aside: Vec<_> = aside.filter(|file| *file != path).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert!(aside[0].to_string_lossy().contains("events.redb.damaged-"), "{aside:?}");
    assert_eq!(fs::read(&aside[0]).unwrap(), bytes);
}

#[test]
fn no_damage_leads_to_a_wrong_event_or_a_panic() {
    damage_and_open(3, 30);
}

/// The long form: `cargo test -p sse-smol-server --test disk -- --ignored --nocapture`.
#[test]
#[ignore = "takes some minutes"]
fn no_damage_of_a_thousand_kinds_leads_to_a_wrong_event_or_a_panic() {
    damage_and_open(4, 500);
}
