//! One conversion: from PostgreSQL's text to one Avro type, chosen once, executed per value.

use crate::avro::{BaseType, FieldType};
use crate::contract::FeedOptions;
use crate::pairs::zone::Zone;
use crate::table::SourceType;

use super::array::{self, Item};
use super::calendar::{self, DAY_MICROS, Moment, Suffix};
use super::reason::Reason;
use super::text::{self, Labels};
use super::{decimal, encode, integer};

/// What to do with a text. Nullability is not its business.
#[derive(Debug)]
pub enum Conversion {
    /// `t`, `f` → boolean.
    Boolean,
    /// `true`, `false` → boolean.
    BooleanOfWord,
    /// `t`, `f` → `true`, `false`.
    WordOfBoolean,
    /// Whole number → int or long.
    Integer {
        min: i64,
        max: i64,
    },
    /// Numeric without a fraction → int or long.
    Integral {
        min: i64,
        max: i64,
    },
    Float,
    /// The binary value of a float4.
    DoubleOfFloat,
    Double,
    Decimal {
        precision: u32,
        scale: u32,
    },
    /// Money → decimal of scale 2.
    Money,
    /// Money → plain decimal text.
    StringOfMoney,
    /// The text as it is.
    String,
    Bytes,
    Fixed {
        size: usize,
    },
    Date,
    Time,
    /// timestamp → microseconds of the wall clock.
    LocalMicros,
    /// timestamptz → microseconds since 1970.
    Micros,
    /// timestamptz → milliseconds since 1970.
    Millis,
    /// timestamp in a zone → microseconds since 1970.
    MicrosInZone(Zone),
    /// timestamptz → microseconds of a zone's wall clock.
    LocalMicrosInZone(Zone),
    /// timestamptz → a zone's date.
    DateInZone(Zone),
    UuidString,
    UuidFixed,
    /// Text → index of an enum's symbol.
    Label(Labels),
    /// char(n): without padding, then as the inner conversion.
    Unpadded(Box<Conversion>),
    Array(Box<Item>),
}

/// Whether labels are looked up as they are, or as they stand between the quotes of an array's item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LabelForm {
    Plain,
    Escaped,
}

const INT: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
const LONG: (i64, i64) = (i64::MIN, i64::MAX);

impl Conversion {
    /// The conversion of a pair that [`crate::pairs::classify`] does not refuse; `None` for others.
    pub fn of(source: &SourceType, target: &BaseType, options: &FeedOptions) -> Option<Conversion> {
        Conversion::with_labels(source, target, options, LabelForm::Plain)
    }

    fn with_labels(
        source: &SourceType,
        target: &BaseType,
        options: &FeedOptions,
        form: LabelForm,
    ) -> Option<Conversion> {
        use BaseType as To;
        use SourceType as From;
        let zone = || options.timezone.as_deref().and_then(|name| Zone::named(name).ok());
        Some(match (source, target) {
            (From::Char, target) => {
                Conversion::Unpadded(Box::new(Conversion::with_labels(&From::Text, target, options, form)?))
            }
            (From::Bool, To::Boolean) => Conversion::Boolean,
            (From::Bool, To::String) => Conversion::WordOfBoolean,
            (From::Money, To::String) => Conversion::StringOfMoney,
            (From::Money, To::Decimal { scale: crate::pairs::MONEY_SCALE, .. }) => Conversion::Money,
            // All other types: the text as it is.
            (_, To::String) => Conversion::String,
            (From::Numeric { .. }, To::Int) => Conversion::integral(INT),
            (From::Numeric { .. }, To::Long) => Conversion::integral(LONG),
            (From::Int2 | From::Int4 | From::Int8 | From::Oid, To::Int) => Conversion::integer(INT),
            (From::Int2 | From::Int4 | From::Int8 | From::Oid, To::Long) => Conversion::integer(LONG),
            (From::Float4, To::Float) => Conversion::Float,
            (From::Float4, To::Double) => Conversion::DoubleOfFloat,
            (From::Float8, To::Double) => Conversion::Double,
            (From::Numeric { .. }, To::Decimal { precision, scale }) => {
                Conversion::Decimal { precision: *precision, scale: *scale }
            }
            (From::Bytea, To::Bytes) => Conversion::Bytes,
            (From::Bytea, To::Fixed { size, .. }) => Conversion::Fixed { size: *size },
            (From::Date, To::Date) => Conversion::Date,
            (From::Time, To::TimeMicros) => Conversion::Time,
            (From::Timestamp, To::LocalTimestampMicros) => Conversion::LocalMicros,
            (From::Timestamp, To::TimestampMicros) => Conversion::MicrosInZone(zone()?),
            (From::Timestamptz, To::TimestampMicros) => Conversion::Micros,
            (From::Timestamptz, To::TimestampMillis) => Conversion::Millis,
            (From::Timestamptz, To::LocalTimestampMicros) => Conversion::LocalMicrosInZone(zone()?),
            (From::Timestamptz, To::Date) => Conversion::DateInZone(zone()?),
            (From::Uuid, To::UuidString) => Conversion::UuidString,
            (From::Uuid, To::UuidFixed) => Conversion::UuidFixed,
            (From::Int2 | From::Int4 | From::Enum { .. }, To::Enum { symbols, .. }) => {
                Conversion::Label(labels(symbols, options, form))
            }
            (From::Text | From::Varchar | From::Name | From::Citext, target) => {
                return Conversion::of_text(target, options, form);
            }
            (From::Array(item), To::Array(to)) => Conversion::Array(Box::new(Conversion::item(item, to, options)?)),
            _ => return None,
        })
    }

