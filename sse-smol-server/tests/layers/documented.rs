//! The tables of ARCHITECTURE.md against the files and the layers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::LAYERS;

/// The directory of the workspace.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Returns ARCHITECTURE.md, which a package that is tested by itself does not have beside it.
fn architecture() -> Option<String> {
    fs::read_to_string(Path::new(WORKSPACE).join("ARCHITECTURE.md")).ok()
}

/// Returns the cells of the rows of a table, which begins with this cell after this heading.
fn table(text: &str, heading: &str, first: &str) -> Vec<Vec<String>> {
    let (_, section) = text.split_once(heading).expect("the heading exists");
    let section = section.split("\n## ").next().unwrap();
    let (_, rows) = section.split_once(&format!("\n| {first} |")).expect("the table exists");
    rows.lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').skip(1).map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

/// Returns the names in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Adds the files below a directory of a package, by their path in the package.
fn collect(package: &Path, below: &str, files: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(package.join(below)) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = format!("{below}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(package, &name, files);
        } else {
            files.insert(name);
        }
    }
}

#[test]
fn the_tables_of_files_list_every_file_and_no_other() {
    let Some(text) = architecture() else { return };
    for (name, directories) in
        [("sse-proto", &["src", "examples"][..]), ("sse-smol-server", &["src", "web", "examples"])]
    {
        let mut files = BTreeSet::new();
        for directory in directories {
            collect(&Path::new(WORKSPACE).join(name), directory, &mut files);
        }
        let mut unlisted = files.clone();
        for row in table(&text, &format!("\n## {name}\n"), "file") {
            // Names without a directory are beside the first name of their row.
            let beside = quoted(&row[0]).next().and_then(|first| first.rsplit_once('/'));
            let beside = beside.map_or(String::new(), |(directory, _)| format!("{directory}/"));
            for listed in quoted(&row[0]) {
                let places = [
                    listed.to_owned(),
                    format!("src/{listed}"),
                    format!("{beside}{listed}"),
                    format!("src/{beside}{listed}"),
                ];
                let is_listed = |file: &String| {
                    places.iter().any(|place| {
                        file == place || place.ends_with('/') && file.starts_with(place)
                    })
                };
                assert!(files.iter().any(is_listed), "{name} has no {listed}");
                unlisted.retain(|file| !is_listed(file));
            }
        }
        assert!(unlisted.is_empty(), "files of {name} that are not listed: {unlisted:#?}");
    }
}

#[test]
fn the_table_of_layers_is_that_of_the_test() {
    let Some(text) = architecture() else { return };
    let mut documented = BTreeSet::new();
    for row in table(&text, "\n## sse-smol-server\n", "layer") {
        let files: BTreeSet<String> = quoted(&row[1]).map(str::to_owned).collect();
        let below: BTreeSet<String> =
            row[2].split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        documented.insert((row[0].clone(), files, below));
    }
    let expected = LAYERS.iter().map(|(name, files, below)| {
        // All layers may import from the base.
        let below = below.iter().filter(|name| **name != "base");
        let below = match *name {
            "crate root" => BTreeSet::from(["all below".to_owned()]),
            _ => below.map(|name| (*name).to_owned()).collect(),
        };
        ((*name).to_owned(), files.iter().map(|file| (*file).to_owned()).collect(), below)
    });
    assert_eq!(documented, expected.collect());
}

/// A program that depends on this package alone has `http` and `sse_proto` by their re-exports.
#[test]
fn documentation_and_examples_import_from_the_package_alone() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeSet::new();
    collect(package, "src", &mut files);
    collect(package, "examples", &mut files);
    files.insert("README.md".to_owned());
    let mut shown = 0;
    for file in files {
        let is_code = file.starts_with("src/");
        for line in fs::read_to_string(package.join(&file)).unwrap().lines() {
            let comment = ["//!", "///"].iter().find_map(|mark| line.trim().strip_prefix(mark));
            let Some(code) = comment.or((!is_code).then_some(line)) else { continue };
            let Some(import) = code.trim().trim_start_matches("# ").strip_prefix("use ") else {
                continue;
            };
            shown += usize::from(import.starts_with("sse_smol_server::"));
            let is_foreign = ["http::", "sse_proto::"].iter().any(|name| import.starts_with(name));
            assert!(!is_foreign, "{file}: use {import}");
        }
    }
    assert!(shown > 50, "{shown} imports are not all");
}
