//! Findings and how they are printed.

use serde_json::{Value as Json, json};

use crate::diagnostic::Severity;
use crate::error::{Code, Error};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check's fixed name, such as `wal-level`.
    pub check: &'static str,
    /// Where `docs/errors.md` has more.
    pub code: Code,
    /// A warning alone is no reason for a non-zero exit.
    pub severity: Severity,
    /// What is and what must be.
    pub what: String,
    /// What mends it.
    pub fix: Fix,
}

/// What mends a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Statements for `psql` on the source's database, as a superuser or the tables' owner.
    Sql(String),
    /// The same, and then a restart of the server.
    SqlAndRestart(String),
    /// A command for a shell.
    Shell(String),
    /// An entry of the config: its path, and the value as YAML.
    Config {
        /// Such as `source.slot`.
        key: String,
        /// Such as `gimbal_shop_2`.
        value: String,
    },
    /// Nothing that could be pasted: the next step in words.
    Advice(String),
}

impl Finding {
    /// A reason not to run, or to act at once.
    pub(super) fn error(check: &'static str, code: Code, what: impl Into<String>, fix: Fix) -> Finding {
        Finding { check, code, severity: Severity::Error, what: what.into(), fix }
    }

    /// Something that works, and will not always.
    pub(super) fn warning(check: &'static str, code: Code, what: impl Into<String>, fix: Fix) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(check, code, what, fix) }
    }

    /// What kept the doctor from looking would keep the daemon from running.
    pub(super) fn of_error(check: &'static str, error: &Error) -> Finding {
        let hint = error.hint_text().unwrap_or("see the error's section in docs/errors.md");
        Finding::error(check, error.code(), error.diagnosis(), Fix::Advice(hint.to_owned()))
    }
}

impl Fix {
    /// Where it is to be run or written, and the text to paste.
    pub fn parts(&self) -> (&'static str, String) {
        match self {
            Fix::Sql(text) => ("sql", text.clone()),
            Fix::SqlAndRestart(text) => ("sql, then restart the server", text.clone()),
            Fix::Shell(text) => ("shell", text.clone()),
            Fix::Config { key, value } => ("config", format!("{key}: {value}")),
            Fix::Advice(text) => ("advice", text.clone()),
        }
    }
}

/// All findings, in the order of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Errors and warnings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings have this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// For people: a finding is what is wrong and, below it, the fix.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for finding in &self.findings {
            let (place, text) = finding.fix.parts();
            out.push_str(&format!("{}[{}] {}: {}\n", finding.severity, finding.code, finding.check, finding.what));
            out.push_str(&format!("  fix ({place}): {text}\n\n"));
        }
        let count = |severity, one: &str| match self.count(severity) {
            1 => format!("1 {one}"),
            number => format!("{number} {one}s"),
        };
        match self.findings.is_empty() {
            true => out.push_str("nothing is wrong\n"),
            false => {
                out.push_str(&format!(
                    "{}, {}\n",
                    count(Severity::Error, "error"),
                    count(Severity::Warning, "warning")
                ));
            }
        }
        out
    }

    /// For machines.
    pub fn json(&self) -> Json {
        let one = |finding: &Finding| {
            let (place, text) = finding.fix.parts();
            json!({
                "check": finding.check,
                "code": finding.code.to_string(),
                "slug": finding.code.slug(),
                "severity": finding.severity.to_string(),
                "what": finding.what,
                "fix": {"place": place, "text": text},
            })
        };
        json!({
            "format_version": 1,
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "findings": self.findings.iter().map(one).collect::<Vec<_>>(),
        })
    }
}