    /// From text: exactly what the type with this meaning would print.
    fn of_text(target: &BaseType, options: &FeedOptions, form: LabelForm) -> Option<Conversion> {
        Some(match target {
            BaseType::String => Conversion::String,
            BaseType::Int => Conversion::integer(INT),
            BaseType::Long => Conversion::integer(LONG),
            BaseType::Decimal { precision, scale } => Conversion::Decimal { precision: *precision, scale: *scale },
            BaseType::Boolean => Conversion::BooleanOfWord,
            BaseType::Date => Conversion::Date,
            BaseType::TimestampMillis => Conversion::Millis,
            BaseType::TimestampMicros => Conversion::Micros,
            BaseType::LocalTimestampMicros => Conversion::LocalMicros,
            BaseType::UuidString => Conversion::UuidString,
            BaseType::UuidFixed => Conversion::UuidFixed,
            BaseType::Enum { symbols, .. } => Conversion::Label(labels(symbols, options, form)),
            BaseType::Float
            | BaseType::Double
            | BaseType::Bytes
            | BaseType::TimeMicros
            | BaseType::Fixed { .. }
            | BaseType::Array(_) => return None,
        })
    }

    fn item(source: &SourceType, to: &FieldType, options: &FeedOptions) -> Option<Item> {
        Some(Item {
            branch: to.null_branch.map(|null| encode::branch(1 - null.min(1))),
            null: to.null_branch.map(encode::branch),
            convert: Conversion::with_labels(source, &to.base, options, LabelForm::Escaped)?,
        })
    }

    fn integer((min, max): (i64, i64)) -> Conversion {
        Conversion::Integer { min, max }
    }

    fn integral((min, max): (i64, i64)) -> Conversion {
        Conversion::Integral { min, max }
    }

