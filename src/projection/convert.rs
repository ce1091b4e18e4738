//! One conversion: from PostgreSQL's text to one Avro type, chosen once by the matrix, executed per value.

use crate::avro::{BaseType, FieldType};
use crate::contract::FeedOptions;
use crate::pairs::axes::How;
use crate::pairs::{self, zone::Zone};
use crate::table::SourceType;

use super::array::{self, Item};
use super::calendar::{self, DAY_MICROS, Moment, Suffix};
use super::mask::Masking;
use super::number::{self, Number};
use super::reason::Reason;
use super::text::{self, Labels};
use super::{binary, decimal, encode, integer};

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
    Integer(Range),
    /// Numeric without a fraction → int or long.
    Integral(Range),
    /// Numeric or float, half even → int or long.
    RoundedInteger(Range),
    /// A number in any spelling → int or long.
    Number(Range),
    Float,
    /// The binary value of a float4.
    DoubleOfFloat,
    Double,
    SameFloat,
    SameDouble,
    NearestFloat,
    NearestDouble,
    Decimal(Digits),
    /// Numeric or float, half even → decimal.
    RoundedDecimal(Digits),
    /// A number in any spelling → decimal.
    NumberDecimal(Digits),
    /// Money → decimal of scale 2.
    Money,
    /// Money → plain decimal text.
    StringOfMoney,
    /// The text as it is.
    String,
    /// bytea → bytes, or fixed of this size.
    Bytes(Option<usize>),
    /// bytea → string.
    HexOfBytes,
    Base64OfBytes,
    Utf8OfBytes,
    /// Text → bytes, or fixed of this size.
    BytesOfHex(Option<usize>),
    BytesOfBase64(Option<usize>),
    BytesOfUtf8(Option<usize>),
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
    /// The text that the inner conversion makes, masked.
    Masked(Box<Conversion>, Masking),
}

/// Smallest and largest value of a target.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    min: i64,
    max: i64,
}

/// Precision and scale of a decimal.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    precision: u32,
    scale: u32,
}

/// Whether labels are looked up as they are, or as they stand between the quotes of an array's item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LabelForm {
    Plain,
    Escaped,
}

/// Decimal digits of the longest i64.
const LONG_DIGITS: u32 = 19;

impl Conversion {
    /// The conversion of a pair that [`crate::pairs::classify`] does not refuse; `None` for others, and for a mask whose
    /// key is not known.
    pub fn of(source: &SourceType, target: &BaseType, options: &FeedOptions) -> Option<Conversion> {
        let Some(mask) = &options.mask else {
            return Conversion::with_labels(source, target, options, LabelForm::Plain);
        };
        let text = Conversion::with_labels(source, &BaseType::String, options, LabelForm::Plain)?;
        Some(Conversion::Masked(Box::new(text), Masking::of(mask, target)?))
    }

    fn with_labels(
        source: &SourceType,
        target: &BaseType,
        options: &FeedOptions,
        form: LabelForm,
    ) -> Option<Conversion> {
        if let (SourceType::Array(item), BaseType::Array(to)) = (source, target) {
            return Some(Conversion::Array(Box::new(Conversion::item(item, to, options)?)));
        }
        let how = pairs::entry(source, target, options)?.how;
        let convert = Conversion::of_how(how, target, options, form)?;
        Some(match source {
            SourceType::Char => Conversion::Unpadded(Box::new(convert)),
            _ => convert,
        })
    }

    /// The matrix's conversion with the field's parameters.
    fn of_how(how: How, target: &BaseType, options: &FeedOptions, form: LabelForm) -> Option<Conversion> {
        let zone = || options.timezone.as_deref().and_then(|name| Zone::named(name).ok());
        let range = || match target {
            BaseType::Int => Some(Range { min: i32::MIN.into(), max: i32::MAX.into() }),
            BaseType::Long => Some(Range { min: i64::MIN, max: i64::MAX }),
            _ => None,
        };
        let digits = || match target {
            BaseType::Decimal { precision, scale } => Some(Digits { precision: *precision, scale: *scale }),
            _ => None,
        };
        let size = match target {
            BaseType::Fixed { size, .. } => Some(*size),
            _ => None,
        };
        Some(match how {
            How::Boolean => Conversion::Boolean,
            How::BooleanOfWord => Conversion::BooleanOfWord,
            How::WordOfBoolean => Conversion::WordOfBoolean,
            How::Integer => Conversion::Integer(range()?),
            How::Integral => Conversion::Integral(range()?),
            How::RoundedInteger => Conversion::RoundedInteger(range()?),
            How::Number => match digits() {
                Some(digits) => Conversion::NumberDecimal(digits),
                None => Conversion::Number(range()?),
            },
            How::Float => Conversion::Float,
            How::DoubleOfFloat => Conversion::DoubleOfFloat,
            How::Double => Conversion::Double,
            How::SameFloat => Conversion::SameFloat,
            How::SameDouble => Conversion::SameDouble,
            How::NearestFloat => Conversion::NearestFloat,
            How::NearestDouble => Conversion::NearestDouble,
            How::Decimal => Conversion::Decimal(digits()?),
            How::RoundedDecimal => Conversion::RoundedDecimal(digits()?),
            How::Money => Conversion::Money,
            How::StringOfMoney => Conversion::StringOfMoney,
            How::String => Conversion::String,
            How::Bytes => Conversion::Bytes(size),
            How::HexOfBytes => Conversion::HexOfBytes,
            How::Base64OfBytes => Conversion::Base64OfBytes,
            How::Utf8OfBytes => Conversion::Utf8OfBytes,
            How::BytesOfHex => Conversion::BytesOfHex(size),
            How::BytesOfBase64 => Conversion::BytesOfBase64(size),
            How::BytesOfUtf8 => Conversion::BytesOfUtf8(size),
            How::Date => Conversion::Date,
            How::Time => Conversion::Time,
            How::LocalMicros => Conversion::LocalMicros,
            How::Micros => Conversion::Micros,
            How::Millis => Conversion::Millis,
            How::MicrosInZone => Conversion::MicrosInZone(zone()?),
            How::LocalMicrosInZone => Conversion::LocalMicrosInZone(zone()?),
            How::DateInZone => Conversion::DateInZone(zone()?),
            How::UuidString => Conversion::UuidString,
            How::UuidFixed => Conversion::UuidFixed,
            How::Label => match target {
                BaseType::Enum { symbols, .. } => Conversion::Label(labels(symbols, options, form)),
                _ => return None,
            },
            // Made above, from its items.
            How::Array => return None,
        })
    }

