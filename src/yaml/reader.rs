//! Reads mappings key by key: what is missing, of the wrong kind, doubled or unknown is reported, and reading goes on.

use std::cell::RefCell;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use super::{Entry, Node, NodeKind};
use crate::diagnostic::{Diagnostic, SourceText, suggestion};
use crate::error::Code;

/// A scalar's text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text.
    pub value: String,
    /// Byte range.
    pub span: Range<usize>,
}

/// The file being read, and what was found in it so far.
pub struct Report {
    /// The file.
    pub file: Arc<SourceText>,
    /// The code of a finding about the file's form.
    pub code: Code,
    findings: RefCell<Vec<Diagnostic>>,
}

impl Report {
    /// Nothing found yet.
    pub fn new(file: &Arc<SourceText>, code: Code) -> Report {
        Report { file: Arc::clone(file), code, findings: RefCell::default() }
    }

    /// Adds a finding.
    pub fn push(&self, finding: Diagnostic) {
        self.findings.borrow_mut().push(finding);
    }

    /// Adds an error about the file's form.
    pub fn error(&self, span: &Range<usize>, message: impl Into<String>) {
        self.push(Diagnostic::error(self.code, message).at(&self.file, span.clone()));
    }

    /// The same with the next step.
    pub fn error_with_hint(&self, span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Diagnostic::error(self.code, message).at(&self.file, span.clone()).hint(hint));
    }

    /// Parses the file's text; what is no YAML is reported.
    pub fn parse(&self) -> Option<Node> {
        self.parse_text(&self.file.text)
    }

    /// Parses a text of which the file's is a copy with secrets blotted out, byte for byte as long.
    pub fn parse_text(&self, text: &str) -> Option<Node> {
        match super::parse(text) {
            Ok(node) => Some(node),
            Err(malformed) => {
                self.error(&malformed.span, malformed.message);
                None
            }
        }
    }

    /// The scalar's text; anything else is reported.
    pub fn text(&self, what: &str, node: &Node) -> Option<Text> {
        match node.scalar() {
            Some(value) => Some(Text { value: value.to_owned(), span: node.span.clone() }),
            None => {
                self.error(&node.span, format!("{what} must be a text, not {}", node.describe()));
                None
            }
        }
    }

    /// The list's scalars; anything else is reported.
    pub fn texts(&self, what: &str, node: &Node) -> Option<Vec<Text>> {
        match &node.kind {
            NodeKind::Sequence(items) => {
                Some(items.iter().filter_map(|item| self.text(&format!("an entry of {what}"), item)).collect())
            }
            _ => {
                let message = format!("{what} must be a list, not {}", node.describe());
                self.error_with_hint(&node.span, message, "write a list in brackets: [a, b]");
                None
            }
        }
    }

    /// All findings.
    pub fn into_findings(self) -> Vec<Diagnostic> {
        self.findings.into_inner()
    }
}

/// A mapping being read.
pub struct MapReader<'a> {
    report: &'a Report,
    what: String,
    span: Range<usize>,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> MapReader<'a> {
    /// Begins to read; `what` names the mapping in messages. Anything but a mapping is reported.
    pub fn new(report: &'a Report, what: impl Into<String>, node: &'a Node) -> Option<MapReader<'a>> {
        let what = what.into();
        let NodeKind::Mapping(entries) = &node.kind else {
            report.error(&node.span, format!("{what} must be a mapping, not {}", node.describe()));
            return None;
        };
        for (at, entry) in entries.iter().enumerate() {
            let Some(name) = entry.key.scalar() else {
                report.error(&entry.key.span, format!("a key of {what} must be a text, not {}", entry.key.describe()));
                continue;
            };
            if entries.iter().take(at).any(|earlier| earlier.key.scalar() == Some(name)) {
                report.error(&entry.key.span, format!("`{name}` is given twice in {what}"));
            }
        }
        Some(MapReader { report, what, span: node.span.clone(), entries, known: Vec::new() })
    }

    /// The entry of a key; a key without a value counts as absent, and is reported.
    pub fn entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        let found = self.entry_or_null(key)?;
        if found.value.is_null() {
            self.report.error(&found.key.span, format!("`{key}` has no value"));
            return None;
        }
        Some(found)
    }

    /// The entry of a key, null included.
    pub fn entry_or_null(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key.scalar() == Some(key))
    }

    /// The value of a key.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text of a key.
    pub fn text(&mut self, key: &'static str) -> Option<Text> {
        let node = self.value(key)?;
        self.report.text(&format!("`{key}`"), node)
    }

    /// The text of a key that must be there.
    pub fn required(&mut self, key: &'static str) -> Option<Text> {
        if !self.entries.iter().any(|entry| entry.key.scalar() == Some(key)) {
            self.known.push(key);
            self.missing(key);
            return None;
        }
        self.text(key)
    }

    /// Reports that a key is not there.
    pub fn missing(&self, key: &str) {
        // The first key is a better place than the mapping's start, which may be a brace or a line before it.
        let span = self.entries.first().map_or(&self.span, |entry| &entry.key.span);
        self.report.error(span, format!("{} lacks `{key}`", self.what));
    }

    /// A number, a boolean or anything else that parses from its text; `expected` says what in the message.
    pub fn parsed<T: FromStr>(&mut self, key: &'static str, expected: &str) -> Option<T> {
        let text = self.text(key)?;
        match text.value.parse() {
            Ok(value) => Some(value),
            Err(_) => {
                self.report.error(&text.span, format!("`{key}` must be {expected}, not `{}`", text.value));
                None
            }
        }
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let hint = suggestion(&text.value, words.iter().map(|(word, _)| *word), "one of");
        let finding = Diagnostic::error(self.report.code, format!("`{key}` cannot be `{}`", text.value));
        self.report.push(finding.at(&self.report.file, text.span).maybe_hint(hint));
        None
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<Text>> {
        let node = self.value(key)?;
        self.report.texts(&format!("`{key}`"), node)
    }

    /// Whether a key is given.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key.scalar() == Some(key))
    }

    /// Where the mapping stands.
    pub fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// Reports every key that was not asked for.
    pub fn finish(self) {
        for entry in self.entries {
            let Some(name) = entry.key.scalar().filter(|name| !self.known.contains(name)) else { continue };
            let hint = suggestion(name, self.known.iter().copied(), "known keys");
            let finding = Diagnostic::error(self.report.code, format!("{} knows no key `{name}`", self.what));
            self.report.push(finding.at(&self.report.file, entry.key.span.clone()).maybe_hint(hint));
        }
    }
}
