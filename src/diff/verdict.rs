//! What a change means for one contract version.

use super::SchemaChange;
use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;
use crate::table::{QualifiedName, ReplicaIdentity, UniqueKey};

/// What a change means for one contract version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It touches nothing that the contract uses.
    Unaffected,
    /// The mapping follows, and every promise holds.
    Followed,
    /// A promise cannot be kept.
    Broken(Code),
}

/// Judges a change for a contract version that binds the columns `bound` and whose key is fed by `key` (attribute numbers;
/// the key's columns are among the bound ones; `key` is empty for append-only contracts without one).
pub fn verdict(change: &SchemaChange, bound: &[i16], key: &[i16]) -> Verdict {
    let of_bound = |attnum: &i16, verdict| if bound.contains(attnum) { verdict } else { Verdict::Unaffected };
    match change {
        SchemaChange::ColumnAdded { .. } => Verdict::Unaffected,
        SchemaChange::ColumnDropped { attnum, .. } => of_bound(attnum, Verdict::Broken(Code::ColumnDropped)),
        SchemaChange::ColumnRenamed { attnum, .. } => of_bound(attnum, Verdict::Followed),
        SchemaChange::ColumnRetyped { attnum, .. } | SchemaChange::TypmodChanged { attnum, .. } => {
            // Whether the new type can feed the contract's fields its compilation says.
            of_bound(attnum, Verdict::Followed)
        }
        // A null that reaches a required field is refused by itself, when it comes; a key must be free of it by nature.
        SchemaChange::NullabilityChanged { attnum, not_null: false, .. } if key.contains(attnum) => {
            Verdict::Broken(Code::KeyLost)
        }
        SchemaChange::NullabilityChanged { attnum, .. } => of_bound(attnum, Verdict::Followed),
        // A new label that a map lacks is refused by itself, when it comes. A renamed one changed rows without an event.
        SchemaChange::LabelsChanged { attnum, removed, renamed, .. } => {
            match removed.is_empty() && renamed.is_empty() {
                true => of_bound(attnum, Verdict::Followed),
                false => of_bound(attnum, Verdict::Broken(Code::ColumnRetyped)),
            }
        }
        SchemaChange::ColumnUncertain { candidate, .. } => {
            of_bound(&candidate.attnum, Verdict::Broken(Code::IdentityUnknown))
        }
        SchemaChange::TableRenamed { .. } => Verdict::Followed,
        SchemaChange::ReplicaIdentityChanged { .. } if key.is_empty() => Verdict::Unaffected,
        SchemaChange::ReplicaIdentityChanged { to: ReplicaIdentity::Full, .. } => Verdict::Followed,
        SchemaChange::ReplicaIdentityChanged { columns, .. } => {
            match key.iter().all(|attnum| columns.iter().any(|(column, _)| column == attnum)) {
                true => Verdict::Followed,
                false => Verdict::Broken(Code::ReplicaIdentityLost),
            }
        }
        SchemaChange::KeyChanged { .. } if key.is_empty() => Verdict::Unaffected,
        SchemaChange::KeyChanged { to, .. } => {
            match to.iter().any(|unique| unique.attnums.iter().all(|attnum| key.contains(attnum))) {
                true => Verdict::Followed,
                false => Verdict::Broken(Code::KeyLost),
            }
        }
    }
}

impl Verdict {
    /// Fails if the verdict is broken: a definite error with both sides of the change. `contract` names the contract and
    /// its version, such as `orders v3`; `at` is the begin LSN of the transaction that brought the change.
    pub fn check(self, change: &SchemaChange, table: &QualifiedName, contract: &str, at: Lsn) -> Result<()> {
        match self {
            Verdict::Unaffected | Verdict::Followed => Ok(()),
            Verdict::Broken(code) => {
                let diagnosis = format!("{} (contract `{contract}` {}) at {at}", describe(change, table), needs(code));
                Err(Error::definite(code, diagnosis).hint(hint(code)))
            }
        }
    }
}

