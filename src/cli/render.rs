//! Shows findings: for a person at a terminal, for a log, for a machine, for a pull request.

use std::fmt;

use clap::ValueEnum;
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};
use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Severity};

/// `--format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: with colours and a drawing at a terminal, plain elsewhere.
    #[default]
    Text,
    /// One JSON object, with `format_version`.
    Json,
    /// GitHub's workflow commands: each finding at its line of the pull request.
    Github,
}

/// Text for people: `graphical` at a terminal.
pub fn text(findings: &[Diagnostic], graphical: bool) -> String {
    let mut out = String::new();
    for finding in findings {
        match graphical {
            true => out.push_str(&graphic(finding)),
            false => out.push_str(&format!("{finding}\n")),
        }
        out.push('\n');
    }
    out
}

fn graphic(finding: &Diagnostic) -> String {
    let mut out = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode());
    match handler.render_report(&mut out, &Graphic(finding)) {
        Ok(()) => out,
        Err(_) => format!("{finding}\n"),
    }
}

/// Findings as JSON: place, code and texts apart.
pub fn json(findings: &[Diagnostic]) -> Value {
    let one = |finding: &Diagnostic| {
        let place = finding.place.as_ref();
        let start = place.map(|place| place.file.line_column(place.span.start));
        let end = place.map(|place| place.file.line_column(place.span.end));
        json!({
            "code": finding.code.to_string(),
            "slug": finding.code.slug(),
            "severity": finding.severity.to_string(),
            "message": finding.message,
            "hint": finding.hint,
            "file": place.map(|place| place.file.name.clone()),
            "line": start.map(|(line, _)| line),
            "column": start.map(|(_, column)| column),
            "end_line": end.map(|(line, _)| line),
            "end_column": end.map(|(_, column)| column),
        })
    };
    Value::Array(findings.iter().map(one).collect())
}

/// Findings as GitHub's workflow commands, one a line.
pub fn github(findings: &[Diagnostic]) -> String {
    let mut out = String::new();
    for finding in findings {
        let mut properties = Vec::new();
        if let (Some(place), Some((file, line, column))) = (&finding.place, finding.position()) {
            let (end_line, end_column) = place.file.line_column(place.span.end);
            properties.push(format!("file={}", property(file)));
            properties.push(format!("line={line},endLine={end_line},col={column},endColumn={end_column}"));
        }
        properties.push(format!("title={}", property(&format!("{} {}", finding.code, finding.code.slug()))));
        let hint = finding.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        let message = data(&format!("{}{hint}", finding.message));
        out.push_str(&format!("::{} {}::{message}\n", finding.severity, properties.join(",")));
    }
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A finding as miette draws it.
#[derive(Debug)]
struct Graphic<'a>(&'a Diagnostic);

impl fmt::Display for Graphic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Graphic<'_> {}

impl miette::Diagnostic for Graphic<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(format!("{}[{}] {}", self.0.severity, self.0.code, self.0.code.slug())))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.0.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.0.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.place.as_ref().map(|place| place as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.0.place.as_ref()?;
        let length = place.span.len().max(1).min(place.file.text.len().saturating_sub(place.span.start));
        Some(Box::new(std::iter::once(LabeledSpan::new(None, place.span.start, length))))
    }
}

impl SourceCode for crate::diagnostic::Place {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let inner = self.file.text.read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.file.name.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}
