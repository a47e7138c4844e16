//! The decoder of the page.

use super::*;

/// Decodes the text in chunks that end after each byte of `ends`.
fn decode(page: &mut Browser, text: &str, ends: &str) -> Value {
    let text = json!(text);
    page.evaluate(&format!(
        "import('/__sse/page/decoder.js').then(({{ Decoder }}) => {{
            const bytes = new TextEncoder().encode({text});
            const decode = (ends) => {{
                const decoder = new Decoder('start');
                let from = 0;
                const items = [...ends, bytes.length].flatMap((end) =>
                    [...decoder.decode(bytes.slice(from, (from = end)))]);
                return [items.map(({{ kind, type, id, data }}) =>
                    [kind, type, id, data].filter((field) => field !== undefined).join('|')),
                    decoder.lastEventId];
            }};
            const all = ({ends}).map(decode);
            const different = all.find((one) => JSON.stringify(one) !== JSON.stringify(all[0]));
            return different ? {{ different, first: all[0] }} : all[0];
        }})"
    ))
}

#[test]
fn streams_are_decoded_in_any_chunks_as_in_the_standard() {
    let server = Binary::start(&[]);
    let mut page = open(&server, "#stream=/clock");
    let text = "\u{feff}: hello\r\n\r\ndata\n\ndata: one\rdata:two\r\rid: 7\revent: caf\u{e9} \u{1f600}\r\n\
        data:  {\"a\": 1}\r\n\r\nevent: lost\nid: 8\n\nretry: 700\nretry: 7x\nretry:\nid: a\0b\n\
        unknown: x\ndata: last: one\nid\n\ndata: not complete";
    let expected = json!([
        [
            "comment|hello",
            "event|message|start|",
            "event|message|start|one\ntwo",
            "event|caf\u{e9} \u{1f600}|7| {\"a\": 1}",
            "id|8|",
            "retry|700",
            "event|message||last: one",
        ],
        ""
    ]);
    assert_eq!(decode(&mut page, text, "[[]]"), expected);
    // All divisions into two chunks, and single bytes.
    let pairs = "[[], [...bytes.keys()], ...[...bytes.keys()].map((end) => [end])]";
    assert_eq!(decode(&mut page, text, pairs), expected);
}