    fn item(source: &SourceType, to: &FieldType, options: &FeedOptions) -> Option<Item> {
        Some(Item {
            branch: to.null_branch.map(|null| encode::branch(1 - null.min(1))),
            null: to.null_branch.map(encode::branch),
            convert: Conversion::with_labels(source, &to.base, options, LabelForm::Escaped)?,
        })
    }

    /// Whether an object or array of a JSON document can be published: as its text.
    pub fn takes_documents(&self) -> bool {
        match self {
            Conversion::String => true,
            Conversion::Masked(inner, _) => inner.takes_documents(),
            _ => false,
        }
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
            Conversion::Integer(range) => encode::long(range.check(integer::parse(text)?)?, out),
            Conversion::Integral(range) => encode::long(range.check(decimal::integral(text)?)?, out),
            Conversion::RoundedInteger(range) => encode::long(range.check(whole(text, true)?)?, out),
            Conversion::Number(range) => encode::long(range.check(whole(text, false)?)?, out),
            Conversion::Float => encode::float(text::float(text)?, out),
            Conversion::DoubleOfFloat => encode::double(f64::from(text::float::<f32>(text)?), out),
            Conversion::Double => encode::double(text::float(text)?, out),
            Conversion::SameFloat => encode::float(number::same(text)?, out),
            Conversion::SameDouble => encode::double(number::same(text)?, out),
            Conversion::NearestFloat => encode::float(number::nearest(text)?, out),
            Conversion::NearestDouble => encode::double(number::nearest(text)?, out),
            Conversion::Decimal(Digits { precision, scale }) => decimal::encode(text, *precision, *scale, out)?,
            Conversion::RoundedDecimal(digits) => digits.encode(text, true, out)?,
            Conversion::NumberDecimal(digits) => digits.encode(text, false, out)?,
            Conversion::Money => decimal::unscaled(text::money(text)?, out),
            Conversion::StringOfMoney => text::money_string(text::money(text)?, out),
            Conversion::String => text::string(text, out)?,
            Conversion::Bytes(size) => {
                let digits = text::bytea_digits(text)?;
                binary::sized(*size, digits.len() / 2, out, |out| text::hex(digits, out))?;
            }
            Conversion::HexOfBytes => binary::hex_string(text, out)?,
            Conversion::Base64OfBytes => binary::base64_string(text, out)?,
            Conversion::Utf8OfBytes => binary::utf8_string(text, out)?,
            Conversion::BytesOfHex(size) => {
                let digits = if text.len().is_multiple_of(2) { text } else { return Err(Reason::NotCanonical) };
                binary::sized(*size, digits.len() / 2, out, |out| text::hex(digits, out))?;
            }
            Conversion::BytesOfBase64(size) => {
                binary::sized(*size, binary::base64_len(text)?, out, |out| binary::base64(text, out))?;
            }
            Conversion::BytesOfUtf8(size) => binary::sized(*size, text.len(), out, |out| {
                out.extend_from_slice(text);
                Ok(())
            })?,
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
            Conversion::Masked(inner, mask) => {
                let start = out.len();
                inner.encode(text, out)?;
                mask.replace(start, out)?;
            }
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

impl Range {
    #[inline]
    fn check(self, value: i64) -> Result<i64, Reason> {
        if value < self.min || value > self.max { Err(Reason::OutOfRange) } else { Ok(value) }
    }
}

impl Digits {
    fn encode(self, text: &[u8], may_round: bool, out: &mut Vec<u8>) -> Result<(), Reason> {
        let exact = Number::parse(text)?.at_scale(self.precision, self.scale, may_round)?;
        decimal::encode(exact.bytes(), self.precision, self.scale, out)
    }
}

/// A whole number from any spelling of a number, rounded if that is allowed.
fn whole(text: &[u8], may_round: bool) -> Result<i64, Reason> {
    integer::parse(Number::parse(text)?.at_scale(LONG_DIGITS, 0, may_round)?.bytes())
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
