//! The bytes of events.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use sse_proto::{Decoder, EventId, OwnedEvent};
use sse_smol_server::Frame;
use sse_smol_server::datastar::{
    ElementPatchMode, ExecuteScript, InvalidAttribute, Namespace, PatchElements, PatchSignals,
};

fn encoded(event: impl Into<Frame>) -> String {
    String::from_utf8(event.into().encoded().to_vec()).unwrap()
}

/// Reads an event as the client of Datastar does: each data line is a key and, after the first
/// space, a value; the values of a key are joined with LF. Returns the type and the values.
fn read(event: impl Into<Frame>) -> (String, BTreeMap<String, String>) {
    let frame = event.into();
    let mut bytes = frame.encoded();
    let mut decoder = Decoder::new();
    let event = decoder.next_event(&mut bytes).unwrap().expect("an event");
    let event_type = event.event_type().to_string();
    let mut values: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let data = event.data().to_str_lossy().into_owned();
    for line in data.split('\n') {
        let (key, value) = line.split_once(' ').expect("a key and a value");
        values.entry(key.to_owned()).or_default().push(value);
    }
    assert!(decoder.next_event(&mut bytes).unwrap().is_none(), "one event");
    let values = values.into_iter().map(|(key, lines)| (key, lines.join("\n"))).collect();
    (event_type, values)
}

/// Returns a text with LF as its line ends.
fn with_lf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

#[test]
fn elements_have_all_options_before_them_in_the_order_of_the_specification() {
    let event = PatchElements::new("<g>\n  <path/>\n</g>")
        .with_selector("#chart")
        .with_mode(ElementPatchMode::Inner)
        .with_view_transition(true)
        .with_namespace(Namespace::Svg)
        .with_id(EventId::from_static("7"))
        .with_retry(Duration::from_millis(2500));
    let expected = "event: datastar-patch-elements\n\
                    id: 7\n\
                    retry: 2500\n\
                    data: selector #chart\n\
                    data: mode inner\n\
                    data: useViewTransition true\n\
                    data: namespace svg\n\
                    data: elements <g>\n\
                    data: elements   <path/>\n\
                    data: elements </g>\n\n";
    assert_eq!(encoded(&event), expected);
    assert_eq!(Frame::from(event).id(), Some(&b"7"[..]));
}

#[test]
fn defaults_are_not_written() {
    let expected = "event: datastar-patch-elements\ndata: elements <p id=\"a\"></p>\n\n";
    let event = PatchElements::new("<p id=\"a\"></p>");
    assert_eq!(encoded(&event), expected);
    let event = event
        .with_mode(ElementPatchMode::Outer)
        .with_view_transition(false)
        .with_namespace(Namespace::Html)
        .with_retry(Duration::from_secs(1));
    assert_eq!(encoded(event), expected);

    let expected = "event: datastar-patch-signals\ndata: signals {}\n\n";
    let event = PatchSignals::new("{}");
    assert_eq!(encoded(&event), expected);
    let event = event.with_only_if_missing(false).with_retry(Duration::from_secs(1));
    assert_eq!(encoded(event), expected);

    let script = ExecuteScript::new("run()");
    let explicit = script.clone().with_auto_remove(true).with_retry(Duration::from_secs(1));
    assert_eq!(encoded(script), encoded(explicit));
}

#[test]
fn retry_is_written_unless_it_is_one_second() {
    for (retry, expected) in [
        (Duration::ZERO, "retry: 0\n"),
        (Duration::from_millis(999), "retry: 999\n"),
        (Duration::from_micros(1_000_001), "retry: 1001\n"),
        (Duration::from_secs(1), ""),
        (Duration::from_micros(999_500), ""),
        (Duration::MAX, "retry: 18446744073709551615\n"),
    ] {
        let event = PatchSignals::new("{}").with_retry(retry);
        let expected = format!("event: datastar-patch-signals\n{expected}data: signals {{}}\n\n");
        assert_eq!(encoded(event), expected);
    }
}

#[test]
fn all_modes_and_namespaces_have_the_names_of_the_specification() {
    use ElementPatchMode::{After, Append, Before, Inner, Outer, Prepend, Remove, Replace};
    let modes = [Outer, Inner, Replace, Prepend, Append, Before, After, Remove];
    assert_eq!(
        modes.map(ElementPatchMode::as_str),
        ["outer", "inner", "replace", "prepend", "append", "before", "after", "remove"],
    );
    for mode in &modes[1..] {
        let (_, values) = read(PatchElements::new("<p></p>").with_mode(*mode));
        assert_eq!(values["mode"], mode.as_str());
    }
    let names = [Namespace::Html, Namespace::Svg, Namespace::MathMl].map(Namespace::as_str);
    assert_eq!(names, ["html", "svg", "mathml"]);
}

#[test]
fn elements_can_be_removed_by_selector_and_by_id() {
    let expected = "event: datastar-patch-elements\ndata: selector #a, #b\ndata: mode remove\n\n";
    assert_eq!(encoded(PatchElements::remove("#a, #b")), expected);

    let expected = "event: datastar-patch-elements\n\
                    data: mode remove\n\
                    data: elements <p id=\"a\"></p><p id=\"b\"></p>\n\n";
    let event =
        PatchElements::new("<p id=\"a\"></p><p id=\"b\"></p>").with_mode(ElementPatchMode::Remove);
    assert_eq!(encoded(event), expected);
}

