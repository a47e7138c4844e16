//! Which paths are visible: those without a hidden name below a watched directory.

use std::path::Path;

/// Returns the closest watched directory of a path, or `None` if there is none or a part of the
/// path below it is hidden.
pub(super) fn visible_from(path: &Path, is_watched: impl Fn(&Path) -> bool) -> Option<&Path> {
    for ancestor in path.ancestors() {
        if is_watched(ancestor) {
            return Some(ancestor);
        }
        if is_hidden(ancestor) {
            return None;
        }
    }
    None
}

/// Returns whether the last name in a path is hidden.
pub(super) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_is_what_is_hidden_below_the_directory() {
        let roots = ["/home/.dev/site", "/home/.dev/site/.well-known"].map(Path::new);
        for (path, visible) in [
            ("/home/.dev/site", true),
            ("/home/.dev/site/a/index.html", true),
            ("/home/.dev/site/.git/index", false),
            ("/home/.dev/site/a/.index.html.swp", false),
            ("/home/.dev/site/.well-known/x", true),
            ("/elsewhere", false),
        ] {
            let from = visible_from(Path::new(path), |path| roots.contains(&path));
            assert_eq!(from.is_some(), visible, "{path}");
        }
    }
}
