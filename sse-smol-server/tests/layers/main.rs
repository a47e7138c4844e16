//! The directions of imports: no circle among the files of a crate, and in the library of the
//! server no import against its layers.
//!
//! Paths that begin with `crate`, `self`, `super` or a child module are followed through re-exports
//! to the file that defines the item. Calls of methods are not seen. Test modules do not count.
//!
//! ARCHITECTURE.md lists the files and the layers: see [`documented`].

mod documented;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, iter};

use crate::source::{Import, Source};

/// The layers of the library: the name, the files or directories, and the layers that these may
/// import from beside their own. A layer is listed after those that it imports from.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    (
        "base",
        &[
            "cancel_token.rs",
            "compact_instant.rs",
            "config.rs",
            "drain.rs",
            "frame.rs",
            "framing.rs",
            "notifier.rs",
            "segment.rs",
            "setters.rs",
        ],
        &[],
    ),
    ("storage", &["storage/"], &["base"]),
    ("http1", &["http1/"], &["base"]),
    ("net", &["net/"], &["base"]),
    ("topics", &["topics/"], &["base", "storage"]),
    ("outcomes", &["error.rs", "close_reason.rs"], &["storage", "http1", "topics"]),
    ("metrics", &["metrics.rs"], &["base", "net", "topics", "outcomes"]),
    ("connection", &["connection/"], &["base", "http1", "net", "topics", "outcomes", "metrics"]),
    (
        "handlers",
        &["body_writer.rs", "polled.rs", "request.rs", "request/", "stream.rs"],
        &["base", "http1", "topics", "outcomes", "connection"],
    ),
    ("datastar", &["datastar/"], &["base", "http1", "handlers", "outcomes"]),
    (
        "server",
        &["server.rs", "threads.rs", "threads/"],
        &["base", "http1", "net", "outcomes", "metrics", "connection", "handlers"],
    ),
    (
        "testing",
        &["testing.rs"],
        &["base", "http1", "net", "outcomes", "metrics", "connection", "handlers"],
    ),
    (
        "crate root",
        &["lib.rs"],
        &[
            "storage",
            "base",
            "http1",
            "net",
            "topics",
            "outcomes",
            "metrics",
            "connection",
            "handlers",
            "datastar",
            "server",
            "testing",
        ],
    ),
];

/// The files of a crate, by their path below its source directory.
struct Crate {
    files: BTreeMap<String, Source>,
    /// The file of each module, by the module's path.
    modules: BTreeMap<Vec<String>, String>,
}

impl Crate {
    fn read(directory: &Path, root: &str) -> Self {
        let mut files = BTreeMap::new();
        let mut modules = BTreeMap::new();
        let mut open = vec![PathBuf::new()];
        while let Some(below) = open.pop() {
            for entry in fs::read_dir(directory.join(&below)).unwrap() {
                let entry = entry.unwrap();
                let path = below.join(entry.file_name());
                let name = path.to_str().unwrap().to_owned();
                if entry.file_type().unwrap().is_dir() {
                    // A binary is a crate of its own.
                    if name != "bin" {
                        open.push(path);
                    }
                } else if let Some(module) = name.strip_suffix(".rs") {
                    let module = if name == root { "" } else { module };
                    let module = module.strip_suffix("/mod").unwrap_or(module);
                    let module: Vec<String> =
                        module.split('/').filter(|part| !part.is_empty()).map(Into::into).collect();
                    let text = fs::read_to_string(entry.path()).unwrap();
                    files.insert(name.clone(), Source::parse(&text));
                    modules.insert(module, name);
                }
            }
        }
        assert!(files.contains_key(root), "{} has a file {root}", directory.display());
        Self { files, modules }
    }

