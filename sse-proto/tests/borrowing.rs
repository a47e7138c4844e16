//! Where the bytes of an event lie: in the chunk it came in, or in the decoder.

#![cfg(feature = "alloc")]

use sse_proto::{Decoder, Event};

/// Returns whether `value` lies completely in the memory of `chunk`.
fn lies_in(value: &[u8], chunk: &[u8]) -> bool {
    let (value, chunk) = (value.as_ptr_range(), chunk.as_ptr_range());
    chunk.start <= value.start && value.end <= chunk.end
}

/// Returns whether type, ID and data of an event lie in `chunk`.
fn borrowed(event: Event<'_>, chunk: &[u8]) -> [bool; 3] {
    let values = [event.event_type(), event.last_event_id(), event.data()];
    values.map(|value| lies_in(value.as_bytes(), chunk))
}

/// Decodes a copy of the chunk, and returns for each event which of its values lie in that copy.
fn in_one_chunk(decoder: &mut Decoder, chunk: &str) -> Vec<[bool; 3]> {
    let chunk = chunk.as_bytes().to_vec();
    let mut input = &chunk[..];
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event(&mut input).unwrap() {
        events.push(borrowed(event, &chunk));
    }
    events
}

#[test]
fn a_block_of_single_lines_in_one_chunk_is_borrowed_whole() {
    for block in [
        "event: tick\nid: 17\ndata: some\n\n",
        "data: some\nid: 17\nevent: tick\n\n",
        "id: 17\ndata: some\nevent: tick\n\n",
        "event:tick\nid:17\ndata:some\n\n",
        "event: tick\r\nid: 17\r\ndata: some\r\n\r\n",
        "event: tick\rid: 17\rdata: some\r\r",
        ": comment\nevent: tick\n: comment\nid: 17\n:\ndata: some\n: comment\n\n",
        "unknown: x\nevent: tick\nid: 17\nunknown\ndata: some\n\n",
        "retry: 5\nevent: tick\nretry: 6\nid: 17\nretry: 7\ndata: some\nretry: 8\n\n",
        // If there are several types or IDs, the last one counts.
        "event: tack\nevent: tick\nid: 16\nid: 17\ndata: some\n\n",
        "\u{FEFF}event: tick\nid: 17\ndata: some\n\n",
        "\n\nid: 16\n\nevent: tick\nid: 17\ndata: some\n\n",
    ] {
        assert_eq!(in_one_chunk(&mut Decoder::new(), block), [[true; 3]], "{block:?}");
        // Buffered values of an earlier event make no difference.
        let mut decoder = Decoder::new();
        assert!(in_one_chunk(&mut decoder, "event: old\nid: 1\nda").is_empty());
        assert_eq!(in_one_chunk(&mut decoder, "ta: o\ndata: ld\n\n"), [[false; 3]]);
        let block = block.trim_start_matches('\u{FEFF}');
        assert_eq!(in_one_chunk(&mut decoder, &block.repeat(3)), [[true; 3]; 3], "{block:?}");
    }
}

#[test]
fn data_is_borrowed_without_a_type_or_an_id_too() {
    for block in
        ["data: a\n\n", "data:a\n\n", "data: a\r\n\r\n", "data: a\r\r", ": c\n\ndata: a\n\n"]
    {
        let events = in_one_chunk(&mut Decoder::new(), &block.repeat(3));
        assert_eq!(events, [[false, false, true]; 3], "{block:?}");
    }
    let mut buffers = ([0; 16], [0; 16]);
    let mut decoder = Decoder::with_buffers(&mut buffers.0, &mut buffers.1);
    let chunk = b"event: tick\nid: 17\ndata: some\n\n".to_vec();
    let event = decoder.next_event(&mut &chunk[..]).unwrap().unwrap();
    assert_eq!(borrowed(event, &chunk), [true; 3], "borrowed buffers");
}

#[test]
fn an_id_of_an_earlier_event_lies_in_the_decoder() {
    let mut decoder = Decoder::new();
    let events = in_one_chunk(&mut decoder, "id: 17\ndata: a\n\ndata: b\n\nid: 18\n\ndata: c\n\n");
    assert_eq!(events, [[false, true, true], [false, false, true], [false, false, true]]);
}

#[test]
fn lines_of_data_are_joined_in_the_decoder_and_the_rest_is_borrowed() {
    let block = "event: tick\nid: 17\ndata: a\ndata: b\n\n";
    assert_eq!(in_one_chunk(&mut Decoder::new(), block), [[true, true, false]]);
}

/// With one cut at each offset, a value is borrowed if it and everything after it in its block lie
/// in one chunk.
#[test]
fn values_before_a_cut_in_their_block_are_copied() {
    for lines in [
        ["event: tick", "id: 17", "data: some"],
        ["data: some", "event: tick", "id: 17"],
        ["id: 17", "data: some", "event: tick"],
    ] {
        for line_end in ["\n", "\r", "\r\n"] {
            let block = lines.map(|line| format!("{line}{line_end}")).concat() + line_end;
            let start = |value| block.find(value).unwrap();
            let starts = [start("tick"), start("17"), start("some")];
            // A CR ends its line before the next byte is known.
            let complete = block.len() - usize::from(line_end == "\r\n");
            for cut in 0..=block.len() {
                let (first, second) = block.as_bytes().split_at(cut);
                let (first, second) = (first.to_vec(), second.to_vec());
                let mut decoder = Decoder::new();
                let (mut input, mut rest) = (&first[..], &second[..]);
                if cut >= complete {
                    let event = decoder.next_event(&mut input).unwrap().unwrap();
                    assert_eq!(borrowed(event, &first), [true; 3], "{block:?} at {cut}");
                    assert!(decoder.next_event(&mut rest).unwrap().is_none());
                    continue;
                }
                assert!(decoder.next_event(&mut input).unwrap().is_none());
                let event = decoder.next_event(&mut rest).unwrap().unwrap();
                assert_eq!(event.event_type(), "tick");
                assert_eq!(event.last_event_id(), "17");
                assert_eq!(event.data(), "some");
                assert_eq!(borrowed(event, &first), [false; 3], "{block:?} at {cut}");
                let expected = starts.map(|start| cut <= start);
                assert_eq!(borrowed(event, &second), expected, "{block:?} at {cut}");
            }
        }
    }
}

/// The decoder owns the copy: the chunk may be overwritten before the event is complete.
#[test]
fn a_copied_part_outlives_its_chunk() {
    let mut decoder = Decoder::new();
    let mut chunk = *b"event: tick\nid: 17\ndata: so";
    assert!(decoder.next_event(&mut &chunk[..]).unwrap().is_none());
    chunk.fill(b'?');
    let event = decoder.next_event(&mut &b"me\n\n"[..]).unwrap().unwrap();
    assert_eq!(
        (event.event_type().as_bytes(), event.data().as_bytes()),
        (&b"tick"[..], &b"some"[..])
    );
    assert_eq!(event.last_event_id(), "17");
}
