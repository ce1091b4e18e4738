//! A Rust source file as the rules see it: without comments, literals and test code.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::lab;

/// One file.
pub struct Source {
    /// From the repository's folder, such as `src/engine/mod.rs`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// The same lines with comments, string and character literals, and code under `#[cfg(test)]` blanked.
    pub code: String,
    /// Modules declared as `#[cfg(test)] mod NAME;`, by their path inside the crate.
    test_modules: Vec<Vec<String>>,
}

impl Source {
    /// Takes a file apart.
    pub fn new(path: &str, text: &str) -> Source {
        let mut code = blank_comments_and_literals(text);
        let mut test_modules = Vec::new();
        for range in test_items(&code) {
            test_modules.extend(declared_module(path, &text[range.clone()]));
            let blanked: String = code[range.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
            code.replace_range(range, &blanked);
        }
        Source { path: path.to_owned(), text: text.to_owned(), code, test_modules }
    }

    /// The module path inside the crate: `src/engine/mod.rs` is `[engine]`, `src/engine/step.rs` is `[engine, step]`.
    pub fn module(&self) -> Vec<String> {
        module_of(&self.path)
    }

    /// Places of `needle` in the code, as line numbers; the character before must not belong to a name.
    pub fn lines_with(&self, needle: &str) -> Vec<usize> {
        let named = |c: char| c.is_alphanumeric() || c == '_';
        let whole = |at: usize| !needle.starts_with(named) || !self.code[..at].ends_with(named);
        let places = self.code.match_indices(needle).map(|(at, _)| at);
        places.filter(|&at| whole(at)).map(|at| self.line(at)).collect()
    }

    /// The number of the line that holds byte `at`.
    pub fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// All `.rs` files under a folder of the repository, less those that only tests compile.
pub fn sources(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&lab::root().join(folder), &mut files);
    files.sort();
    assert!(!files.is_empty(), "no source file in {folder}");
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("source files are UTF-8");
        let relative = path.strip_prefix(lab::root()).expect("it is in the repository");
        Source::new(&relative.to_string_lossy(), &text)
    };
    let all: Vec<Source> = files.iter().map(read).collect();
    let tests: HashSet<Vec<String>> = all.iter().flat_map(|source| source.test_modules.iter().cloned()).collect();
    let is_test = |module: &[String]| (1..=module.len()).any(|length| tests.contains(&module[..length]));
    all.into_iter().filter(|source| !is_test(&source.module())).collect()
}

fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Every byte of a comment or literal becomes a blank; lines and places stay.
fn blank_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let previous = code.chars().next_back();
        let literal = literal_length(rest, previous);
        let length = literal.unwrap_or(first.len_utf8());
        let (taken, after) = rest.split_at(length);
        if literal.is_some() {
            code.extend(taken.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            code.push(first);
        }
        rest = after;
    }
    code
}

/// The length in bytes of the comment or literal that `text` begins with.
fn literal_length(text: &str, previous: Option<char>) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment_length(text));
    }
    if text.starts_with('"') {
        return Some(quoted_length(text, '"'));
    }
    let in_name = previous.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with('r') && (!in_name || matches!(previous, Some('b' | 'c'))) {
        let hashes = text[1..].chars().take_while(|&c| c == '#').count();
        if text[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = 2 + hashes;
            return Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()));
        }
    }
    // `'a'` and `'\n'` are characters, `'a` is a lifetime.
    let mut quoted = text.strip_prefix('\'')?.chars();
    let is_char = match quoted.next()? {
        '\\' => true,
        _ => quoted.next() == Some('\''),
    };
    is_char.then(|| quoted_length(text, '\''))
}

fn block_comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// What each `#[cfg(test)]` or `#[cfg(all(test, …))]` applies to: up to its semicolon or the end of its braces.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let starts = ["#[cfg(test)]", "#[cfg(all(test"].map(|attribute| code.match_indices(attribute).map(|(at, _)| at));
    starts.into_iter().flatten().map(|start| start..item_end(code, start)).collect()
}

fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0usize;
    for (at, c) in code[start..].char_indices() {
        match c {
            ';' if depth == 0 => return start + at + 1,
            '{' => depth += 1,
            '}' if depth == 1 => return start + at + 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code.len()
}

/// The module in `… mod NAME;` of a file, by its path inside the crate. A `#[path]` beside it is followed.
fn declared_module(file: &str, item: &str) -> Option<Vec<String>> {
    let (_, name) = item.strip_suffix(';')?.rsplit_once("mod ")?;
    if let Some((_, after)) = item.split_once("#[path = \"") {
        let (target, _) = after.split_once('"')?;
        let (folder, _) = file.rsplit_once('/')?;
        return Some(module_of(&format!("{folder}/{target}")));
    }
    let mut module = module_of(file);
    module.push(name.trim().to_owned());
    Some(module)
}
