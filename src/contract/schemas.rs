//! The `.avsc` files: each parsed once, all minors of a major judged against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::avro::{AvroSchema, SchemaProblem};
use crate::compat;
use crate::diagnostic::{Diagnostic, Severity, SourceText, nearest};
use crate::error::Code;
use crate::yaml::{self, Report, Text};

/// A schema's file name taken apart: `orders/1.0.avsc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SchemaPath<'a> {
    pub folder: &'a str,
    pub major: u32,
    pub minor: u32,
}

impl<'a> SchemaPath<'a> {
    /// The parts of `folder/major.minor.avsc`; none for any other path.
    pub fn parse(path: &'a str) -> Option<SchemaPath<'a>> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (major, minor) = name.strip_suffix(".avsc")?.split_once('.')?;
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| number.to_string() == text);
        Some(SchemaPath { folder, major: number(major)?, minor: number(minor)? })
    }

    /// What stands before the numbers: the folder with its `/`, or nothing.
    pub fn prefix(&self) -> String {
        if self.folder.is_empty() { String::new() } else { format!("{}/", self.folder) }
    }
}

/// A schema and its place in its major.
pub(super) struct CurrentSchema {
    /// From the file's name.
    pub minor: u32,
    /// Parsed.
    pub schema: Arc<AvroSchema>,
}

/// All `.avsc` files, by their path below the schemas folder, with `/` between folders.
pub(super) struct SchemaStore<'a> {
    files: &'a BTreeMap<String, Arc<SourceText>>,
    parsed: BTreeMap<String, Option<Arc<AvroSchema>>>,
    judged: BTreeSet<(String, u32)>,
    /// What was found in the schema files.
    pub findings: Vec<Diagnostic>,
}

impl<'a> SchemaStore<'a> {
    /// Nothing parsed yet.
    pub fn new(files: &'a BTreeMap<String, Arc<SourceText>>) -> SchemaStore<'a> {
        SchemaStore { files, parsed: BTreeMap::new(), judged: BTreeSet::new(), findings: Vec::new() }
    }

    /// The schema that a version names; all minors of its major are parsed and judged on the way.
    pub fn current(&mut self, report: &Report, named: &Text, major: u32) -> Option<CurrentSchema> {
        let Some(path) = SchemaPath::parse(&named.value) else {
            let message = format!("`{}` is no schema file of a version", named.value);
            report.error_with_hint(
                &named.span,
                message,
                format!("name it by major and minor: `orders/{major}.0.avsc`"),
            );
            return None;
        };
        if path.major != major {
            report.error(&named.span, format!("version {major} names a schema of major {}", path.major));
            return None;
        }
        if !self.files.contains_key(&named.value) {
            let hint = nearest(&named.value, self.files.keys().map(String::as_str));
            let finding = Diagnostic::error(Code::SchemaInvalid, format!("there is no schema file `{}`", named.value))
                .at(&report.file, named.span.clone())
                .maybe_hint(hint.map(|name| format!("did you mean `{name}`?")));
            report.push(finding);
            return None;
        }
        self.judge(report, named, &path);
        let schema = self.parsed.get(&named.value).cloned().flatten()?;
        Some(CurrentSchema { minor: path.minor, schema })
    }

    fn judge(&mut self, report: &Report, named: &Text, path: &SchemaPath<'_>) {
        let family: BTreeMap<u32, &String> = self
            .files
            .keys()
            .filter_map(|name| {
                let other = SchemaPath::parse(name)?;
                (other.folder == path.folder && other.major == path.major).then_some((other.minor, name))
            })
            .collect();
        for minor in (0..path.minor).filter(|minor| !family.contains_key(minor)) {
            let hint = "released schemas stay in the folder, so that every minor can be judged against them";
            let message = format!("`{}` is minor {}, but minor {minor} is not there", named.value, path.minor);
            report.error_with_hint(&named.span, message, hint);
        }
        if !self.judged.insert((path.folder.to_owned(), path.major)) {
            return;
        }
        let mut older: Vec<(&String, Arc<AvroSchema>)> = Vec::new();
        for name in family.values() {
            let Some(newer) = self.parse(name) else { continue };
            self.compare(&older, name, &newer);
            older.push((name, newer));
        }
    }

    fn parse(&mut self, path: &str) -> Option<Arc<AvroSchema>> {
        if let Some(known) = self.parsed.get(path) {
            return known.clone();
        }
        let file = self.files.get(path)?;
        let parsed = match AvroSchema::parse(&file.text) {
            Ok(schema) => {
                self.findings.extend(schema.warnings.iter().map(|problem| finding(file, problem)));
                Some(Arc::new(schema))
            }
            Err(problems) => {
                self.findings.extend(problems.iter().map(|problem| finding(file, problem)));
                None
            }
        };
        self.parsed.insert(path.to_owned(), parsed.clone());
        parsed
    }

    /// Reports what keeps `newer` from living beside its elders; what breaks with several of them is said once.
    fn compare(&mut self, older: &[(&String, Arc<AvroSchema>)], path: &str, newer: &AvroSchema) {
        let Some(file) = self.files.get(path) else { return };
        let mut said: BTreeSet<Option<String>> = BTreeSet::new();
        for (older_path, older) in older.iter().rev() {
            for problem in compat::full(older, newer) {
                if !said.insert(problem.field.clone()) {
                    continue;
                }
                let index = newer.record.fields.iter().position(|field| Some(&field.name) == problem.field.as_ref());
                let pointer = match (&problem.field, index) {
                    (Some(_), Some(index)) => format!("/fields/{index}"),
                    (Some(_), None) => "/fields".to_owned(),
                    (None, _) => "/name".to_owned(),
                };
                let message = format!("`{path}` is not compatible with `{older_path}`: {problem}");
                let finding = Diagnostic::error(Code::SchemaIncompatible, message).hint(problem.hint());
                self.findings.push(place(finding, file, &pointer));
            }
        }
    }
}

fn finding(file: &Arc<SourceText>, problem: &SchemaProblem) -> Diagnostic {
    let mut finding = Diagnostic::error(Code::SchemaInvalid, problem.message.clone()).maybe_hint(problem.hint.clone());
    if problem.warning {
        finding.severity = Severity::Warning;
    }
    match problem.line_column {
        Some((line, column)) => finding.at(file, file.byte_at(line, column)),
        None => place(finding, file, &problem.pointer),
    }
}

/// JSON is YAML, so the YAML tree knows where each part of a schema stands.
pub(super) fn place(finding: Diagnostic, file: &Arc<SourceText>, pointer: &str) -> Diagnostic {
    match yaml::parse(&file.text) {
        Ok(root) => {
            // A member's key says more than its value where the value is a whole list.
            let of_key = pointer == "/fields";
            finding.at(file, root.locate(pointer, of_key))
        }
        Err(_) => finding.at(file, 0..0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_file_is_named_by_its_major_and_minor() {
        assert_eq!(
            SchemaPath::parse("shop/orders/12.3.avsc"),
            Some(SchemaPath { folder: "shop/orders", major: 12, minor: 3 })
        );
        for path in ["orders/1.avsc", "orders/01.0.avsc", "orders/1.0.json", "orders/1.0.0.avsc", "1.x.avsc"] {
            assert_eq!(SchemaPath::parse(path), None, "{path}");
        }
    }
}
