//! The imports of a source file.

use std::collections::BTreeSet;

/// What a file imports, and the identifiers that it uses otherwise.
#[derive(Default)]
pub(crate) struct Source {
    pub(crate) imports: Vec<Import>,
    pub(crate) used: BTreeSet<String>,
}

/// One path of a `use` declaration, or a path in code.
pub(crate) struct Import {
    /// The name that the path gets in the file. Empty for a glob and for a path in code.
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    /// Whether it is a re-export.
    pub(crate) is_public: bool,
}

/// The tokens of a file, without comments and literals: identifiers, `::`, and single characters.
struct Tokens<'t> {
    all: Vec<&'t str>,
    /// The index of the next token.
    next: usize,
}

impl Source {
    pub(crate) fn parse(text: &str) -> Self {
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let mut tokens = Tokens { all: tokens(code), next: 0 };
        let mut source = Self::default();
        while let Some(token) = tokens.take() {
            let before = tokens.next.checked_sub(2).map_or("", |before| tokens.all[before]);
            if token == "use" && tokens.peek() != "<" {
                source.declare(&mut tokens, &[], matches!(before, "pub" | ")"));
                continue;
            }
            let is_visibility = before == "in" && tokens.all[tokens.next - 3] == "(";
            if is_identifier(token) && !is_visibility {
                source.used.insert(token.to_owned());
                if before != "::" && tokens.peek() == "::" {
                    source.refer(&mut tokens, token);
                }
            }
        }
        source
    }

    /// Reads a tree of `use`, without the keyword.
    fn declare(&mut self, tokens: &mut Tokens<'_>, prefix: &[String], is_public: bool) {
        let mut path = prefix.to_vec();
        let mut add = |name: &str, path: Vec<String>| {
            self.imports.push(Import { name: name.to_owned(), path, is_public });
        };
        loop {
            match tokens.take() {
                Some("::") => {}
                Some("{") => {
                    while tokens.peek() != "}" {
                        self.declare(tokens, &path, is_public);
                        if tokens.peek() == "," {
                            tokens.take();
                        }
                    }
                    tokens.take();
                    return;
                }
                Some("*") => return add("", path),
                Some(name) => {
                    if name != "self" || path.is_empty() {
                        path.push(name.to_owned());
                    }
                    if tokens.peek() == "::" {
                        continue;
                    }
                    let mut name = path.last().cloned().unwrap_or_default();
                    if tokens.peek() == "as" {
                        tokens.take();
                        tokens.take().unwrap_or_default().clone_into(&mut name);
                    }
                    return add(&name, path);
                }
                None => return,
            }
        }
    }

    /// Reads the rest of a path in code.
    fn refer(&mut self, tokens: &mut Tokens<'_>, first: &str) {
        let mut path = vec![first.to_owned()];
        while tokens.peek() == "::" {
            tokens.take();
            if !is_identifier(tokens.peek()) {
                break;
            }
            path.extend(tokens.take().map(str::to_owned));
        }
        self.used.extend(path.iter().cloned());
        self.imports.push(Import { name: String::new(), path, is_public: false });
    }
}

impl<'t> Tokens<'t> {
    fn take(&mut self) -> Option<&'t str> {
        let token = self.all.get(self.next).copied();
        self.next += 1;
        token
    }

    /// Returns the next token, or an empty one at the end.
    fn peek(&self) -> &'t str {
        self.all.get(self.next).copied().unwrap_or_default()
    }
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphanumeric() || first == '_')
}

fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(len) = literal(rest) {
            len
        } else if rest.starts_with("::") {
            tokens.push(&rest[..2]);
            2
        } else if is_identifier(rest) {
            let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
            let end = end.unwrap_or(rest.len());
            tokens.push(&rest[..end]);
            end
        } else {
            if !first.is_whitespace() {
                tokens.push(&rest[..first.len_utf8()]);
            }
            first.len_utf8()
        };
        rest = &rest[len..];
    }
    tokens
}

/// Returns the length of the string or character literal that the code begins with, if it does.
fn literal(code: &str) -> Option<usize> {
    let raw = code.strip_prefix('b').unwrap_or(code);
    if let Some(quoted) = raw.strip_prefix('r') {
        let hashes = quoted.len() - quoted.trim_start_matches('#').len();
        if let Some(text) = quoted[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let text = &text[text.find(&end)? + end.len()..];
            return Some(code.len() - text.len());
        }
    }
    let quote = raw.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let mut chars = raw.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if quote == '\'' && first != '\\' && chars.clone().next()?.1 != '\'' {
        // A lifetime.
        return None;
    }
    let mut is_escaped = first == '\\';
    let mut end = if first == quote { 2 } else { 0 };
    for (at, char) in chars {
        if end > 0 {
            break;
        }
        if char == quote && !is_escaped {
            end = at + 1;
        }
        is_escaped = char == '\\' && !is_escaped;
    }
    (end > 0).then_some(code.len() - raw.len() + end)
}
