//! Names that Avro, Kafka and file systems allow, proposed from names that only PostgreSQL does.

use std::collections::BTreeSet;

use crate::table::QualifiedName;

/// Longest contract name that is drafted; PostgreSQL's own limit is 63 bytes for each part.
const CONTRACT_LENGTH_MAX: usize = 90;

/// The nearest name that Avro allows: other characters become `_`, and a digit gets one before it.
pub fn avro_name(name: &str) -> String {
    let mut legal: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if legal.is_empty() || legal.starts_with(|c: char| c.is_ascii_digit()) {
        legal.insert(0, '_');
    }
    legal
}

/// A contract name for a table: the table's own, after its namespace unless that is `public`.
pub(super) fn contract_name(table: &QualifiedName, taken: &mut BTreeSet<String>) -> String {
    let full = match table.namespace.as_str() {
        "public" => table.name.clone(),
        namespace => format!("{namespace}_{}", table.name),
    };
    let legal: String = full
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .take(CONTRACT_LENGTH_MAX)
        .collect();
    unique(&legal, '_', taken)
}

/// The name itself, or with the first number that makes it one that is not taken. Case does not count: contract
/// names become file names.
pub(super) fn unique(name: &str, separator: char, taken: &mut BTreeSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2u32;
    while taken.iter().any(|other| other.eq_ignore_ascii_case(&candidate)) {
        candidate = format!("{name}{separator}{number}");
        number = number.saturating_add(1);
    }
    taken.insert(candidate.clone());
    candidate
}
