//! Columns, rows and an independent model of what they mean, generated.

use gimbal::avro::{BaseType, FieldType};
use gimbal::contract::FeedOptions;
use gimbal::table::{EnumLabel, SourceType};
use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value as Json, json};

use super::{Fed, forms};

/// A value: the text that PostgreSQL prints, and the plain form of what must be published.
type Sample = (String, Json);

/// One pair of the matrix, with its values.
#[derive(Clone, Debug)]
pub struct Kind {
    fed: Fed,
    samples: BoxedStrategy<Sample>,
}

/// A table with rows, and what they must become.
#[derive(Clone, Debug)]
pub struct Case {
    pub columns: Vec<Fed>,
    pub rows: Vec<Vec<(Option<String>, Json)>>,
}

pub fn cases() -> impl Strategy<Value = Case> {
    let kinds = kinds();
    let nulls = select(vec![None, Some(0), Some(1)]);
    vec((select(kinds), nulls), 1..13).prop_flat_map(|columns| {
        let cells: Vec<_> = columns
            .iter()
            .map(|(kind, null)| {
                let value = kind.samples.clone().prop_map(|(text, json)| (Some(text), json));
                match null {
                    None => value.boxed(),
                    Some(_) => prop_oneof![3 => value, 1 => Just((None, Json::Null))].boxed(),
                }
            })
            .collect();
        let columns: Vec<Fed> = columns
            .into_iter()
            .enumerate()
            .map(|(i, (kind, null))| Fed {
                field: FieldType { null_branch: null, base: renamed(kind.fed.field.base, i) },
                ..kind.fed
            })
            .collect();
        vec(cells, 1..4).prop_map(move |rows| Case { columns: columns.clone(), rows })
    })
}

/// Named types must not be defined twice in a record.
fn renamed(base: BaseType, number: usize) -> BaseType {
    match base {
        BaseType::Fixed { size, .. } => BaseType::Fixed { name: format!("Fixed{number}"), size },
        BaseType::Enum { symbols, default, .. } => BaseType::Enum { name: format!("Enum{number}"), symbols, default },
        BaseType::Array(item) => {
            let base = renamed(item.base, number);
            BaseType::Array(Box::new(FieldType { null_branch: item.null_branch, base }))
        }
        other => other,
    }
}

fn kind<S: Strategy<Value = Sample> + 'static>(source: SourceType, base: BaseType, samples: S) -> Kind {
    Kind { fed: Fed::plain(source, FieldType { null_branch: None, base }), samples: samples.boxed() }
}

fn kinds() -> Vec<Kind> {
    let mut all = scalars();
    let arrays: Vec<Kind> =
        all.iter().flat_map(|item| [array(item, Some(0)), array(item, Some(1)), array(item, None)]).collect();
    all.extend(arrays);
    all
}

