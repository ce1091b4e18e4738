//! Which source type may feed which schema type: the whole matrix, in one place.
//!
//! A pair is *exact* (every source value has one representation with the same meaning), *checked* (same meaning, but
//! not every value fits: lossless or an error) or *refused*. Nothing here sees a value; [`crate::projection`] converts.
//!
//! Absent on purpose: conversions that round, clamp or guess, unless the contract says so. What [`matrix::MATRIX`] does
//! not list is refused.

use crate::avro::{BaseType, FieldType};
use crate::contract::{FeedOptions, Mask};
use crate::table::SourceType;

pub mod axes;
mod draft;
pub mod matrix;
mod name;
mod refusal;
pub mod zone;

pub use draft::{Draft, draft_type};
pub use name::source_type_name;

use axes::{By, Fit, Form, Kind};
use matrix::{Entry, MATRIX};

/// What the matrix says about a source type and a schema type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pair {
    /// Every source value fits, but for the few that have no counterpart (NaN, infinity).
    Exact,
    /// Converted value by value: lossless, or an error.
    Checked,
    /// Cannot be fed.
    Refused {
        /// Diagnosis, lower-case.
        why: String,
        /// What the author may do instead.
        hint: Option<String>,
    },
}

/// The matrix. Nullability plays no part: a null is judged per value, see `default:`.
pub fn classify(source: &SourceType, field: &FieldType, options: &FeedOptions) -> Pair {
    if options.path.is_some() && !matches!(source, SourceType::Json | SourceType::Jsonb) {
        return refusal::refused(
            format!("`path` looks into json and jsonb, not into `{}`", source_type_name(source)),
            "drop `path`, or name a json column in `from`",
        );
    }
    match &options.mask {
        Some(mask) => masked_pair(source, &field.base, options, mask),
        None => base_pair(source, &field.base, options),
    }
}

/// True if a column of this type can be a key: equal values have one text.
pub fn is_key_type(source: &SourceType) -> bool {
    Kind::of(source).is_key()
}

/// The matrix for a key field: only exact pairs of types whose equality is the equality of their text.
///
/// Whether the column is NOT NULL, unique and of a deterministic collation is for the caller to see.
pub fn classify_key(source: &SourceType, field: &FieldType, options: &FeedOptions) -> Pair {
    if *options != FeedOptions::default() {
        return refusal::refused("a key field is a plain column", "leave nothing but `from` in its entry");
    }
    if field.null_branch.is_some() {
        return refusal::refused("a key field must not be nullable", "key fields have no `null` in their type");
    }
    if !is_key_type(source) {
        return refusal::refused(
            format!("`{}` cannot be a key: equal values may have different texts", source_type_name(source)),
            "use a key of integers, text, uuid, date or timestamps",
        );
    }
    match classify(source, field, options) {
        Pair::Checked => {
            refusal::refused("a key is fed by exact pairs only", "give the key field the type that `init` drafts")
        }
        other => other,
    }
}

/// The matrix's entry for a pair; none if the pair is refused. Masks are not looked at.
pub fn entry(source: &SourceType, target: &BaseType, options: &FeedOptions) -> Option<&'static Entry> {
    let mut options_given = By::of(options);
    let by = options_given.next().unwrap_or(By::Nothing);
    match options_given.next() {
        Some(_) => None,
        None => look_up(kind(source, options), Form::of(target), by),
    }
}

/// What the column counts as, where the entry may look into it.
fn kind(source: &SourceType, options: &FeedOptions) -> Kind {
    if options.path.is_some() { Kind::Path } else { Kind::of(source) }
}

fn look_up(kind: Kind, to: Form, by: By) -> Option<&'static Entry> {
    MATRIX.iter().find(|entry| entry.to == to && entry.by == by && entry.from.contains(&kind))
}

