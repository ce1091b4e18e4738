//! Short texts of the matrix's cases → types.

use gimbal::avro::{BaseType, FieldType};
use gimbal::table::{EnumLabel, SourceType};

/// What a map says: labels and symbols.
pub type Map = Vec<(String, String)>;

/// A field's type, and what a map says: `decimal(9,2)`, `array(null long)`, `enum(A B) default A: x=A, y\, z=B`.
pub fn parse(text: &str) -> (BaseType, Map) {
    let inside = |name: &str| text.strip_prefix(name).and_then(|rest| rest.strip_prefix('('));
    if let Some(rest) = inside("decimal") {
        let (precision, scale) = rest.trim_end_matches(')').split_once(',').unwrap();
        return (BaseType::Decimal { precision: precision.parse().unwrap(), scale: scale.parse().unwrap() }, vec![]);
    }
    if let Some(rest) = inside("fixed") {
        let size = rest.trim_end_matches(')').parse().unwrap();
        return (BaseType::Fixed { name: "Fixed".to_owned(), size }, vec![]);
    }
    if let Some(rest) = inside("array") {
        let rest = rest.strip_suffix(')').unwrap_or(rest);
        let (null_branch, item) = rest.strip_prefix("null ").map_or((None, rest), |item| (Some(0), item));
        // The outer bracket closes at the very end, where a default does not stand.
        let item = if item.starts_with("enum") && !item.contains(')') { format!("{item})") } else { item.to_owned() };
        let (base, map) = parse(&item);
        return (BaseType::Array(Box::new(FieldType { null_branch, base })), map);
    }
    if let Some(rest) = inside("enum") {
        let (symbols, rest) = rest.split_once(')').unwrap();
        let (default, map) = rest.split_once(':').unwrap_or((rest, ""));
        let default = default.trim().strip_prefix("default ").map(str::to_owned);
        let symbols = symbols.split(' ').map(str::to_owned).collect();
        let map = map.replace("\\,", "\u{1}");
        let pair = |pair: &str| {
            let (from, to) = pair.trim().rsplit_once('=').unwrap();
            (from.replace('\u{1}', ","), to.to_owned())
        };
        let map = map.split(',').filter(|pair| !pair.trim().is_empty()).map(pair).collect();
        return (BaseType::Enum { name: "test.Symbol".to_owned(), symbols, default }, map);
    }
    let plain = match text {
        "boolean" => BaseType::Boolean,
        "long" => BaseType::Long,
        "double" => BaseType::Double,
        "bytes" => BaseType::Bytes,
        "string" => BaseType::String,
        "date" => BaseType::Date,
        "timestamp-micros" => BaseType::TimestampMicros,
        "uuid" => BaseType::UuidString,
        other => panic!("what is the type `{other}`?"),
    };
    (plain, vec![])
}

/// A column's type by its name in SQL.
pub fn source(sql: &str) -> SourceType {
    if let Some(item) = sql.strip_suffix("[]") {
        return SourceType::Array(Box::new(source(item)));
    }
    let (name, modifier) = sql.split_once('(').map_or((sql, None), |(name, rest)| (name, rest.strip_suffix(')')));
    match name {
        "bool" => SourceType::Bool,
        "int2" => SourceType::Int2,
        "int4" => SourceType::Int4,
        "int8" => SourceType::Int8,
        "oid" => SourceType::Oid,
        "float4" => SourceType::Float4,
        "float8" => SourceType::Float8,
        "numeric" => {
            let digits = modifier.and_then(|modifier| modifier.split_once(','));
            let (precision, scale) = digits.map_or((None, None), |(p, s)| (p.parse().ok(), s.parse().ok()));
            SourceType::Numeric { precision, scale }
        }
        "money" => SourceType::Money,
        "text" => SourceType::Text,
        "varchar" => SourceType::Varchar,
        "char" => SourceType::Char,
        "name" => SourceType::Name,
        "citext" => SourceType::Citext,
        "bytea" => SourceType::Bytea,
        "date" => SourceType::Date,
        "time" => SourceType::Time,
        "timetz" => SourceType::Timetz,
        "interval" => SourceType::Interval,
        "timestamp" => SourceType::Timestamp,
        "timestamptz" => SourceType::Timestamptz,
        "uuid" => SourceType::Uuid,
        "json" => SourceType::Json,
        "jsonb" => SourceType::Jsonb,
        "mood" => {
            let labels = ["sad", "so, so", "happy \"!\"", "NULL"].iter().zip(1..);
            SourceType::Enum {
                labels: labels.map(|(label, oid)| EnumLabel { oid, label: (*label).to_owned() }).collect(),
            }
        }
        other => SourceType::Other { name: other.to_owned() },
    }
}
