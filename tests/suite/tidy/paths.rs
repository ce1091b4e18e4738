//! The paths that a source file names, `use` trees spread out and `crate`, `super` and `self` resolved.

use super::source::Source;

/// Every path of two segments or more, or in a `use`, with its line. `crate::` stays in front of our own.
pub fn paths(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < source.code.len() {
        let rest = &source.code[at..];
        if let Some(tree) = use_tree(rest, source.code[..at].chars().next_back()) {
            let line = source.line(at);
            let mut spread = Vec::new();
            spread_out("", tree, &mut spread);
            found.extend(spread.into_iter().map(|path| (line, resolve(source, &path))));
            at += "use ".len() + tree.len();
            continue;
        }
        let length = path_length(rest);
        if rest[..length].contains("::") {
            found.push((source.line(at), resolve(source, &rest[..length])));
        }
        at += length.max(rest.chars().next().map_or(1, char::len_utf8));
    }
    found
}

/// What stands between `use` and its semicolon, if the text begins with a `use`.
fn use_tree(text: &str, previous: Option<char>) -> Option<&str> {
    let after = text.strip_prefix("use ")?;
    let starts_word = previous.is_none_or(|c| !is_name(c));
    starts_word.then(|| &after[..after.find(';').unwrap_or(after.len())])
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of `a::b::c` at the start of the text; a lone name counts, so that we never start in its middle.
fn path_length(text: &str) -> usize {
    let mut length = 0;
    loop {
        let name = text[length..].chars().take_while(|&c| is_name(c)).map(char::len_utf8).sum::<usize>();
        if name == 0 {
            return length;
        }
        length += name;
        match text[length..].strip_prefix("::") {
            Some(next) if next.starts_with(is_name) => length += 2,
            _ => return length,
        }
    }
}

/// `a::{b, c::{d, e as f}}` is `a::b`, `a::c::d`, `a::c::e`.
fn spread_out(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    match tree.find('{') {
        None => {
            let name = tree.split(" as ").next().unwrap_or(tree).trim();
            found.push(format!("{prefix}{name}"));
        }
        Some(open) => {
            let inner = &tree[open + 1..];
            let prefix = format!("{prefix}{}", tree[..open].trim());
            for part in split_at_commas(inner.strip_suffix('}').unwrap_or(inner)) {
                spread_out(&prefix, part, found);
            }
        }
    }
}

/// Splits at the commas outside of braces.
fn split_at_commas(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// Turns `super::` and `self::` into `crate::…`.
fn resolve(source: &Source, path: &str) -> String {
    let mut segments: Vec<&str> = path.split("::").map(str::trim).collect();
    let module = source.module();
    let mut base: &[String] = &module;
    let mut relative = false;
    while let Some(&first) = segments.first() {
        match first {
            "super" => base = &base[..base.len().saturating_sub(1)],
            "self" if segments.len() > 1 => {}
            _ => break,
        }
        relative = true;
        segments.remove(0);
    }
    if !relative {
        return segments.join("::");
    }
    let absolute = ["crate"].into_iter().chain(base.iter().map(String::as_str)).chain(segments);
    absolute.collect::<Vec<_>>().join("::")
}