fn base_pair(source: &SourceType, target: &BaseType, options: &FeedOptions) -> Pair {
    // The options of an array's entry are those of its items.
    if let (SourceType::Array(item), BaseType::Array(to)) = (source, target) {
        return match draft::is_comma_separated(item) {
            true => item_pair(item, to, options),
            false => refusal::of_pair(source, target, options),
        };
    }
    let Some(entry) = entry(source, target, options) else {
        return refusal::of_pair(source, target, options);
    };
    match entry.fit {
        Fit::Exact if entry.by == By::Timezone => zone_pair(options),
        Fit::ExactBut if entry.by == By::Timezone => zone_pair(options),
        Fit::Exact | Fit::ExactBut | Fit::Items => Pair::Exact,
        Fit::ExactIfSame if is_same_decimal(source, target) => Pair::Exact,
        Fit::ExactIfSame | Fit::Checked => Pair::Checked,
        Fit::Money => match target {
            BaseType::Decimal { precision: MONEY_PRECISION.., scale: MONEY_SCALE } => Pair::Exact,
            _ => refusal::of_pair(source, target, options),
        },
        Fit::Labels => enum_pair(source, target, options),
    }
}

/// A mask works on the text that a `string` field would get.
fn masked_pair(source: &SourceType, target: &BaseType, options: &FeedOptions, mask: &Mask) -> Pair {
    let fits = match (mask, target) {
        (_, BaseType::String) | (Mask::HmacSha256 { .. }, BaseType::Bytes) => true,
        (Mask::HmacSha256 { .. }, BaseType::Fixed { size, .. }) => *size == MAC_BYTES,
        _ => false,
    };
    if !fits {
        return refusal::refused(
            format!("`mask: {}` gives no `{target}`", mask.name()),
            "make the field a `string`; `hmac_sha256` also fills `bytes` and `fixed` of 32 bytes",
        );
    }
    base_pair(source, &BaseType::String, options)
}

/// Bytes of an HMAC-SHA-256.
pub const MAC_BYTES: usize = 32;

/// Digits of the largest money value, 92233720368547758.07.
const MONEY_PRECISION: u32 = 19;

/// Fraction digits of the money that gimbal reads as a number; see `projection::money`.
pub(crate) const MONEY_SCALE: u32 = 2;

/// `numeric(p,s)` with 0 ≤ s ≤ p into the decimal of the same precision and scale.
fn is_same_decimal(source: &SourceType, target: &BaseType) -> bool {
    draft::plain_decimal(source).is_some_and(|plain| plain == *target)
}

fn enum_pair(source: &SourceType, target: &BaseType, options: &FeedOptions) -> Pair {
    let BaseType::Enum { name, symbols, default } = target else { return Pair::Checked };
    if default.is_none() && matches!(source, SourceType::Enum { .. }) {
        return refusal::of_pair(source, target, options);
    }
    let mapped = options.map.iter().flatten().map(|(_, symbol)| symbol);
    match mapped.chain(&options.otherwise).find(|symbol| !symbols.contains(symbol)) {
        None => Pair::Checked,
        Some(symbol) => refusal::refused(
            format!("enum `{name}` has no symbol `{symbol}`"),
            format!("its symbols are {}", name::list(symbols)),
        ),
    }
}

fn zone_pair(options: &FeedOptions) -> Pair {
    match options.timezone.as_deref().map(zone::Zone::named) {
        Some(Err(why)) => refusal::refused(why, "write a region and a city, such as `Europe/Berlin`, or `UTC`"),
        Some(Ok(_)) | None => Pair::Exact,
    }
}

/// Items follow the same matrix; an item type without null refuses null items per value.
fn item_pair(item: &SourceType, to: &FieldType, options: &FeedOptions) -> Pair {
    let options = FeedOptions { default: None, ..options.clone() };
    match classify(item, to, &options) {
        Pair::Exact if to.null_branch.is_none() => Pair::Checked,
        pair => pair,
    }
}

#[cfg(test)]
mod tests;
