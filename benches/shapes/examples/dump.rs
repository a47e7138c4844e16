//! Writes the shapes into a directory for programs in other languages: each stream as `NAME.sse`,
//! and their expected content and block ends as `shapes.json`.

use std::fs;
use std::path::PathBuf;

use shapes::Shape;

fn main() -> std::io::Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).expect("a directory"));
    fs::create_dir_all(&dir)?;
    let shapes: Vec<String> = Shape::all(1 << 20)
        .iter()
        .map(|shape| {
            let Shape { name, events, data, blocks, .. } = shape;
            fs::write(dir.join(format!("{name}.sse")), &shape.stream)?;
            Ok(format!(
                r#"{{"name":"{name}","events":{events},"data":{data},"blocks":{blocks:?}}}"#
            ))
        })
        .collect::<std::io::Result<_>>()?;
    fs::write(dir.join("shapes.json"), format!("[{}]", shapes.join(",\n")))
}
