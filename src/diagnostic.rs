//! A finding about a text that a person wrote: code, diagnosis, hint, and where in the file it is.
//!
//! The core collects findings instead of stopping at the first, so that one run of `check` shows all of them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Code, Error};

/// A file's name, as people know it, and its whole text.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// For messages, such as `contracts/orders.yaml`.
    pub name: String,
    /// UTF-8.
    pub text: String,
}

impl SourceText {
    /// A text with its name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<SourceText> {
        Arc::new(SourceText { name: name.into(), text: text.into() })
    }

    /// Line and column of a byte offset, both from 1; columns count characters. Beyond the end: the end.
    pub fn line_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).map_or(0, |line| line.chars().count());
        (before.matches('\n').count() + 1, column + 1)
    }

    /// The byte at a line and column as JSON parsers count them: both from 1, columns in bytes.
    pub fn byte_at(&self, line: usize, column: usize) -> Range<usize> {
        let start: usize = self.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let at = start + column.saturating_sub(1);
        at..at + 1
    }

    /// A line's text without its end, from 1.
    pub fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or("")
    }
}

/// Whether a finding stops the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing may run with it.
    Error,
    /// It runs, and a promise is thinner than it looks.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// A place in a text: never more than one line, at least its first character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The text.
    pub file: Arc<SourceText>,
    /// Byte range, on character boundaries.
    pub span: Range<usize>,
}

impl Place {
    /// The place of a byte range; a range over several lines is cut to its first.
    pub fn new(file: &Arc<SourceText>, span: Range<usize>) -> Place {
        let start = floor_boundary(&file.text, span.start);
        let rest = file.text.get(start..floor_boundary(&file.text, span.end.max(start))).unwrap_or("");
        let first_line = rest.lines().next().unwrap_or("").trim_end();
        Place { file: Arc::clone(file), span: start..start + first_line.len() }
    }
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its code.
    pub code: Code,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong: lower-case, both sides of a mismatch.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// Where, unless it concerns no place.
    pub place: Option<Place>,
}

impl Diagnostic {
    /// A finding that nothing may run with.
    pub fn error(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, severity: Severity::Error, message: message.into(), hint: None, place: None }
    }

    /// A finding that does not stop anything.
    pub fn warning(code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, file: &Arc<SourceText>, span: Range<usize>) -> Diagnostic {
        self.place = Some(Place::new(file, span));
        self
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the next step, where there is one.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Diagnostic {
        self.hint = hint.or(self.hint);
        self
    }

    /// File name, line and column, for sorting and for machines.
    pub fn position(&self) -> Option<(&str, usize, usize)> {
        self.place.as_ref().map(|place| {
            let (line, column) = place.file.line_column(place.span.start);
            (place.file.name.as_str(), line, column)
        })
    }
}

/// As text without colours, for logs and pipes: diagnosis, place, the line with carets, hint.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.severity, self.code, self.message)?;
        if let Some(place) = &self.place {
            let (line, column) = place.file.line_column(place.span.start);
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            let text = place.file.line(line);
            // A tab stays a tab, so that the caret stands under its character whatever the tab's width.
            let indent: String = text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let width = place.file.text.get(place.span.clone()).map_or(0, |marked| marked.chars().count());
            write!(f, "\n{margin}--> {}:{line}:{column}", place.file.name)?;
            write!(f, "\n{margin} |\n{number} | {text}\n{margin} | {indent}{}", "^".repeat(width.max(1)))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

impl From<Vec<Diagnostic>> for Error {
    /// One error of all findings: the code of the first that is an error, every text.
    fn from(findings: Vec<Diagnostic>) -> Error {
        let errors: Vec<&Diagnostic> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
        match errors.as_slice() {
            [] => Error::definite(Code::Internal, "an error without a finding"),
            [only] if only.place.is_none() => {
                let error = Error::definite(only.code, only.message.clone());
                only.hint.iter().fold(error, |error, hint| error.hint(hint.clone()))
            }
            [first, ..] => {
                let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
                let head = match errors.len() {
                    1 => "one error".to_owned(),
                    count => format!("{count} errors"),
                };
                Error::definite(first.code, format!("{head}\n\n{}\n", texts.join("\n\n")))
                    .hint("`gimbal check` shows all findings")
            }
        }
    }
}

/// The known name that an unknown one was probably meant to be: at most a third of it differs.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (unknown.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (edits(unknown, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `did you mean …`, or else the whole list, if it is short enough to read.
pub fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>, what: &str) -> Option<String> {
    const LISTED_MAX: usize = 30;
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(unknown, known.iter().copied()) {
        Some(name) => Some(format!("did you mean `{name}`?")),
        None if known.is_empty() || known.len() > LISTED_MAX => None,
        None => {
            let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            Some(format!("{what}: {}", list.join(", ")))
        }
    }
}

/// Insertions, deletions, substitutions and swaps of neighbours that make one text the other.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let at = |line: &[usize], k: usize| line.get(k).copied().unwrap_or(usize::MAX - 1);
            let mut cost = (at(&last, j) + usize::from(left != right)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            if i > 0 && j > 0 && a.get(i - 1) == Some(right) && b.get(j - 1) == Some(left) {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_known_one() {
        assert_eq!(nearest("partitons", ["topic", "partitions", "owner"]), Some("partitions"));
        assert_eq!(nearest("onwer", ["topic", "partitions", "owner"]), Some("owner"));
        assert_eq!(nearest("zebra", ["topic", "partitions", "owner"]), None);
        assert_eq!(edits("abc", "acb"), 1);
        assert_eq!(edits("", "abc"), 3);
    }

    #[test]
    fn carets_stand_under_the_marked_characters() {
        let file = SourceText::new("a.yaml", "ä: 1\n  näme: größe\n");
        let start = file.text.find("größe").unwrap();
        let shown = Diagnostic::error(Code::ContractInvalid, "no").at(&file, start..start + 7).hint("yes").to_string();
        assert_eq!(shown, "error[E0102]: no\n --> a.yaml:2:9\n  |\n2 |   näme: größe\n  |         ^^^^^\n  hint: yes");
    }

    #[test]
    fn a_place_never_leaves_its_line_nor_splits_a_character() {
        let file = SourceText::new("a.yaml", "a:\n  ä: b\nc: d\n");
        assert_eq!(Place::new(&file, 0..12).span, 0..2);
        assert_eq!(Place::new(&file, 6..7).span, 5..7);
        assert_eq!(Place::new(&file, 900..901).span, file.text.len()..file.text.len());
    }
}