fn scalars() -> Vec<Kind> {
    let numeric = |precision, scale| SourceType::Numeric { precision: Some(precision), scale: Some(scale) };
    let any_numeric = SourceType::Numeric { precision: None, scale: None };
    let decimal = |precision, scale| BaseType::Decimal { precision, scale };
    let text = || "\\PC{0,20}|[ -~]{0,9}|[\"\\\\{},NUL ]{0,9}".prop_map(|text| (text.clone(), json!(text)));
    let padded =
        ("[a-z\" \\\\]{0,6}[a-zé]", 0usize..5).prop_map(|(text, n)| (format!("{text}{}", " ".repeat(n)), json!(text)));
    vec![
        kind(
            SourceType::Bool,
            BaseType::Boolean,
            any::<bool>().prop_map(|yes| (if yes { "t" } else { "f" }.into(), json!(yes))),
        ),
        kind(
            SourceType::Bool,
            BaseType::String,
            any::<bool>().prop_map(|yes| (if yes { "t" } else { "f" }.into(), json!(yes.to_string()))),
        ),
        kind(SourceType::Int2, BaseType::Int, any::<i16>().prop_map(|n| (n.to_string(), json!(n)))),
        kind(SourceType::Int4, BaseType::Long, any::<i32>().prop_map(|n| (n.to_string(), json!(n)))),
        kind(SourceType::Int8, BaseType::Long, any::<i64>().prop_map(|n| (n.to_string(), json!(n)))),
        kind(SourceType::Int8, BaseType::Int, any::<i32>().prop_map(|n| (n.to_string(), json!(n)))),
        kind(SourceType::Oid, BaseType::Long, any::<u32>().prop_map(|n| (n.to_string(), json!(n)))),
        kind(SourceType::Float4, BaseType::Float, floats().prop_map(|n| (words(n), json!(forms::float(n))))),
        kind(
            SourceType::Float4,
            BaseType::Double,
            floats().prop_map(|n| (words(n), json!(forms::double(f64::from(n))))),
        ),
        kind(SourceType::Float8, BaseType::Double, doubles().prop_map(|n| (words(n), json!(forms::double(n))))),
        kind(numeric(12, 2), decimal(12, 2), numbers(12, 2, 2)),
        kind(numeric(5, 0), decimal(9, 3), numbers(5, 0, 3)),
        kind(any_numeric.clone(), decimal(38, 10), numbers(38, 10, 10)),
        kind(any_numeric.clone(), decimal(90, 20), numbers(85, 15, 20)),
        kind(any_numeric, BaseType::Long, any::<i64>().prop_map(|n| (format!("{n}.00"), json!(n)))),
        kind(SourceType::Money, decimal(19, 2), any::<i64>().prop_map(|n| (money(n), json!(n.to_string())))),
        kind(SourceType::Money, BaseType::String, any::<i64>().prop_map(|n| (money(n), json!(point(&n.into(), 2))))),
        kind(SourceType::Text, BaseType::String, text()),
        kind(SourceType::Jsonb, BaseType::String, text()),
        kind(SourceType::Char, BaseType::String, padded),
        kind(SourceType::Text, BaseType::Int, any::<i32>().prop_map(|n| (n.to_string(), json!(n)))),
        kind(
            SourceType::Bytea,
            BaseType::Bytes,
            vec(any::<u8>(), 0..20).prop_map(|b| (format!("\\x{}", forms::hex(&b)), json!(forms::hex(&b)))),
        ),
        kind(
            SourceType::Bytea,
            BaseType::Fixed { name: "f".into(), size: 3 },
            any::<[u8; 3]>().prop_map(|b| (format!("\\x{}", forms::hex(&b)), json!(forms::hex(&b)))),
        ),
        kind(
            SourceType::Date,
            BaseType::Date,
            moments().prop_map(|at| (at.strftime("%Y-%m-%d").to_string(), json!(at.as_second().div_euclid(86_400)))),
        ),
        kind(
            SourceType::Time,
            BaseType::TimeMicros,
            moments().prop_map(|at| (time(at), json!(at.as_microsecond().rem_euclid(86_400_000_000)))),
        ),
        kind(
            SourceType::Timestamp,
            BaseType::LocalTimestampMicros,
            moments().prop_map(|at| (stamp(at), json!(at.as_microsecond()))),
        ),
        kind(
            SourceType::Timestamptz,
            BaseType::TimestampMicros,
            moments().prop_map(|at| (format!("{}+00", stamp(at)), json!(at.as_microsecond()))),
        ),
        kind(
            SourceType::Timestamptz,
            BaseType::TimestampMillis,
            moments().prop_map(|at| {
                let at = jiff::Timestamp::from_millisecond(at.as_millisecond()).unwrap();
                (format!("{}+00", stamp(at)), json!(at.as_millisecond()))
            }),
        ),
        kind(SourceType::Uuid, BaseType::UuidString, any::<[u8; 16]>().prop_map(|b| (uuid(&b), json!(uuid(&b))))),
        labels(),
        mapped(),
    ]
}

/// An enum by label; one label needs quotes in an array.
fn labels() -> Kind {
    let symbols = ["new", "paid", "NULL"].map(str::to_owned).to_vec();
    let labels = symbols.iter().map(|label| EnumLabel { oid: 1, label: label.clone() }).collect();
    let target = BaseType::Enum { name: "e".into(), symbols: symbols.clone(), default: Some("new".into()) };
    kind(SourceType::Enum { labels }, target, select(symbols).prop_map(|label| (label.clone(), json!(label))))
}

/// Text by map and else; labels hold what an array escapes.
fn mapped() -> Kind {
    let map = [("a\"b", "A"), ("c\\d", "B"), ("e, f", "B")].map(|(from, to)| (from.to_owned(), to.to_owned()));
    let symbols = ["A", "B", "OTHER"].map(str::to_owned).to_vec();
    let target = BaseType::Enum { name: "e".into(), symbols, default: None };
    let known = select(map.to_vec()).prop_map(|(from, to)| (from, json!(to)));
    let mut kind =
        kind(SourceType::Text, target, prop_oneof![known, "[g-z\"\\\\]{0,3}".prop_map(|text| (text, json!("OTHER")))]);
    kind.fed.options =
        FeedOptions { map: Some(map.to_vec()), otherwise: Some("OTHER".into()), ..FeedOptions::default() };
    kind
}

