//! A value written in a contract (`default:`, `const:`) → JSON of the field's type.
//!
//! JSON has no dates, decimals or bytes: those stay text, in the form in which PostgreSQL prints them under the pinned
//! settings, and are checked here, so that no later step can fail on them.

use serde_json::{Number, Value};

use crate::avro::{BaseType, FieldType};
use crate::yaml::{Node, NodeKind};

/// The value, or why it is none of the field's type.
pub(super) fn of_type(node: &Node, ty: &FieldType) -> Result<Value, String> {
    if node.is_null() {
        return match ty.is_nullable() {
            true => Ok(Value::Null),
            false => Err("it is null, and the field is not nullable".into()),
        };
    }
    of_base(node, &ty.base)
}

fn of_base(node: &Node, base: &BaseType) -> Result<Value, String> {
    if let BaseType::Array(items) = base {
        let NodeKind::Sequence(list) = &node.kind else { return Err("it must be a list".into()) };
        return list.iter().map(|item| of_type(item, items)).collect::<Result<Vec<_>, _>>().map(Value::Array);
    }
    let Some(text) = node.scalar() else { return Err(format!("it is {}", node.describe())) };
    Ok(match base {
        BaseType::Boolean => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err("it must be true or false".into()),
        },
        BaseType::Int | BaseType::Long => {
            let value: i64 = text.parse().map_err(|_| "it must be a whole number".to_owned())?;
            if *base == BaseType::Int && i32::try_from(value).is_err() {
                return Err("it does not fit 32 bits".into());
            }
            Value::from(value)
        }
        BaseType::Float | BaseType::Double => {
            let value: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
            Number::from_f64(value).map(Value::Number).ok_or("it must be a finite number")?
        }
        BaseType::Enum { symbols, .. } if !symbols.iter().any(|symbol| symbol == text) => {
            return Err(format!("it must be one of `{}`", symbols.join("`, `")));
        }
        _ => {
            check_text(text, base)?;
            Value::String(text.to_owned())
        }
    })
}

pub(super) fn check_text(text: &str, base: &BaseType) -> Result<(), String> {
    let fits = match base {
        BaseType::Decimal { precision, scale } => return decimal(text, *precision, *scale),
        BaseType::Date => date(text),
        BaseType::TimeMicros => time(text),
        BaseType::LocalTimestampMicros => timestamp(text),
        BaseType::TimestampMicros | BaseType::TimestampMillis => text.strip_suffix("+00").is_some_and(timestamp),
        BaseType::UuidString | BaseType::UuidFixed => uuid(text),
        BaseType::Bytes => hex(text, None),
        BaseType::Fixed { size, .. } => hex(text, Some(*size)),
        _ => true,
    };
    if fits {
        return Ok(());
    }
    Err(match base {
        BaseType::Date => "it must be a date such as `2027-03-31`",
        BaseType::TimeMicros => "it must be a time such as `09:30:00`",
        BaseType::LocalTimestampMicros => "it must be a date and a time such as `2027-03-31 09:30:00`",
        BaseType::TimestampMicros | BaseType::TimestampMillis => {
            "it must be a date and a time in UTC such as `2027-03-31 09:30:00+00`"
        }
        BaseType::UuidString | BaseType::UuidFixed => "it must be a uuid in lower case, with hyphens",
        BaseType::Fixed { .. } => "it must be as many bytes as the field has, such as `\\x00ff`",
        _ => "it must be bytes such as `\\x00ff`",
    }
    .into())
}

/// Only PostgreSQL's own spelling, so that a constant and a column's value take the same way.
fn date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

fn time(text: &str) -> bool {
    let (seconds, fraction) =
        text.split_once('.').map_or((text, None), |(seconds, fraction)| (seconds, Some(fraction)));
    seconds.len() == 8
        && seconds.parse::<jiff::civil::Time>().is_ok()
        && !seconds.ends_with(":60")
        && fraction.is_none_or(|digits| {
            (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.ends_with('0')
        })
}

fn timestamp(text: &str) -> bool {
    text.split_once(' ').is_some_and(|(day, clock)| date(day) && time(clock))
}

fn decimal(text: &str, precision: u32, scale: u32) -> Result<(), String> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || unsigned.ends_with('.') {
        return Err("it must be a decimal number such as `\"0.00\"`".into());
    }
    let leading = whole.trim_start_matches('0').len();
    let fits = fraction.len() as u64 <= u64::from(scale) && leading as u64 <= u64::from(precision - scale);
    if fits { Ok(()) } else { Err(format!("it does not fit decimal({precision},{scale})")) }
}

fn uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn hex(text: &str, size: Option<usize>) -> bool {
    let Some(digits) = text.strip_prefix("\\x") else { return false };
    digits.len().is_multiple_of(2)
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && size.is_none_or(|size| digits.len() == size * 2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(yaml: &str, base: BaseType) -> Result<Value, String> {
        let root = crate::yaml::parse(&format!("v: {yaml}")).unwrap();
        let NodeKind::Mapping(entries) = &root.kind else { panic!() };
        of_type(&entries[0].value, &FieldType::required(base))
    }

    #[test]
    fn a_value_takes_the_json_form_of_its_field() {
        let colour = BaseType::Enum { name: "E".into(), symbols: vec!["RED".into()], default: None };
        for (yaml, base, expected) in [
            ("true", BaseType::Boolean, json!(true)),
            ("-7", BaseType::Long, json!(-7)),
            ("2.5", BaseType::Double, json!(2.5)),
            ("12", BaseType::String, json!("12")),
            ("RED", colour.clone(), json!("RED")),
            ("\"0.00\"", BaseType::Decimal { precision: 5, scale: 2 }, json!("0.00")),
            ("2027-03-31", BaseType::Date, json!("2027-03-31")),
            ("'2027-03-31 09:30:00+00'", BaseType::TimestampMicros, json!("2027-03-31 09:30:00+00")),
            ("'2027-03-31 09:30:00.5'", BaseType::LocalTimestampMicros, json!("2027-03-31 09:30:00.5")),
            ("[1, 2]", BaseType::Array(Box::new(FieldType::required(BaseType::Int))), json!([1, 2])),
        ] {
            assert_eq!(value(yaml, base), Ok(expected), "{yaml}");
        }
        for (yaml, base) in [
            ("yes", BaseType::Boolean),
            ("3000000000", BaseType::Int),
            ("1.5", BaseType::Long),
            ("BLUE", colour),
            ("\"0.001\"", BaseType::Decimal { precision: 5, scale: 2 }),
            ("\"1000.00\"", BaseType::Decimal { precision: 5, scale: 2 }),
            ("2027-02-30", BaseType::Date),
            ("20270228", BaseType::Date),
            ("'2027-03-31T09:30:00Z'", BaseType::TimestampMicros),
            ("'2027-03-31 09:30:00'", BaseType::TimestampMicros),
            ("'2027-03-31 09:30:60+00'", BaseType::TimestampMicros),
            ("'09:30:00.500'", BaseType::TimeMicros),
            ("nan", BaseType::UuidString),
            ("~", BaseType::String),
            ("{a: b}", BaseType::String),
        ] {
            assert!(value(yaml, base).is_err(), "{yaml}");
        }
    }
}
