//! A projection: one contract version compiled against one table version, so that a row costs only copies and parses.
//!
//! ```text
//!  ContractVersion + bindings + TableVersion ── compile ──▶ Projection
//!                                                              │ key, value: one step a field
//!  Row (cells over pgoutput's text) ───────────────────────────┴──▶ 0x00, schema id, Avro body ─▶ the batch's arena
//! ```
//!
//! Absent on purpose: no catalog is asked and no pair is judged while a row passes; columns that no step reads are
//! never looked at; nothing is allocated.

use std::collections::BTreeMap;

use crate::contract::{ContractVersion, JsonPath};
use crate::error::{Code, Error, Result};
use crate::row::{Datum, Row};
use crate::table::TableVersion;

mod array;
mod binary;
mod calendar;
mod compile;
mod constant;
mod convert;
mod decimal;
pub(crate) mod encode;
mod expr;
mod integer;
mod json;
mod key_text;
mod mask;
mod number;
mod reason;
mod scratch;
mod text;

pub use constant::encode_constant;
pub use key_text::key_texts;
pub use reason::Reason;

use convert::Conversion;
use expr::Formula;
use json::Found;
use scratch::Scratch;

/// The registry's ids of a contract version's schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaIds {
    /// Absent for contracts without key.
    pub key: Option<u32>,
    /// The current minor's.
    pub value: u32,
}

/// A compiled mapping. Immutable: shared between threads by `Arc`, replaced as a whole.
#[derive(Debug)]
pub struct Projection {
    key: Option<Body>,
    value: Body,
    key_places: Box<[usize]>,
    /// By place: whether key or value reads it.
    reads: Box<[bool]>,
    names: Names,
}

/// A framed record.
#[derive(Debug)]
struct Body {
    /// Confluent's frame.
    frame: [u8; 5],
    /// In schema order.
    steps: Box<[Step]>,
}

/// One schema field.
#[derive(Debug)]
struct Step {
    /// Its index in the value schema.
    field: u16,
    feed: StepFeed,
}

#[derive(Debug)]
enum StepFeed {
    /// Encoded at compile time.
    Const(Box<[u8]>),
    Column {
        place: usize,
        /// Where in the column's document the value is.
        path: Option<JsonPath>,
        /// The byte before a value that is not null, where the field is a union.
        branch: Option<u8>,
        /// What a null is, encoded at compile time, unless it is an error.
        null: Option<Box<[u8]>>,
        /// True if a value that does not fit becomes what a null is.
        fall_back: bool,
        convert: Conversion,
    },
    /// Worked out from several columns.
    Formula { formula: Formula, branch: Option<u8>, null: Option<Box<[u8]>>, fall_back: bool, convert: Conversion },
}

/// What messages call things.
#[derive(Debug)]
struct Names {
    contract: String,
    major: u32,
    table: String,
    /// By index of the value schema's field.
    fields: Box<[FieldNames]>,
}

#[derive(Debug)]
struct FieldNames {
    field: String,
    target: String,
    /// Column and its type; absent for constants.
    column: Option<(String, String)>,
}

/// A value that cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// Index of the field in the value schema.
    pub field: u16,
    /// What is wrong.
    pub reason: Reason,
}

/// Compiles a checked contract version for a table version. `bindings` has the attribute number of each
/// of its bindings, see [`crate::contract::Feed::bindings`].
///
/// Errors: `ColumnDropped`, `IdentityUnknown` (a column or its type is not certain), `PairRefused`, `KeyInvalid`,
/// `ContractInvalid` (a constant that does not fit), `SourceUnknown` (a text of `from` is not bound).
pub fn compile(
    contract: &ContractVersion,
    bindings: &BTreeMap<String, i16>,
    table: &TableVersion,
    ids: SchemaIds,
) -> Result<Projection> {
    compile::Compiler { contract, bindings, table, ids }.compile()
}

impl Projection {
    /// Appends the row's framed key. Two rows have equal keys exactly if these bytes are equal.
    ///
    /// Appends nothing for a contract without key. On an error the caller truncates `out` to what it was.
    pub fn key(&self, row: Row<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
        match &self.key {
            Some(key) => key.encode(row, out),
            None => Ok(()),
        }
    }

    /// Appends the row's framed value. On an error the caller truncates `out` to what it was.
    pub fn value(&self, row: Row<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
        self.value.encode(row, out)
    }

    /// Whether the contract has a key; without, [`Projection::key`] appends nothing.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Places of the columns that make the key, in its order.
    pub fn key_places(&self) -> &[usize] {
        &self.key_places
    }

    /// Whether key or value needs the column at this place.
    pub fn reads(&self, place: usize) -> bool {
        self.reads.get(place).copied().unwrap_or(false)
    }