/// Arrays of a kind, printed as `array_out` does.
fn array(item: &Kind, null_branch: Option<u8>) -> Kind {
    let value = item.samples.clone().prop_map(|(text, json)| (quoted(&text), json));
    let items = match null_branch {
        None => vec(value, 0..8).boxed(),
        // Now and then more items than one byte can count.
        Some(_) => {
            let item = prop_oneof![4 => value, 1 => Just(("NULL".to_owned(), Json::Null))];
            prop_oneof![9 => vec(item.clone(), 0..8), 1 => vec(item, 60..70)].boxed()
        }
    };
    let samples = items.prop_map(|items| {
        let (texts, values): (Vec<String>, Vec<Json>) = items.into_iter().unzip();
        (format!("{{{}}}", texts.join(",")), Json::Array(values))
    });
    let field = FieldType { null_branch, base: item.fed.field.base.clone() };
    let source = SourceType::Array(Box::new(item.fed.source.clone()));
    let mut kind = kind(source, BaseType::Array(Box::new(field)), samples);
    kind.fed.options = item.fed.options.clone();
    kind
}

fn quoted(text: &str) -> String {
    let needs = text.is_empty()
        || text.eq_ignore_ascii_case("null")
        || text.contains(|c: char| {
            matches!(c, '"' | '\\' | '{' | '}' | ',' | ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
        });
    if needs { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) } else { text.to_owned() }
}

fn floats() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits).prop_filter("NaN has many forms", |n| !n.is_nan())
}

fn doubles() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("NaN has many forms", |n| !n.is_nan())
}

/// As PostgreSQL prints floats: shortest, `e+05`, `Infinity`.
fn words<T: std::fmt::LowerExp + std::fmt::Display>(n: T) -> String {
    match format!("{n:e}").split_once('e') {
        None => n.to_string().replace("inf", "Infinity"),
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(small) => format!("{digits}e-{small:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
    }
}

/// Numbers of up to so many digits, `scale` of them after the point, published at scale `to`.
fn numbers(digits: usize, scale: usize, to: u32) -> impl Strategy<Value = Sample> {
    (any::<bool>(), digit_text(digits)).prop_map(move |(negative, digits)| {
        let magnitude: BigInt = digits.parse().unwrap();
        let unscaled = if negative { -magnitude } else { magnitude };
        let text = point(&unscaled, scale);
        (text, json!((unscaled * BigInt::from(10u8).pow(to - scale as u32)).to_string()))
    })
}

/// A plain decimal: at least one digit before the point.
fn point(unscaled: &BigInt, scale: usize) -> String {
    let sign = if unscaled.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    let digits = format!("{:0>1$}", unscaled.magnitude().to_string(), scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn money(cents: i64) -> String {
    let (whole, fraction) = (cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
    let digits = whole.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{}${grouped}.{fraction:02}", if cents < 0 { "-" } else { "" })
}

/// From the year 1 to 9999, so that every reader has a type for them.
fn moments() -> impl Strategy<Value = jiff::Timestamp> {
    let fraction = prop_oneof![Just(0i64), 0i64..1_000_000, (0i64..1_000).prop_map(|ms| ms * 1_000)];
    (-62_135_596_800i64..253_402_200_000, fraction)
        .prop_map(|(second, micros)| jiff::Timestamp::from_microsecond(second * 1_000_000 + micros).unwrap())
}

fn time(at: jiff::Timestamp) -> String {
    let text = at.strftime("%H:%M:%S").to_string();
    match at.as_microsecond().rem_euclid(1_000_000) {
        0 => text,
        micros => format!("{text}.{}", format!("{micros:06}").trim_end_matches('0')),
    }
}

fn stamp(at: jiff::Timestamp) -> String {
    format!("{} {}", at.strftime("%Y-%m-%d"), time(at))
}

fn uuid(bytes: &[u8; 16]) -> String {
    let hex = forms::hex(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn digit_text(max: usize) -> impl Strategy<Value = String> {
    vec(0u8..10, 1..=max).prop_map(|digits| digits.iter().map(|digit| char::from(b'0' + digit)).collect())
}
