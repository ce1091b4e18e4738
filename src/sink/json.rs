//! Avro values as JSON for people: decimals as exact text, times in ISO 8601, bytes as PostgreSQL prints them (`\xff`).

use apache_avro::types::Value;
use serde_json::{Map, Value as Json};

use crate::sink::decode::Node;

/// A decoded value of the plan `node` as JSON.
///
/// Unions show their branch's value alone; NaN and the infinities, which JSON lacks, are text.
pub fn to_json(node: &Node, value: &Value) -> Json {
    match (node, value) {
        (_, Value::Null) => Json::Null,
        (_, Value::Boolean(b)) => Json::Bool(*b),
        (_, Value::Int(n)) => Json::from(*n),
        (_, Value::Long(n)) => Json::from(*n),
        (_, Value::Float(x)) => float(f64::from(*x), || x.to_string()),
        (_, Value::Double(x)) => float(*x, || x.to_string()),
        (_, Value::String(text)) | (_, Value::Enum(_, text)) => Json::String(text.clone()),
        (_, Value::Bytes(bytes)) | (_, Value::Fixed(_, bytes)) => Json::String(hex(bytes)),
        (_, Value::Date(days)) => Json::String(date(i64::from(*days))),
        (_, Value::TimeMillis(ms)) => Json::String(time(i64::from(*ms) * 1000)),
        (_, Value::TimeMicros(us)) => Json::String(time(*us)),
        (_, Value::TimestampMillis(ms)) => Json::String(timestamp(i128::from(*ms) * 1000) + "Z"),
        (_, Value::TimestampMicros(us)) => Json::String(timestamp(i128::from(*us)) + "Z"),
        (_, Value::LocalTimestampMillis(ms)) => Json::String(timestamp(i128::from(*ms) * 1000)),
        (_, Value::LocalTimestampMicros(us)) => Json::String(timestamp(i128::from(*us))),
        (_, Value::Uuid(uuid)) => Json::String(uuid.to_string()),
        (Node::Decimal { scale, .. }, Value::Decimal(number)) => match Vec::<u8>::try_from(number) {
            Ok(bytes) => Json::String(decimal(&bytes, *scale)),
            Err(_) => Json::Null,
        },
        (Node::Union(branches), Value::Union(i, inner)) => {
            branches.get(*i as usize).map_or(Json::Null, |branch| to_json(branch, inner))
        }
        (Node::Array(item), Value::Array(items)) => items.iter().map(|value| to_json(item, value)).collect(),
        (Node::Record(nodes), Value::Record(fields)) => {
            let fields = nodes.iter().zip(fields);
            Json::Object(
                fields.map(|((_, node), (name, value))| (name.clone(), to_json(node, value))).collect::<Map<_, _>>(),
            )
        }
        // A value of another plan; there is no sensible form.
        _ => Json::Null,
    }
}

