//! Constants of a contract, encoded once: `default:` and `const:`.

use serde_json::Value;

use crate::avro::{BaseType, FieldType};

use super::calendar::{self, Suffix};
use super::{decimal, encode, text};

/// Appends a constant of a field's type, with its union branch.
///
/// JSON of the type: `null`, booleans, numbers, text, lists. Decimals are text or whole numbers; dates, times and
/// timestamps are text (PostgreSQL's or RFC 3339), or the number that Avro stores; bytes and fixed are text as
/// PostgreSQL prints a bytea (`\x00ff`).
///
/// Errors: the diagnosis, lower-case, naming the type.
pub fn encode_constant(value: &Value, field: &FieldType, out: &mut Vec<u8>) -> Result<(), String> {
    match (value, field.null_branch) {
        (Value::Null, Some(null)) => {
            out.push(encode::branch(null));
            return Ok(());
        }
        (Value::Null, None) => return Err(format!("`{}` has no null", field)),
        (_, Some(null)) => out.push(encode::branch(1 - null.min(1))),
        (_, None) => {}
    }
    base(value, &field.base, out)?.ok_or_else(|| format!("not a value of `{}`", field))
}

/// `Ok(None)`: not a value of the type. `Err`: an item's own diagnosis.
fn base(value: &Value, target: &BaseType, out: &mut Vec<u8>) -> Result<Option<()>, String> {
    let words = value.as_str();
    let stored = value.as_i64();
    let mut long = |n: Option<i64>| n.map(|n| encode::long(n, out));
    Ok(match target {
        BaseType::Boolean => value.as_bool().map(|yes| out.push(u8::from(yes))),
        BaseType::Int => long(stored.filter(|n| i32::try_from(*n).is_ok())),
        BaseType::Long => long(stored),
        BaseType::Date => long(words.and_then(date).or(stored.filter(|n| i32::try_from(*n).is_ok()))),
        BaseType::TimeMicros => long(words.and_then(time).or(stored.filter(|n| (0..calendar::DAY_MICROS).contains(n)))),
        BaseType::LocalTimestampMicros => long(words.and_then(local_micros).or(stored)),
        BaseType::TimestampMicros => long(words.and_then(micros).or(stored)),
        BaseType::TimestampMillis => {
            let written = words.and_then(micros).filter(|micros| micros % 1_000 == 0).map(|micros| micros / 1_000);
            long(written.or(stored))
        }
        BaseType::Float => value.as_f64().map(|n| encode::float(n as f32, out)),
        BaseType::Double => value.as_f64().map(|n| encode::double(n, out)),
        BaseType::String => words.map(|text| encode::bytes(text.as_bytes(), out)),
        BaseType::Bytes => words.and_then(|text| bytes(text, None, out)),
        BaseType::Fixed { size, .. } => words.and_then(|text| bytes(text, Some(*size), out)),
        BaseType::UuidString => words.and_then(|text| text::uuid_string(text.as_bytes(), out).ok()),
        BaseType::UuidFixed => words.and_then(|text| text::uuid_fixed(text.as_bytes(), out).ok()),
        BaseType::Decimal { precision, scale } => match (words, stored) {
            (Some(text), _) => decimal(text, *precision, *scale, out),
            (None, Some(number)) => decimal(&number.to_string(), *precision, *scale, out),
            (None, None) => None,
        },
        BaseType::Enum { symbols, .. } => {
            let index = words.and_then(|symbol| symbols.iter().position(|other| other == symbol));
            long(index.and_then(|index| i64::try_from(index).ok()))
        }
        BaseType::Array(item) => match value.as_array() {
            Some(values) => Some(array(values, item, out)?),
            None => None,
        },
    })
}

fn date(text: &str) -> Option<i64> {
    let date: jiff::civil::Date = match calendar::date(text.as_bytes()) {
        Ok(days) => return Some(i64::from(days)),
        Err(_) => text.parse().ok()?,
    };
    calendar::date(format!("{date}").as_bytes()).ok().map(i64::from)
}

fn time(text: &str) -> Option<i64> {
    if let Ok(micros) = calendar::time(text.as_bytes()) {
        return Some(micros);
    }
    let time: jiff::civil::Time = text.parse().ok()?;
    calendar::time(time.to_string().as_bytes()).ok()
}

fn local_micros(text: &str) -> Option<i64> {
    match calendar::timestamp(text.as_bytes(), Suffix::None) {
        Ok(moment) => moment.epoch_micros().ok(),
        // Read as UTC, the wall clock is its own instant.
        Err(_) => whole_micros(jiff::tz::Offset::UTC.to_timestamp(text.parse().ok()?).ok()?),
    }
}