    /// Names of the value's fields that read one of these places, in the schema's order.
    pub fn fields_reading(&self, places: &[usize]) -> impl Iterator<Item = &str> {
        let reads = |step: &&Step| step.feed.places().iter().any(|place| places.contains(place));
        let name = |step: &Step| self.names.fields.get(usize::from(step.field)).map(|names| names.field.as_str());
        self.value.steps.iter().filter(reads).filter_map(name)
    }

    /// The definite error for a value: contract, field, column, both types, reason and hint; never the value.
    pub fn describe(&self, error: &ValueError) -> Error {
        let Names { contract, major, table, fields } = &self.names;
        let Some(FieldNames { field, target, column: Some((column, source)) }) = fields.get(usize::from(error.field))
        else {
            return Error::definite(Code::Internal, format!("contract `{contract}` v{major} has no such field"));
        };
        let of = format!("column `{column}` (`{source}`) of `{table}`");
        let field = format!("field `{field}` (`{target}`) of contract `{contract}` v{major}");
        let (code, diagnosis) = match error.reason {
            Reason::Null => (Code::ValueNull, format!("{of} is null, and {field} must not be null")),
            Reason::Unchanged => {
                (Code::ValueUnchanged, format!("{of} did not change, so the stream does not carry it for {field}"))
            }
            reason => {
                let (reason, code) = (reason.diagnosis(), reason.code());
                (Code::ValueRefused, format!("a value of {of} does not fit {field}: {reason} (`{code}`)"))
            }
        };
        Error::definite(code, diagnosis).hint(error.reason.hint())
    }
}

impl Body {
    #[inline]
    fn encode(&self, row: Row<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
        out.extend_from_slice(&self.frame);
        for step in &self.steps {
            step.encode(row, out).map_err(|reason| ValueError { field: step.field, reason })?;
        }
        Ok(())
    }
}

impl StepFeed {
    /// Places that it reads.
    fn places(&self) -> &[usize] {
        match self {
            StepFeed::Const(_) => &[],
            StepFeed::Column { place, .. } => std::slice::from_ref(place),
            StepFeed::Formula { formula, .. } => &formula.places,
        }
    }
}

impl Step {
    #[inline]
    fn encode(&self, row: Row<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
        match &self.feed {
            StepFeed::Const(bytes) => out.extend_from_slice(bytes),
            StepFeed::Column { place, path, branch, null, fall_back, convert } => match row.get(*place) {
                Datum::Text(text) => {
                    let start = out.len();
                    let done = match path {
                        None => {
                            out.extend(*branch);
                            convert.encode(text, out)
                        }
                        Some(path) => json::find(text, &path.0)
                            .and_then(|value| found(value, *branch, null.as_deref(), convert, out)),
                    };
                    let default = null.as_deref().filter(|_| *fall_back);
                    done.or_else(|reason| fall_back_to(default, reason, start, out))?;
                }
                Datum::Null => out.extend_from_slice(null.as_deref().ok_or(Reason::Null)?),
                Datum::Unchanged => return Err(Reason::Unchanged),
            },
            StepFeed::Formula { formula, branch, null, fall_back, convert } => {
                let value = formula.value(row)?;
                match value.text() {
                    Some(text) => {
                        let start = out.len();
                        out.extend(*branch);
                        let default = null.as_deref().filter(|_| *fall_back);
                        convert.encode(text, out).or_else(|reason| fall_back_to(default, reason, start, out))?;
                    }
                    None => out.extend_from_slice(null.as_deref().ok_or(Reason::Null)?),
                }
            }
        }
        Ok(())
    }
}

/// Puts the default in the place of what does not fit, where there is one.
fn fall_back_to(default: Option<&[u8]>, reason: Reason, start: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
    let default = default.filter(|_| reason != Reason::Null).ok_or(reason)?;
    out.truncate(start);
    out.extend_from_slice(default);
    Ok(())
}

/// Appends what a path found.
fn found(
    found: Found<'_>,
    branch: Option<u8>,
    null: Option<&[u8]>,
    convert: &Conversion,
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    let text = match found {
        Found::Null => {
            out.extend_from_slice(null.ok_or(Reason::Null)?);
            return Ok(());
        }
        Found::Container(_) if !convert.takes_documents() => return Err(Reason::PathType),
        Found::Container(text) | Found::Number(text) | Found::Word(text) => text,
        Found::String { raw, escaped: false } => raw,
        Found::String { raw, escaped: true } => {
            let mut text = Scratch::new();
            json::unescape(raw, &mut text)?;
            out.extend(branch);
            return convert.encode(text.bytes(), out);
        }
    };
    out.extend(branch);
    convert.encode(text, out)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