#[test]
fn signals_keep_their_lines_and_spaces() {
    let event = PatchSignals::new("{\r\n  \"a\": 1,\n\n  \"b\":  \r2}\n")
        .with_only_if_missing(true)
        .with_id(EventId::from_static("x y"))
        .with_retry(Duration::from_secs(2));
    let expected = "event: datastar-patch-signals\n\
                    id: x y\n\
                    retry: 2000\n\
                    data: onlyIfMissing true\n\
                    data: signals {\n\
                    data: signals   \"a\": 1,\n\
                    data: signals \n\
                    data: signals   \"b\":  \n\
                    data: signals 2}\n\
                    data: signals \n\n";
    assert_eq!(encoded(event), expected);
}

#[test]
fn signals_are_serialized_compactly_and_in_order() {
    #[derive(serde::Serialize)]
    struct Signals {
        z: Option<u8>,
        a: &'static str,
    }
    let event = PatchSignals::from_value(&Signals { z: None, a: "two\nlines" }).unwrap();
    let expected =
        "event: datastar-patch-signals\ndata: signals {\"z\":null,\"a\":\"two\\nlines\"}\n\n";
    assert_eq!(encoded(event), expected);
}

#[test]
fn scripts_are_elements_with_attributes_in_order() {
    let event = ExecuteScript::new("if (a) {\n  b();\n}")
        .with_attribute("type", "module")
        .unwrap()
        .with_attribute("data-x", "\"a\" & 'b'\n<c>")
        .unwrap()
        .with_id(EventId::from_static("1"))
        .with_retry(Duration::from_millis(1));
    let expected = "event: datastar-patch-elements\n\
                    id: 1\n\
                    retry: 1\n\
                    data: selector body\n\
                    data: mode append\n\
                    data: elements <script type=\"module\" data-x=\"&quot;a&quot; &amp; 'b'\n\
                    data: elements <c>\" data-effect=\"el.remove()\">if (a) {\n\
                    data: elements   b();\n\
                    data: elements }</script>\n\n";
    assert_eq!(encoded(&event), expected);
    let (_, values) = read(event.with_auto_remove(false));
    assert!(!values["elements"].contains("data-effect"), "{values:?}");
}

#[test]
fn a_script_cannot_end_its_element_and_an_attribute_cannot_forge_another() {
    let script = "s = '</script><img src=x>' + '</SCRIPT >' + '</scrip' + a</script/.test(b)";
    let (_, values) = read(ExecuteScript::new(script).with_auto_remove(false));
    assert_eq!(
        values["elements"],
        "<script>s = '\\x3C/script><img src=x>' + '\\x3C/SCRIPT >' + '</scrip' + \
         a\\x3C/script/.test(b)</script>",
    );

    let names =
        ["", " ", "a b", "a\nb", "a=", "a>", "a\"", "a'", "a/b", "<a", "a\0", "a\u{7f}", "a\tb"];
    for name in names {
        let error: InvalidAttribute = ExecuteScript::new("x").with_attribute(name, "").unwrap_err();
        assert!(error.to_string().starts_with(&format!("{name:?} is not")), "{error}");
    }
    for name in ["async", "data-on:click__once", "@x", "x.y"] {
        assert!(ExecuteScript::new("x").with_attribute(name, "").is_ok(), "{name}");
    }
}

#[test]
fn events_without_anything_have_no_data() {
    let expected = "event: datastar-patch-elements\n\n";
    assert_eq!(encoded(PatchElements::new("")), expected);
    assert_eq!(OwnedEvent::from(PatchElements::new("")).data(), "");
}

#[test]
fn a_frame_is_encoded_without_copies_of_the_values() {
    let elements = format!("<pre id=\"a\">{}</pre>", "line\n".repeat(1000));
    let event =
        PatchElements::new(&elements).with_selector("#a").with_id(EventId::from_static("1"));
    let counted = allocation_counter::measure(|| drop(Frame::from(&event)));
    assert_eq!(counted.count_total, 2, "one for the bytes, and one for the count of references");
    let bytes = u64::try_from(Frame::from(&event).encoded().len()).unwrap();
    assert!((bytes..bytes + 200).contains(&counted.bytes_total), "{counted:?}");
}

proptest! {
    #[test]
    fn the_client_reads_what_was_sent(
        elements in "([a-z <:]|\r|\n|\r\n|é|\0){1,40}",
        selector in "([a-z <:]|\r|\n|\r\n|mode remove){0,20}",
        script in "([a-z <:/]|\r|\n|\r\n){0,40}",
    ) {
        let event = PatchElements::new(&elements).with_selector(&selector);
        prop_assert_eq!(
            read(&event),
            ("datastar-patch-elements".to_owned(), BTreeMap::from([
                ("selector".to_owned(), with_lf(&selector)),
                ("elements".to_owned(), with_lf(&elements)),
            ])),
        );
        let event = event.with_id(EventId::from_static("1")).with_retry(Duration::ZERO);
        prop_assert_eq!(encoded(OwnedEvent::from(&event)), encoded(&event));

        let event = PatchSignals::new(&elements);
        let expected = BTreeMap::from([("signals".to_owned(), with_lf(&elements))]);
        prop_assert_eq!(read(event), ("datastar-patch-signals".to_owned(), expected));

        prop_assume!(!script.contains("</script"));
        let (event_type, values) = read(ExecuteScript::new(&script).with_auto_remove(false));
        prop_assert_eq!(event_type, "datastar-patch-elements");
        prop_assert_eq!(&values["elements"], &format!("<script>{}</script>", with_lf(&script)));
        prop_assert_eq!(values.len(), 3);
    }
}
