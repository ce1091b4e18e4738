//! Why a pair is refused, and what its author may do instead.

use crate::avro::BaseType;
use crate::contract::FeedOptions;
use crate::table::SourceType;

use super::Pair;
use super::draft::draft_type;
use super::name::source_type_name;

pub(super) fn refused(why: impl Into<String>, hint: impl Into<String>) -> Pair {
    Pair::Refused { why: why.into(), hint: Some(hint.into()) }
}

/// The refusal of a pair that the matrix does not list.
pub(super) fn of_pair(source: &SourceType, target: &BaseType) -> Pair {
    use BaseType as To;
    use SourceType as From;
    let why = format!("not every `{}` has a `{}` of the same meaning", source_type_name(source), target);
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
pub(super) fn misplaced_option(source: &SourceType, target: &BaseType, options: &FeedOptions) -> Option<Pair> {
    let (source, target) = match (source, target) {
        (SourceType::Array(item), BaseType::Array(to)) => (&**item, &to.base),
        other => other,
    };
    let maps = options.map.is_some() || options.otherwise.is_some();
    if maps && !matches!(target, BaseType::Enum { .. }) {
        return Some(refused(
            format!("`map` and `else` choose a symbol of an enum, and the field is `{}`", target),
            "make the field an enum in the schema, or drop `map` and `else`",
        ));
    }
    if options.timezone.is_some() && !takes_timezone(source, target) {
        return Some(refused(
            format!("`timezone` has no meaning from `{}` to `{}`", source_type_name(source), target),
            "drop it: it is for `timestamp` to `timestamp-micros`, and `timestamptz` to `local-timestamp-micros` or `date`",
        ));
    }
    None
}

fn takes_timezone(source: &SourceType, target: &BaseType) -> bool {
    matches!(
        (source, target),
        (SourceType::Timestamp, BaseType::TimestampMicros)
            | (SourceType::Timestamptz, BaseType::LocalTimestampMicros | BaseType::Date)
    )
}
