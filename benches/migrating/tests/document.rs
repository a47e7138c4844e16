//! The code in `docs/migrating.md` is the code of this package.

const DOCUMENT: &str = include_str!("../../../docs/migrating.md");

/// The title of a section and the module with its code.
const SECTIONS: [(&str, &str); 6] = [
    ("eventsource-stream", include_str!("../src/eventsource_stream.rs")),
    ("reqwest-eventsource", include_str!("../src/reqwest_eventsource.rs")),
    ("sse-stream", include_str!("../src/sse_stream.rs")),
    ("eventsource-client", include_str!("../src/eventsource_client.rs")),
    ("axum's `Sse`", include_str!("../src/axum.rs")),
    ("async-sse", include_str!("../src/async_sse.rs")),
];

/// Returns the public functions of a module, in order, without their documentation.
fn functions(module: &str) -> Vec<String> {
    let mut functions = Vec::new();
    let mut lines = module.lines();
    while let Some(first) = lines.find(|line| line.starts_with("pub ")) {
        let mut function = first.to_owned() + "\n";
        for line in lines.by_ref() {
            function.push_str(line);
            function.push('\n');
            if line == "}" {
                break;
            }
        }
        functions.push(function);
    }
    functions
}

/// Returns the blocks of Rust code in a section, in order.
fn blocks(section: &str) -> Vec<String> {
    let parts = section.split("```rust,ignore\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_document_shows_this_code() {
    let mut sections =
        DOCUMENT.split("\n## ").skip(1).filter(|section| section.contains("```rust"));
    for (title, module) in SECTIONS {
        let section = sections.next().expect("a section for each module");
        assert_eq!(section.lines().next(), Some(title));
        let (shown, functions) = (blocks(section), functions(module));
        assert!(functions.len() >= 2, "{title}: code before and after");
        assert_eq!(shown.len(), functions.len(), "{title}: the number of blocks and functions");
        for (shown, function) in shown.iter().zip(&functions) {
            assert_eq!(shown, function, "{title}: left is the document, right is the code");
        }
    }
    assert!(sections.next().is_none(), "a module for each section with code");
}

/// All versions in the table are those that the tests run with.
#[test]
fn the_document_names_the_tested_versions() {
    let lock = include_str!("../../Cargo.lock");
    let versions: Vec<_> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("| ["))
        .map(|row| {
            let cells: Vec<_> = row.split(" | ").collect();
            (cells[0].split(']').next().unwrap(), cells[1])
        })
        .collect();
    assert_eq!(versions.len(), SECTIONS.len());
    for (name, version) in versions {
        let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(lock.contains(&entry), "{name} {version} is not in Cargo.lock");
    }
}