fn micros(text: &str) -> Option<i64> {
    match calendar::timestamp(text.as_bytes(), Suffix::Utc) {
        Ok(moment) => moment.epoch_micros().ok(),
        Err(_) => whole_micros(text.parse().ok()?),
    }
}

fn whole_micros(instant: jiff::Timestamp) -> Option<i64> {
    (instant.subsec_nanosecond() % 1_000 == 0).then(|| instant.as_microsecond())
}

/// As a contract writes it: leading zeros do not matter.
fn decimal(text: &str, precision: u32, scale: u32, out: &mut Vec<u8>) -> Option<()> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let whole = digits.split('.').next().unwrap_or_default();
    let zeros = whole.len() - whole.trim_start_matches('0').len();
    let skipped = if zeros == whole.len() { zeros.saturating_sub(1) } else { zeros };
    let text = format!("{sign}{}", digits.get(skipped..)?);
    decimal::encode(text.as_bytes(), precision, scale, out).ok()
}

fn bytes(text: &str, size: Option<usize>, out: &mut Vec<u8>) -> Option<()> {
    let text = text.to_ascii_lowercase();
    let digits = text::bytea_digits(text.as_bytes()).ok()?;
    let len = digits.len() / 2;
    match size {
        Some(size) if size != len => return None,
        Some(_) => {}
        None => encode::long(i64::try_from(len).ok()?, out),
    }
    text::hex(digits, out).ok()
}

fn array(values: &[Value], item: &FieldType, out: &mut Vec<u8>) -> Result<(), String> {
    if !values.is_empty() {
        encode::long(values.len() as i64, out);
    }
    for value in values {
        encode_constant(value, item, out)?;
    }
    out.push(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn constant(value: Value, null_branch: Option<u8>, base: BaseType) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        encode_constant(&value, &FieldType { null_branch, base }, &mut out).map(|()| out)
    }

    #[test]
    fn constants_are_encoded_with_their_branch() {
        assert_eq!(constant(json!(null), Some(1), BaseType::Long), Ok(vec![2]));
        assert_eq!(constant(json!(1), Some(1), BaseType::Long), Ok(vec![0, 2]));
        assert_eq!(constant(json!(1), Some(0), BaseType::Long), Ok(vec![2, 2]));
        assert_eq!(constant(json!("0.00"), None, BaseType::Decimal { precision: 4, scale: 2 }), Ok(vec![2, 0]));
        assert_eq!(constant(json!("1.5"), None, BaseType::Decimal { precision: 4, scale: 2 }), Ok(vec![4, 0, 150]));
        assert_eq!(constant(json!("1970-01-02"), None, BaseType::Date), Ok(vec![2]));
        assert_eq!(constant(json!("1970-01-01 00:00:00.001+00"), None, BaseType::TimestampMillis), Ok(vec![2]));
        assert_eq!(constant(json!("1970-01-01T01:00:00.000001+01:00"), None, BaseType::TimestampMicros), Ok(vec![2]));
        assert_eq!(constant(json!("1970-01-01T00:00"), None, BaseType::LocalTimestampMicros), Ok(vec![0]));
        assert_eq!(constant(json!("00:00"), None, BaseType::TimeMicros), Ok(vec![0]));
        assert_eq!(
            constant(json!("-001.50"), None, BaseType::Decimal { precision: 4, scale: 2 }),
            Ok(vec![4, 0xFF, 0x6A])
        );
        assert_eq!(constant(json!("\\x0102"), None, BaseType::Bytes), Ok(vec![4, 1, 2]));
        let items = BaseType::Array(Box::new(FieldType { null_branch: Some(0), base: BaseType::Int }));
        assert_eq!(constant(json!([1, null]), None, items.clone()), Ok(vec![4, 2, 2, 0, 0]));
        assert_eq!(constant(json!([]), None, items), Ok(vec![0]));
    }

    #[test]
    fn what_is_not_of_the_type_is_refused_with_the_types_name() {
        for (value, base) in [
            (json!("x"), BaseType::Long),
            (json!(2_147_483_648i64), BaseType::Int),
            (json!(1.5), BaseType::Long),
            (json!("1.555"), BaseType::Decimal { precision: 4, scale: 2 }),
            (json!("b"), BaseType::Enum { name: "e".to_owned(), symbols: vec!["a".to_owned()], default: None }),
            (json!("\\x01"), BaseType::Fixed { name: "f".to_owned(), size: 2 }),
            (json!(1), BaseType::String),
            (json!(null), BaseType::String),
        ] {
            let field = FieldType { null_branch: None, base: base.clone() };
            let error = constant(value.clone(), None, base).unwrap_err();
            assert!(error.contains(&field.to_string()), "{value}: {error}");
        }
    }
}
