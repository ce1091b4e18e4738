//! Why a pair is refused, and what its author may do instead.

use crate::avro::BaseType;
use crate::contract::FeedOptions;
use crate::table::SourceType;

use super::Pair;
use super::axes::By;
use super::draft::draft_type;
use super::name::source_type_name;

pub(super) fn refused(why: impl Into<String>, hint: impl Into<String>) -> Pair {
    Pair::Refused { why: why.into(), hint: Some(hint.into()) }
}

/// The refusal of a pair that the matrix does not list.
pub(super) fn of_pair(source: &SourceType, target: &BaseType, options: &FeedOptions) -> Pair {
    use BaseType as To;
    use SourceType as From;
    if let Some(refused) = of_options(source, target, options) {
        return refused;
    }
    let why = match options.path.is_some() {
        true => format!("what a path finds in `{}` is no `{}`", source_type_name(source), target),
        false => format!("not every `{}` has a `{}` of the same meaning", source_type_name(source), target),
    };
    let draft = draft_type(source).base.to_string();
    let hint = match (source, target) {
        (From::Int2 | From::Int4, To::Enum { .. }) => {
            "say `map: {1: SYMBOL, …}` which number stands for which symbol".to_owned()
        }
        (From::Enum { .. }, To::Enum { name, .. }) => {
            format!("give the enum `{name}` a `default`, so that readers survive a symbol that is added later")
        }
        (From::Timestamp, To::TimestampMicros) => {
            "a timestamp without time zone names no instant: say `timezone: NAME`, or use `local-timestamp-micros`"
                .to_owned()
        }
        (From::Timestamptz, To::LocalTimestampMicros | To::Date) => {
            format!("say `timezone: NAME` for whose clock or calendar, or use `{draft}`")
        }
        (From::Money, To::Decimal { .. }) => {
            format!("money has 19 digits, two of them after the point: use `{draft}`, or `string`")
        }
        (From::Json | From::Jsonb, To::String) => "drop what stands beside `path`".to_owned(),
        (From::Json | From::Jsonb, _) if options.path.is_none() => {
            format!("say `path: $.KEY` for what in it feeds the field, or use `{draft}`")
        }
        (From::Json | From::Jsonb, _) => "use `string`".to_owned(),
        (From::Float4 | From::Float8 | From::Numeric { .. }, To::Int | To::Long | To::Decimal { .. } | To::Double) => {
            format!("say `round: half_even` if digits may be lost, or use `{draft}`, or `string`")
        }
        (From::Text | From::Varchar | From::Char | From::Name | From::Citext, To::Bytes | To::Fixed { .. }) => {
            "say `encode: utf8`, `hex` or `base64`, which says what the text stands for, or use `string`".to_owned()
        }
        (From::Bytea, To::String) => "say `encode: hex`, `base64` or `utf8`, or use `bytes`".to_owned(),
        (From::Float8, To::Float) => "a float8 has more digits than a float: use `double`, or `string`".to_owned(),
        (From::Array(item), To::Array(_)) if !super::draft::is_comma_separated(item) => {
            "the text of such arrays cannot be taken apart safely: use `string`".to_owned()
        }
        (From::Bytea, _) => "use `bytes`".to_owned(),
        _ if draft == "string" => "use `string`".to_owned(),
        _ => format!("use `{draft}`, or `string`"),
    };
    refused(why, hint)
}

/// An option that has no meaning for the pair is refused, never ignored.
fn of_options(source: &SourceType, target: &BaseType, options: &FeedOptions) -> Option<Pair> {
    let mut given = By::of(options);
    let by = given.next()?;
    if let Some(second) = given.next() {
        return Some(refused(
            format!("`{}` and `{}` cannot both decide about one field", by.name(), second.name()),
            "say one of them",
        ));
    }
    if by == By::Map {
        return match target {
            BaseType::Enum { .. } => None,
            _ => Some(refused(
                format!("`map` and `else` choose a symbol of an enum, and the field is `{target}`"),
                "make the field an enum in the schema, or drop `map` and `else`",
            )),
        };
    }
    let hint = match by {
        By::Nothing | By::Map | By::Timezone => {
            "drop it: it is for `timestamp` to `timestamp-micros`, and `timestamptz` to `local-timestamp-micros` or `date`"
        }
        By::Round => "drop it: it is for numbers that go into fewer digits: decimals, `int`, `long`, `double`",
        By::Hex | By::Base64 | By::Utf8 => "drop it: it is for `bytea` to `string`, and text to `bytes` or `fixed`",
    };
    let why = format!("`{}` has no meaning from `{}` to `{target}`", by.name(), source_type_name(source));
    Some(refused(why, hint))
}
