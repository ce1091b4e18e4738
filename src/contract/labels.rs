//! Enum labels and symbols: what a `map` names must be there, and what it forgets is said.

use std::ops::Range;

use super::format::{EntryFeed, FieldEntry};
use super::version::Subject;
use crate::avro::{BaseType, Field};
use crate::diagnostic::suggestion;
use crate::error::Code;
use crate::table::{ColumnImage, SourceType};
use crate::yaml::Text;

/// The `map` and `else` of an entry.
#[derive(Clone, Copy, Default)]
pub(super) struct Labels<'a> {
    /// None without `map`.
    map: Option<&'a [(Text, Text)]>,
    otherwise: Option<&'a Text>,
}

impl<'a> Labels<'a> {
    /// Those of an entry; none for a field that has no entry.
    pub fn of(entry: Option<&'a FieldEntry>) -> Labels<'a> {
        match entry.map(|entry| &entry.feed) {
            Some(EntryFeed::Column { map, otherwise, .. }) => {
                Labels { map: map.as_ref().map(|map| map.value.as_slice()), otherwise: otherwise.as_ref() }
            }
            _ => Labels::default(),
        }
    }

    /// Whether every target is a symbol of the field's enum; what is not is reported.
    pub fn targets_fit(&self, subject: &Subject<'_>, field: &Field) -> bool {
        let BaseType::Enum { symbols, name, .. } = &field.ty.base else { return true };
        let mut fit = true;
        for target in self.map.unwrap_or_default().iter().map(|(_, target)| target).chain(self.otherwise) {
            if !symbols.contains(&target.value) {
                let hint = suggestion(&target.value, symbols.iter().map(String::as_str), "its symbols");
                let message = format!("enum `{name}` has no symbol `{}`", target.value);
                subject.error(Code::ContractInvalid, &target.span, message, hint);
                fit = false;
            }
        }
        fit
    }

    /// Reports labels that the column's enum lacks, and warns of those that nothing takes.
    pub fn sources_fit(&self, subject: &Subject<'_>, field: &Field, column: &ColumnImage, span: &Range<usize>) {
        let SourceType::Enum { labels } = &column.source_type else { return };
        let known: Vec<&str> = labels.iter().map(|label| label.label.as_str()).collect();
        let map = self.map.unwrap_or_default();
        for (from, _) in map.iter().filter(|(from, _)| !known.contains(&from.value.as_str())) {
            let message = format!("`{}` of column `{}` has no label `{}`", column.type_name, column.name, from.value);
            let hint = suggestion(&from.value, known.iter().copied(), "its labels");
            subject.error(Code::SourceUnknown, &from.span, message, hint);
        }
        let taken = |label: &str| match (&field.ty.base, self.map) {
            (_, Some(map)) => self.otherwise.is_some() || map.iter().any(|(from, _)| from.value == label),
            (BaseType::Enum { symbols, .. }, None) => symbols.iter().any(|symbol| symbol == label),
            _ => true,
        };
        let missing: Vec<&str> = known.iter().copied().filter(|label| !taken(label)).collect();
        if !missing.is_empty() {
            let labels = missing.join("`, `");
            let message = format!("field `{}` has no place for label `{labels}` of `{}`", field.name, column.type_name);
            let hint = "such a row stops the daemon: map the label, or say `else:`";
            subject.warning(Code::ValueRefused, span, message, Some(hint.into()));
        }
    }
}