    /// Returns the module path that an import starts from, and the rest of the import.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut base = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {}
            child => {
                base.push(child.to_owned());
                if !self.modules.contains_key(&base) {
                    return None;
                }
                rest = &path[1..];
            }
        }
        while rest.first().is_some_and(|part| part == "super") {
            base.pop();
            rest = &rest[1..];
        }
        Some(base.into_iter().chain(rest.iter().cloned()).collect())
    }

    /// Returns the file that defines the item with this path, behind re-exports.
    fn definition(&self, module: &[String], path: &[String]) -> Option<&String> {
        let path = self.absolute(module, path)?;
        let mut len = path.len();
        while !self.modules.contains_key(&path[..len]) {
            len -= 1;
        }
        let (module, item) = path.split_at(len);
        let file = &self.modules[module];
        let Some(item) = item.first() else { return Some(file) };
        let imports = &self.files[file].imports;
        let behind = imports.iter().find(|import| import.name == *item);
        Some(behind.and_then(|import| self.definition(module, &import.path)).unwrap_or(file))
    }

    /// Returns the files that each file imports from.
    fn arrows(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let arrows = self.modules.iter().map(|(module, file)| {
            let source = &self.files[file];
            // What is only passed on is no dependency of the file.
            let used = source
                .imports
                .iter()
                .filter(|Import { name, is_public, .. }| !is_public || source.used.contains(name));
            let found = used.filter_map(|import| self.definition(module, &import.path));
            (file.as_str(), found.map(String::as_str).filter(|to| to != file).collect())
        });
        arrows.collect()
    }
}

/// Returns the shortest circle of arrows, as the files on it.
fn circle<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let circles = arrows.keys().filter_map(|start| {
        let mut from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = vec![*start];
        while !open.is_empty() {
            let mut next = Vec::new();
            for file in open {
                for to in &arrows[file] {
                    if to == start {
                        let back = iter::successors(Some(file), |file| from.get(file).copied());
                        let mut files: Vec<_> = back.take_while(|file| file != start).collect();
                        files.push(*start);
                        files.reverse();
                        return Some(files);
                    }
                    // The first way is kept: with another one, the way back could be endless.
                    if !from.contains_key(to) {
                        from.insert(*to, file);
                        next.push(*to);
                    }
                }
            }
            open = next;
        }
        None
    });
    circles.min_by_key(Vec::len)
}

/// Returns the name of a file's layer, and the names of those that it may import from.
fn layer(file: &str) -> Option<(&'static str, &'static [&'static str])> {
    let is_in = |place: &&str| file == *place || place.ends_with('/') && file.starts_with(*place);
    let found = LAYERS.iter().find(|(_, places, _)| places.iter().any(is_in));
    found.map(|(name, _, below)| (*name, *below))
}

#[test]
fn paths_are_read_from_declarations_and_from_code() {
    let source = Source::parse(
        r##"
        //! use crate::comment::One;
        pub use self::a::{B, c::{self, D as E}, f::*};
        use std::fmt;
        pub(in crate::nowhere) fn g<'a>(h: &'a crate::i::J) -> super::k::L {
            let m = ('"', '\'', "use crate::text::Two;", r#"use crate::"raw"::Three;"#);
            o::P::new::<Q>(crate::r!(m))
        }
        #[cfg(test)]
        mod tests {
            use crate::test::Four;
        }
        "##
        .replace("\n        ", "\n")
        .as_str(),
    );
    let found: Vec<_> = source
        .imports
        .iter()
        .map(|import| (import.name.as_str(), import.path.join("::"), import.is_public))
        .collect();
    let expected = [
        ("B", "self::a::B", true),
        ("c", "self::a::c", true),
        ("E", "self::a::c::D", true),
        ("", "self::a::f", true),
        ("fmt", "std::fmt", false),
        ("", "crate::i::J", false),
        ("", "super::k::L", false),
        ("", "o::P::new", false),
        ("", "crate::r", false),
    ];
    assert_eq!(found, expected.map(|(name, path, is_public)| (name, path.to_owned(), is_public)));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates =
        [("src", "lib.rs"), ("src/bin/sse-smol-server", "main.rs"), ("../sse-proto/src", "lib.rs")];
    for (directory, root) in crates {
        let found = package.join(directory);
        // A package that is tested by itself has no other crate beside it.
        if directory.starts_with("..") && !found.exists() {
            continue;
        }
        let found = Crate::read(&found, root);
        if let Some(mut files) = circle(&found.arrows()) {
            files.push(files[0]);
            panic!("{directory}: files import each other in a circle: {}", files.join(" -> "));
        }
    }
}

#[test]
fn no_layer_of_the_library_imports_from_one_above() {
    let library = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "lib.rs");
    let mut wrong = Vec::new();
    for (file, imports) in library.arrows() {
        let (name, below) = layer(file).unwrap_or_else(|| panic!("{file} is in no layer"));
        for to in imports {
            let (other, _) = layer(to).unwrap_or_else(|| panic!("{to} is in no layer"));
            if other != name && !below.contains(&other) {
                wrong.push(format!("{file} ({name}) imports from {to} ({other})"));
            }
        }
    }
    assert!(wrong.is_empty(), "imports against the layers: {wrong:#?}");
}
