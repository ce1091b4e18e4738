//! Retyped columns: what a contract that reads one may still promise.
//!
//! Whether the new type can feed the field at all the compilation says. Here it is about the rest: some values may not fit,
//! and ALTER TABLE may have written other values into every row, of which the log has no event.

use crate::contract::{ContractKind, FeedSource};
use crate::diff::SchemaChange;
use crate::engine::Engine;
use crate::engine::table::{Contract, ContractIndex};
use crate::pairs::axes::Kind;
use crate::pairs::{self, Pair};
use crate::position::Position;
use crate::state::Progress;
use crate::table::{SourceType, TableVersion};

/// What a retype leaves of a contract's promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Risk {
    /// Something may not fit, or not be level.
    pub at_risk: bool,
    /// Rows that no event shows may have other values now.
    pub recoded: bool,
}

/// What a change leaves of the promise of a contract that follows it.
pub(super) fn risk(contract: &Contract, change: &SchemaChange, old: &TableVersion, new: &TableVersion) -> Risk {
    let attnum = match change {
        SchemaChange::ColumnRetyped { attnum, .. } | SchemaChange::TypmodChanged { attnum, .. } => *attnum,
        _ => return Risk::default(),
    };
    if !contract.bound().contains(&attnum) {
        return Risk::default();
    }
    let source = |version: &TableVersion| version.place(attnum).and_then(|(_, column)| column.source_type.clone());
    let (Some(old), Some(new)) = (source(old), source(new)) else { return Risk { at_risk: true, recoded: true } };
    let recoded = !keeps_values(&old, &new);
    Risk { at_risk: recoded || checked(contract, attnum, &new), recoded }
}

impl Engine {
    /// Rows may have other values, of which no event tells: a topic that shows the current state is repaired.
    pub(super) fn recoded(&mut self, index: ContractIndex, position: Position) {
        let Some(contract) = self.contracts.get(index) else { return };
        let live = matches!(contract.entry.progress, Progress::Live { .. } | Progress::Snapshotting);
        if live && contract.version.kind == ContractKind::State && !contract.version.key.is_empty() {
            self.queue_repair(index, position);
        }
    }
}

/// Whether a field that reads the column is fed by a pair in which not every value fits.
fn checked(contract: &Contract, attnum: i16, source: &SourceType) -> bool {
    contract.version.feeds.iter().any(|feed| {
        let reads = contract.entry.bindings.get(&feed.field).is_some_and(|binding| binding.attnum == attnum);
        let (true, FeedSource::Column { options, .. }) = (reads, &feed.source) else { return false };
        let field = contract.version.schema.fields.iter().find(|field| field.name == feed.field);
        field.is_some_and(|field| pairs::classify(source, &field.ty, options) == Pair::Checked)
    })
}

/// True for conversions that give every value the same text, unless somebody says otherwise by USING.
fn keeps_values(old: &SourceType, new: &SourceType) -> bool {
    let text = |kind| matches!(kind, Kind::Text | Kind::Varchar | Kind::Char);
    match (Kind::of(old), Kind::of(new)) {
        (Kind::Int2, Kind::Int4 | Kind::Int8) | (Kind::Int4, Kind::Int8) => true,
        (old, new) => text(old) && text(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wider_integers_and_other_texts_keep_the_values() {
        use SourceType::{Float4, Float8, Int2, Int4, Int8, Text, Varchar};
        for (old, new) in [(Int2, Int4), (Int4, Int8), (Varchar, Text), (Text, Varchar), (Varchar, Varchar)] {
            assert!(keeps_values(&old, &new), "{old:?} to {new:?}");
        }
        for (old, new) in [(Int8, Int4), (Int4, Text), (Text, Int4), (Float4, Float8), (Float8, Float8)] {
            assert!(!keeps_values(&old, &new), "{old:?} to {new:?}");
        }
    }
}
