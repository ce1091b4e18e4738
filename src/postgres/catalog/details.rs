//! The rows of the details statement → [`TableDetails`].

use std::collections::BTreeMap;

use super::{TextRows, columns, required, unexpected};
use crate::error::Result;
use crate::table::{QualifiedName, TableDetails, UnfitIndex};

/// Reads what `check` says about tables beyond their images. `$1`: [`super::tables_by_name`]. Rows for [`parse_details`].
/// Never run by the daemon.
pub const DETAILS_SQL: &str = include_str!("details.sql");

/// Understands the rows of [`DETAILS_SQL`].
pub fn parse_details(rows: &TextRows) -> Result<BTreeMap<QualifiedName, TableDetails>> {
    let details = |row: &Vec<Option<String>>| {
        let [namespace, name, unfit_indexes, toastable] = columns(row, "table details")?;
        let name = QualifiedName {
            namespace: required(namespace, "namespace")?.to_owned(),
            name: required(name, "table name")?.to_owned(),
        };
        let refuse = |error: serde_json::Error| unexpected(&format!("table details: {error}"));
        let unfit_indexes: Vec<UnfitIndex> =
            unfit_indexes.map(serde_json::from_str).transpose().map_err(refuse)?.unwrap_or_default();
        let toastable: Vec<String> =
            toastable.map(serde_json::from_str).transpose().map_err(refuse)?.unwrap_or_default();
        Ok((name, TableDetails { unfit_indexes, toastable }))
    };
    rows.iter().map(details).collect()
}