/// The change in words, with both sides.
pub fn describe(change: &SchemaChange, table: &QualifiedName) -> String {
    match change {
        SchemaChange::ColumnAdded { name, type_name, .. } => {
            format!("column `{name}` of type `{type_name}` came to `{table}`")
        }
        SchemaChange::ColumnDropped { name, type_name, .. } => {
            format!("column `{name}` of type `{type_name}` was dropped from `{table}`")
        }
        SchemaChange::ColumnRenamed { from, to, .. } => format!("column `{from}` of `{table}` was renamed to `{to}`"),
        SchemaChange::ColumnRetyped { name, from, to, .. } | SchemaChange::TypmodChanged { name, from, to, .. } => {
            format!("column `{name}` of `{table}` changed type from `{from}` to `{to}`")
        }
        SchemaChange::NullabilityChanged { name, not_null: true, .. } => {
            format!("column `{name}` of `{table}` became NOT NULL")
        }
        SchemaChange::NullabilityChanged { name, not_null: false, .. } => {
            format!("column `{name}` of `{table}` is no longer NOT NULL")
        }
        SchemaChange::LabelsChanged { name, added, removed, renamed, .. } => {
            let mut sides: Vec<String> = renamed.iter().map(|(from, to)| format!("`{from}` became `{to}`")).collect();
            sides.extend(removed.iter().map(|label| format!("`{label}` went")));
            sides.extend(added.iter().map(|label| format!("`{label}` came")));
            format!("the labels of column `{name}` of `{table}` changed: {}", sides.join(", "))
        }
        SchemaChange::ColumnUncertain { candidate, listed } => {
            let mut may_be: Vec<String> = candidate.places.iter().map(|(_, name)| format!("`{name}`")).collect();
            may_be.extend(candidate.maybe_unlisted.then(|| "gone".to_owned()));
            format!(
                "column `{}` of `{table}` (attribute {}) cannot be told for certain: the stream now lists {}, and it may be {}",
                candidate.name,
                candidate.attnum,
                quoted(listed),
                may_be.join(" or "),
            )
        }
        SchemaChange::TableRenamed { from, to } => format!("table `{from}` was renamed to `{to}`"),
        SchemaChange::ReplicaIdentityChanged { from, to, columns } => {
            let names: Vec<String> = columns.iter().map(|(_, name)| name.clone()).collect();
            let (from, to) = (identity_name(*from), identity_name(*to));
            format!("the replica identity of `{table}` changed from {from} to {to} and now has {}", quoted(&names))
        }
        SchemaChange::KeyChanged { from, to } => {
            let names = |keys: &[UniqueKey]| quoted(&keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>());
            format!(
                "the unique indexes that can identify rows of `{table}` changed from {} to {}",
                names(from),
                names(to)
            )
        }
    }
}

fn quoted(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        _ => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

fn identity_name(identity: ReplicaIdentity) -> &'static str {
    match identity {
        ReplicaIdentity::Default => "DEFAULT",
        ReplicaIdentity::Full => "FULL",
        ReplicaIdentity::Index => "USING INDEX",
        ReplicaIdentity::Nothing => "NOTHING",
    }
}

/// What the contract needs, where the code alone tells.
fn needs(code: Code) -> &'static str {
    match code {
        Code::KeyLost => "needs its key unique and NOT NULL",
        Code::ReplicaIdentityLost => "needs its key in every old row",
        _ => "reads it",
    }
}

/// The next step.
fn hint(code: Code) -> &'static str {
    match code {
        Code::KeyLost => "restore the unique index or the NOT NULL of the key's columns, then start again",
        Code::ReplicaIdentityLost => {
            "restore a replica identity that covers the key; rows that were changed in between need a new snapshot: \
             start with a new slot and new state"
        }
        Code::IdentityUnknown => {
            "change the columns of a table in separate transactions, some seconds apart; to go on, start with a new slot and \
             new state, which binds the columns by their names of today"
        }
        _ => {
            "publish a new major version of the contract that maps what the table has now, or restore the column; then start \
             with a new slot and new state"
        }
    }
}
