//! What a table's image leaves out because no row depends on it, and what `check` needs to explain itself.

use serde::{Deserialize, Serialize};

/// What `check` knows of a table beyond its image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableDetails {
    /// Unique indexes that cannot identify rows, by name.
    pub unfit_indexes: Vec<UnfitIndex>,
    /// Names of the columns whose values PostgreSQL may store out of line (TOAST).
    pub toastable: Vec<String>,
}

/// A unique index that is not among [`super::TableImage::keys`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnfitIndex {
    /// The index's name.
    pub name: String,
    /// Names of its columns in index order; expressions are left out.
    pub columns: Vec<String>,
    /// Why it cannot identify rows.
    pub why: Unfit,
}

/// Why a unique index cannot identify rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unfit {
    /// It was not built to its end.
    Invalid,
    /// It is over an expression.
    Expression,
    /// It has a predicate.
    Partial,
    /// It belongs to a DEFERRABLE constraint.
    Deferrable,
    /// Texts that differ are equal in its collation.
    Collation,
    /// One of its columns may be null.
    Nullable,
}

impl Unfit {
    /// As the end of "index `x` is …".
    pub fn phrase(self) -> &'static str {
        match self {
            Unfit::Invalid => "invalid: it was not built to its end",
            Unfit::Expression => "over an expression",
            Unfit::Partial => "partial: rows outside its predicate may be equal",
            Unfit::Deferrable => "deferrable: inside a transaction two rows may be equal",
            Unfit::Collation => "of a collation in which different texts are equal",
            Unfit::Nullable => "over a column that may be null",
        }
    }

    /// What the table's owner may do.
    pub fn hint(self) -> &'static str {
        match self {
            Unfit::Invalid => "REINDEX INDEX CONCURRENTLY builds it anew",
            Unfit::Expression | Unfit::Partial => "add a unique index over the plain columns, without a predicate",
            Unfit::Deferrable => "add the constraint again without DEFERRABLE",
            Unfit::Collation => "add a unique column with a deterministic collation, such as \"C\"",
            Unfit::Nullable => "ALTER TABLE … ALTER COLUMN … SET NOT NULL",
        }
    }
}