    /// Appends the value without a union branch. On an error, what was appended has no meaning.
    pub fn encode(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
        match self {
            Conversion::Boolean => out.push(u8::from(boolean(text, b"t", b"f")?)),
            Conversion::BooleanOfWord => out.push(u8::from(boolean(text, b"true", b"false")?)),
            Conversion::WordOfBoolean => {
                let word: &[u8] = if boolean(text, b"t", b"f")? { b"true" } else { b"false" };
                encode::bytes(word, out);
            }
            Conversion::Integer { min, max } => encode::long(within(integer::parse(text)?, *min, *max)?, out),
            Conversion::Integral { min, max } => encode::long(within(decimal::integral(text)?, *min, *max)?, out),
            Conversion::Float => encode::float(text::float(text)?, out),
            Conversion::DoubleOfFloat => encode::double(f64::from(text::float::<f32>(text)?), out),
            Conversion::Double => encode::double(text::float(text)?, out),
            Conversion::Decimal { precision, scale } => decimal::encode(text, *precision, *scale, out)?,
            Conversion::Money => decimal::unscaled(text::money(text)?, out),
            Conversion::StringOfMoney => text::money_string(text::money(text)?, out),
            Conversion::String => text::string(text, out)?,
            Conversion::Bytes => {
                let digits = text::bytea_digits(text)?;
                encode::long((digits.len() / 2) as i64, out);
                text::hex(digits, out)?;
            }
            Conversion::Fixed { size } => match text::bytea_digits(text)? {
                digits if digits.len() / 2 == *size => text::hex(digits, out)?,
                _ => return Err(Reason::Length),
            },
            Conversion::Date => encode::long(i64::from(calendar::date(text)?), out),
            Conversion::Time => encode::long(calendar::time(text)?, out),
            Conversion::LocalMicros => encode::long(calendar::timestamp(text, Suffix::None)?.epoch_micros()?, out),
            Conversion::Micros => encode::long(calendar::timestamp(text, Suffix::Utc)?.epoch_micros()?, out),
            Conversion::Millis => encode::long(millis(calendar::timestamp(text, Suffix::Utc)?.epoch_micros()?)?, out),
            Conversion::MicrosInZone(zone) => {
                encode::long(instant(zone, calendar::timestamp(text, Suffix::None)?)?, out)
            }
            Conversion::LocalMicrosInZone(zone) => {
                encode::long(local(zone, calendar::timestamp(text, Suffix::Utc)?)?, out);
            }
            Conversion::DateInZone(zone) => {
                let local = local(zone, calendar::timestamp(text, Suffix::Utc)?)?;
                encode::long(local.div_euclid(DAY_MICROS), out);
            }
            Conversion::UuidString => text::uuid_string(text, out)?,
            Conversion::UuidFixed => text::uuid_fixed(text, out)?,
            Conversion::Label(labels) => labels.encode(text, out)?,
            Conversion::Unpadded(inner) => inner.encode(text::unpadded(text), out)?,
            Conversion::Array(item) => item.encode_array(text, out)?,
        }
        Ok(())
    }
}

/// With a map, the map alone decides; without, a label is its own symbol.
fn labels(symbols: &[String], options: &FeedOptions, form: LabelForm) -> Labels {
    let index = |symbol: &String| symbols.iter().position(|other| other == symbol);
    let form = |label: &String| match form {
        LabelForm::Plain => label.clone().into_bytes(),
        LabelForm::Escaped => array::escape(label),
    };
    let otherwise = options.otherwise.as_ref().and_then(index);
    match &options.map {
        Some(map) => {
            let entry = |(label, symbol): &(String, String)| Some((form(label), index(symbol)?));
            Labels::new(map.iter().filter_map(entry), otherwise)
        }
        None => Labels::new(symbols.iter().map(form).zip(0..), otherwise),
    }
}

#[inline]
fn within(value: i64, min: i64, max: i64) -> Result<i64, Reason> {
    if value < min || value > max { Err(Reason::OutOfRange) } else { Ok(value) }
}

#[inline]
fn boolean(text: &[u8], yes: &[u8], no: &[u8]) -> Result<bool, Reason> {
    if text == yes {
        Ok(true)
    } else if text == no {
        Ok(false)
    } else {
        Err(Reason::NotCanonical)
    }
}

fn millis(micros: i64) -> Result<i64, Reason> {
    if micros % 1_000 == 0 { Ok(micros / 1_000) } else { Err(Reason::Inexact) }
}

/// The instant at which the zone's clocks show a wall clock time.
fn instant(zone: &Zone, wall: Moment) -> Result<i64, Reason> {
    let second = (wall.micros / 1_000_000) as u32;
    let offset = zone.offset_of_local(wall.year, wall.month, wall.day, second).ok_or(Reason::OutOfRange)?;
    let micros = wall.epoch_micros()?;
    micros.checked_sub(i64::from(offset) * 1_000_000).ok_or(Reason::OutOfRange)
}

/// What the zone's clocks show at an instant.
fn local(zone: &Zone, instant: Moment) -> Result<i64, Reason> {
    let micros = instant.epoch_micros()?;
    let offset = zone.offset_at(micros.div_euclid(1_000_000)).ok_or(Reason::OutOfRange)?;
    micros.checked_add(i64::from(offset) * 1_000_000).ok_or(Reason::OutOfRange)
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