fn float(x: f64, text: impl Fn() -> String) -> Json {
    // Through the text, so that a float keeps its own shortest digits (0.1, not 0.10000000149011612).
    text().parse().ok().filter(|_| x.is_finite()).and_then(serde_json::Number::from_f64).map_or_else(
        || {
            let name = if x.is_nan() {
                "NaN"
            } else if x > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            Json::String(name.into())
        },
        Json::Number,
    )
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::from("\\x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An instant or wall-clock time in microseconds since 1970, without zone: `2026-01-31T12:00:00.000001`.
pub fn timestamp(micros: i128) -> String {
    const DAY: i128 = 86_400_000_000;
    format!("{}T{}", date(micros.div_euclid(DAY) as i64), time(micros.rem_euclid(DAY) as i64))
}

/// A time of day in microseconds; the fraction only where there is one.
fn time(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { clock } else { format!("{clock}.{fraction:06}") }
}

/// A day number since 1970-01-01 in the proleptic Gregorian calendar; years beyond 0000 to 9999 carry a sign.
fn date(days: i64) -> String {
    // Count from 0000-03-01, so that the leap day is the last of its year: 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    match year {
        0..=9999 => format!("{year:04}-{month:02}-{day:02}"),
        _ => format!("{year:+05}-{month:02}-{day:02}"),
    }
}

/// An unscaled number in big-endian two's complement, with `scale` digits after the point.
fn decimal(bytes: &[u8], scale: usize) -> String {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut digits = match bytes.len() {
        0 => "0".into(),
        1..=16 => {
            let mut wide = [if negative { 0xff } else { 0 }; 16];
            wide.iter_mut().rev().zip(bytes.iter().rev()).for_each(|(to, from)| *to = *from);
            i128::from_be_bytes(wide).unsigned_abs().to_string()
        }
        _ => long_digits(bytes, negative),
    };
    if scale > 0 {
        if digits.len() <= scale {
            digits.insert_str(0, &"0".repeat(scale + 1 - digits.len()));
        }
        digits.insert(digits.len() - scale, '.');
    }
    if negative { format!("-{digits}") } else { digits }
}

/// The digits of the absolute value of a number of any length, by repeated division.
fn long_digits(bytes: &[u8], negative: bool) -> String {
    const CHUNK: u64 = 1_000_000_000;
    let mut magnitude = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let mut chunks = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0u64;
        for byte in &mut magnitude {
            let n = rest << 8 | u64::from(*byte);
            *byte = (n / CHUNK) as u8;
            rest = n % CHUNK;
        }
        chunks.push(rest);
    }
    let mut chunks = chunks.iter().rev();
    let mut digits = chunks.next().map_or("0".into(), u64::to_string);
    chunks.for_each(|chunk| digits.push_str(&format!("{chunk:09}")));
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_and_times_read_as_iso_8601() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (11_016, "2000-02-29"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
        ] {
            assert_eq!(date(days), text);
        }
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999999");
        assert_eq!(timestamp(1_700_000_000_000_000), "2023-11-14T22:13:20");
        assert_eq!(time(86_399_000_100), "23:59:59.000100");
    }

    #[test]
    fn decimals_keep_every_digit() {
        for (n, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (12345, 2, "123.45"),
            (-100, 2, "-1.00"),
            (-128, 0, "-128"),
        ] {
            let bytes = i64::to_be_bytes(n);
            assert_eq!(decimal(&bytes, scale), text);
        }
        assert_eq!(decimal(&[], 0), "0");
        assert_eq!(decimal(&[0x80], 1), "-12.8");
    }

    #[test]
    fn floats_keep_their_own_digits_and_what_json_lacks_is_text() {
        assert_eq!(to_json(&Node::Float, &Value::Float(0.1)).to_string(), "0.1");
        assert_eq!(to_json(&Node::Double, &Value::Double(1e300)).to_string(), "1e+300");
        assert_eq!(to_json(&Node::Double, &Value::Double(f64::NAN)), Json::from("NaN"));
        assert_eq!(to_json(&Node::Float, &Value::Float(f32::NEG_INFINITY)), Json::from("-Infinity"));
        assert_eq!(to_json(&Node::Bytes, &Value::Bytes(vec![0, 255])), Json::from("\\x00ff"));
    }

    proptest! {
        #[test]
        fn long_and_short_decimals_agree(n: i128, pad in 0usize..20) {
            let mut bytes = vec![if n < 0 { 0xff } else { 0 }; pad + 1];
            bytes.extend(n.to_be_bytes());
            prop_assert_eq!(decimal(&bytes, 0), n.to_string());
        }

        #[test]
        fn every_day_agrees_with_jiff(days in -4_000_000i32..2_932_896) {
            let start = jiff::civil::date(1970, 1, 1);
            let expected = start.checked_add(jiff::Span::new().days(days)).unwrap();
            if (0..=9999).contains(&expected.year()) {
                prop_assert_eq!(date(i64::from(days)), expected.to_string());
            }
        }
    }
}
