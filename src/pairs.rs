//! Which source type may feed which schema type: the whole matrix, in one place.
//!
//! A pair is *exact* (every source value has one representation with the same meaning), *checked* (same meaning, but
//! not every value fits: lossless or an error) or *refused*. Nothing here sees a value; [`crate::projection`] converts.
//!
//! Absent on purpose: conversions that round, clamp or guess. What the matrix does not list is refused.

use crate::avro::{BaseType, FieldType};
use crate::contract::FeedOptions;
use crate::table::SourceType;

mod draft;
mod key;
mod name;
mod refusal;
pub mod zone;

pub use draft::{Draft, draft_type};
pub use key::{classify_key, is_key_type};
pub use name::source_type_name;

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
    match refusal::misplaced_option(source, &field.base, options) {
        Some(refused) => refused,
        None => base_pair(source, &field.base, options),
    }
}

fn base_pair(source: &SourceType, target: &BaseType, options: &FeedOptions) -> Pair {
    use BaseType as To;
    use Pair::{Checked, Exact};
    let refused = || refusal::of_pair(source, target);
    match source {
        SourceType::Bool => match target {
            To::Boolean | To::String => Exact,
            _ => refused(),
        },
        SourceType::Int2 | SourceType::Int4 => match target {
            To::Int | To::Long | To::String => Exact,
            To::Enum { .. } if options.map.is_some() => enum_pair(target, options),
            _ => refused(),
        },
        SourceType::Int8 | SourceType::Oid => match target {
            To::Long | To::String => Exact,
            To::Int => Checked,
            _ => refused(),
        },
        SourceType::Float4 => match target {
            To::Float | To::Double | To::String => Exact,
            _ => refused(),
        },
        SourceType::Float8 => match target {
            To::Double | To::String => Exact,
            _ => refused(),
        },
        SourceType::Numeric { precision, scale } => match target {
            To::String => Exact,
            To::Decimal { precision: p, scale: s } if is_plain(*precision, *scale, *p, *s) => Exact,
            To::Decimal { .. } | To::Int | To::Long => Checked,
            _ => refused(),
        },
        SourceType::Money => match target {
            To::String => Exact,
            To::Decimal { precision: MONEY_PRECISION.., scale: MONEY_SCALE } => Exact,
            _ => refused(),
        },
        SourceType::Text | SourceType::Varchar | SourceType::Char | SourceType::Name | SourceType::Citext => {
            match target {
                To::String => Exact,
                To::Int | To::Long | To::Decimal { .. } | To::Boolean | To::Date => Checked,
                To::TimestampMillis | To::TimestampMicros | To::LocalTimestampMicros => Checked,
                To::UuidString | To::UuidFixed => Checked,
                To::Enum { .. } => enum_pair(target, options),
                To::Float | To::Double | To::Bytes | To::TimeMicros | To::Fixed { .. } | To::Array(_) => refused(),
            }
        }
        SourceType::Bytea => match target {
            To::Bytes => Exact,
            To::Fixed { .. } => Checked,
            _ => refused(),
        },
        SourceType::Date => match target {
            To::Date | To::String => Exact,
            _ => refused(),
        },
        SourceType::Time => match target {
            To::TimeMicros | To::String => Exact,
            _ => refused(),
        },
        SourceType::Timestamp => match target {
            To::LocalTimestampMicros | To::String => Exact,
            To::TimestampMicros if options.timezone.is_some() => zone_pair(options),
            _ => refused(),
        },
        SourceType::Timestamptz => match target {
            To::TimestampMicros | To::String => Exact,
            To::TimestampMillis => Checked,
            To::LocalTimestampMicros | To::Date if options.timezone.is_some() => zone_pair(options),
            _ => refused(),
        },
        SourceType::Uuid => match target {
            To::UuidString | To::UuidFixed | To::String => Exact,
            _ => refused(),
        },
        SourceType::Enum { .. } => match target {
            To::String => Exact,
            To::Enum { default: Some(_), .. } => enum_pair(target, options),
            _ => refused(),
        },
        SourceType::Array(item) => match target {
            To::String => Exact,
            To::Array(to) if draft::is_comma_separated(item) => item_pair(item, to, options),
            _ => refused(),
        },
        SourceType::Timetz | SourceType::Interval | SourceType::Json | SourceType::Jsonb | SourceType::Other { .. } => {
            match target {
                To::String => Exact,
                _ => refused(),
            }
        }
    }
}

/// Digits of the largest money value, 92233720368547758.07.
const MONEY_PRECISION: u32 = 19;

/// Fraction digits of the money that gimbal reads as a number; see `projection::money`.
pub(crate) const MONEY_SCALE: u32 = 2;

/// `numeric(p,s)` with 0 ≤ s ≤ p into the decimal of the same precision and scale.
fn is_plain(precision: Option<u16>, scale: Option<i16>, p: u32, s: u32) -> bool {
    let scale = scale.and_then(|scale| u32::try_from(scale).ok());
    precision.map(u32::from) == Some(p) && scale == Some(s) && s <= p
}

fn enum_pair(target: &BaseType, options: &FeedOptions) -> Pair {
    let BaseType::Enum { name, symbols, .. } = target else { return Pair::Checked };
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
