//! A key as it stands in a topic → the texts of its columns, as PostgreSQL takes them.
//!
//! Keys are plain columns by exact pairs (`contract::key`), so every value has one text, and the text one value.

use crate::avro::{BaseType, FieldType, RecordSchema};

/// The texts of a key's fields, in their order. `None` if the bytes are not a key of this schema.
///
/// `framed`: a zero byte, the schema id (big endian), the Avro body.
pub fn key_texts(schema: &RecordSchema, framed: &[u8]) -> Option<Vec<String>> {
    let mut rest = framed.strip_prefix(&[0])?.get(4..)?;
    let texts = schema.fields.iter().map(|field| text(&field.ty, &mut rest)).collect::<Option<Vec<String>>>()?;
    rest.is_empty().then_some(texts)
}

fn text(ty: &FieldType, rest: &mut &[u8]) -> Option<String> {
    if let Some(null) = ty.null_branch
        && long(rest)? == i64::from(null)
    {
        // A null identifies no row.
        return None;
    }
    Some(match &ty.base {
        BaseType::Boolean => match take(rest, 1)? {
            [0] => "f".to_owned(),
            [1] => "t".to_owned(),
            _ => return None,
        },
        BaseType::Int | BaseType::Long => long(rest)?.to_string(),
        BaseType::Bytes => hex(r"\x", bytes(rest)?),
        BaseType::Fixed { size, .. } => hex(r"\x", take(rest, *size)?),
        BaseType::String | BaseType::UuidString => String::from_utf8(bytes(rest)?.to_vec()).ok()?,
        BaseType::UuidFixed => hex("", take(rest, 16)?),
        BaseType::Enum { symbols, .. } => symbols.get(usize::try_from(long(rest)?).ok()?)?.clone(),
        BaseType::Date => {
            let (date, era) = civil(long(rest)?);
            format!("{date}{era}")
        }
        BaseType::TimestampMillis => moment(long(rest)?.checked_mul(1000)?, "+00"),
        BaseType::TimestampMicros => moment(long(rest)?, "+00"),
        BaseType::LocalTimestampMicros => moment(long(rest)?, ""),
        // Not in keys: one value may have several texts.
        BaseType::Float | BaseType::Double | BaseType::TimeMicros => return None,
        BaseType::Decimal { .. } | BaseType::Array(_) => return None,
    })
}

const DAY_MICROS: i64 = 86_400_000_000;

/// A moment as PostgreSQL prints it: no zeros at the end of a fraction, the era last.
fn moment(micros: i64, zone: &str) -> String {
    let (date, era) = civil(micros.div_euclid(DAY_MICROS));
    let of_day = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    format!("{date} {hour:02}:{minute:02}:{second:02}{}{zone}{era}", fraction.trim_end_matches('0'))
}

/// Year, month and day, and the era where it must be told, of days since 1970; proleptic Gregorian.
fn civil(days: i64) -> (String, &'static str) {
    // Counted from 0000-03-01, so that a leap day ends its year; eras of 400 years are all alike.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // There is no year 0: before the year 1 comes 1 BC.
    let (shown, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{shown:04}-{month:02}-{day_of_month:02}"), era)
}

fn hex(prefix: &str, bytes: &[u8]) -> String {
    bytes.iter().fold(prefix.to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(long(rest)?).ok()?;
    take(rest, len)
}

/// Avro's variable-length zig-zag form; an int is a long that is small.
fn long(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest, 1)? else { return None };
        value |= u64::from(byte & 0x7F) << shift;
        if *byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::Field;
    use crate::contract::{FeedOptions, FeedSource};
    use crate::projection::tests::{contract, encode_row, required, table};
    use crate::projection::{SchemaIds, compile};
    use crate::table::SourceType;

    fn encode(source: &SourceType, ty: &FieldType, value: &str) -> Vec<u8> {
        let from = FeedSource::Column { from: "k".to_owned(), options: FeedOptions::default() };
        let contract = contract(vec![("k", ty.clone(), from)]);
        let columns = [("k".to_owned(), 1)].into();
        let ids = SchemaIds { key: Some(9), value: 1 };
        let projection = compile(&contract, &columns, &table(&[("k", source.clone())]), ids).unwrap();
        encode_row(&projection, &[Some(value)]).0.split_off(5)
    }

    fn texts(base: BaseType, body: &[u8]) -> Option<String> {
        let field = Field { name: "k".into(), ty: FieldType::required(base), default: None };
        let schema = RecordSchema { name: "K".into(), fields: vec![field] };
        let framed = [&[0, 0, 0, 0, 9], body].concat();
        key_texts(&schema, &framed).map(|mut texts| texts.remove(0))
    }

    #[test]
    fn every_key_type_comes_back_as_the_text_that_was_encoded() {
        use crate::table::SourceType as S;
        let cases = [
            (S::Bool, BaseType::Boolean, &["t", "f"][..]),
            (S::Int4, BaseType::Int, &["0", "-1", "2147483647", "-2147483648"]),
            (S::Int8, BaseType::Long, &["9223372036854775807", "-9223372036854775808", "64"]),
            (S::Text, BaseType::String, &["", "it's \\ \u{e9}\n"]),
            (S::Bytea, BaseType::Bytes, &["\\x", "\\x00ff10"]),
            (S::Uuid, BaseType::UuidString, &["6f1c8a52-0b6e-4a55-9b9c-1d3f0a7e2b10"]),
            (
                S::Date,
                BaseType::Date,
                &[
                    "1970-01-01",
                    "2024-02-29",
                    "1900-02-28",
                    "0001-01-01",
                    "0001-12-31 BC",
                    "4713-01-01 BC",
                    "5874897-12-31",
                ],
            ),
            (
                S::Timestamp,
                BaseType::LocalTimestampMicros,
                &[
                    "1969-12-31 23:59:59.999999",
                    "2024-02-29 12:00:00",
                    "0044-03-15 01:02:03.5 BC",
                    "290000-12-31 23:59:59.9",
                ],
            ),
            (S::Timestamptz, BaseType::TimestampMicros, &["2024-02-29 12:00:00.25+00", "0044-03-15 01:02:03+00 BC"]),
        ];
        for (source, base, values) in cases {
            for value in values {
                let body = encode(&source, &required(base.clone()), value);
                assert_eq!(texts(base.clone(), &body).as_deref(), Some(*value), "{source:?}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        assert_eq!(texts(BaseType::Long, &[]), None);
        assert_eq!(texts(BaseType::Long, &[2, 2]), None);
        assert_eq!(texts(BaseType::Boolean, &[7]), None);
        assert_eq!(texts(BaseType::String, &[9, b'a']), None);
        assert_eq!(texts(BaseType::Long, &[0x80; 11]), None);
    }
}
