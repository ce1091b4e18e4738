//! What PostgreSQL prints under the pinned settings becomes what PostgreSQL itself says about the value.

use gimbal::avro::{BaseType, FieldType};
use gimbal::pairs::draft_type;
use gimbal::projection::Reason;
use gimbal::table::{EnumLabel, SourceType};
use serde_json::Value as Json;

use super::{Fed, forms};
use crate::lab;

/// The settings that gimbal pins on every connection, as far as they rule text.
const PINS: &str = "set datestyle = 'ISO'; set intervalstyle = 'iso_8601'; set timezone = 'UTC'; \
                    set bytea_output = 'hex'; set extra_float_digits = 1";

/// How the server says in JSON what must be published; `v` is the value.
mod says {
    pub const TEXT: &str = "to_json(v::text)";
    pub const NUMBER: &str = "to_json(v)";
    pub const TIME: &str = "to_json((extract(epoch from v) * 1000000)::numeric(30,0))";
    /// By day and time of day, because `extract(epoch …)` of a far timestamp has too few digits.
    pub const MICROS: &str = "to_json(((v::date - date '1970-01-01') * 86400000000::numeric \
                              + extract(epoch from v::time) * 1000000)::numeric(30,0))";
    pub const DAYS: &str = "to_json(v - date '1970-01-01')";
    pub const HEX: &str = "to_json(encode(v, 'hex'))";
    pub const FLOAT4: &str = "to_json(encode(float4send(v), 'hex'))";
    pub const FLOAT8: &str = "to_json(encode(float8send(v), 'hex'))";
    pub const CENTS: &str = "to_json(trim_scale(v::numeric * 100)::text)";
    pub const ARRAY: &str = "to_json(v)";
}

/// A type: its name, its source type, ordinary values as SQL literals, what the server says, values that must not pass.
struct Column {
    sql: &'static str,
    source: SourceType,
    values: &'static [&'static str],
    says: String,
    poison: &'static [(&'static str, Reason)],
}

fn column(
    sql: &'static str,
    source: SourceType,
    values: &'static [&'static str],
    says: &str,
    poison: &'static [(&'static str, Reason)],
) -> Column {
    Column { sql, source, values, says: says.to_owned(), poison }
}

fn check(column: &Column, base: BaseType) {
    let sql = lab::postgres().sql();
    sql.run(PINS);
    let fed = Fed::plain(column.source.clone(), FieldType { null_branch: Some(0), base });
    let projection = super::projection(std::slice::from_ref(&fed));
    let schema =
        apache_avro::Schema::parse_str(&super::record_schema(std::slice::from_ref(&fed)).to_json().to_string());
    let schema = schema.unwrap();
    let values = |literals: Vec<&str>| -> String {
        literals.iter().map(|v| format!("('{}'::{})", v.replace('\'', "''"), column.sql)).collect::<Vec<_>>().join(", ")
    };
    let type_name = column.sql;
    let query =
        format!("select v, ({})::text from (values {}, (null)) t(v)", column.says, values(column.values.to_vec()));
    let rows = sql.rows(&query);
    assert_eq!(rows.len(), column.values.len() + 1);
    for row in rows {
        let text = row[0].as_deref();
        let framed =
            super::encode(&projection, [text]).unwrap_or_else(|error| panic!("{type_name} {text:?}: {error:?}"));
        let said: Json = row[1].as_deref().map_or(Json::Null, |said| serde_json::from_str(said).unwrap());
        assert_eq!(forms::decode(&schema, &framed), [said], "{type_name} {text:?} as {}", fed.field);
    }
    for (literal, reason) in column.poison {
        let row = &sql.rows(&format!("select v from (values {}) t(v)", values(vec![literal])))[0];
        let found = super::encode(&projection, [row[0].as_deref()]).map_err(|error| error.reason);
        assert_eq!(found.err(), Some(*reason), "{type_name} {row:?}");
    }
}

fn numeric(precision: u16, scale: i16) -> SourceType {
    SourceType::Numeric { precision: Some(precision), scale: Some(scale) }
}

fn other(name: &str) -> SourceType {
    SourceType::Other { name: name.to_owned() }
}

fn array(item: SourceType) -> SourceType {
    SourceType::Array(Box::new(item))
}

fn numbers() -> Vec<Column> {
    let unscaled = |scale: u32| format!("to_json(trim_scale(v * 1e{scale})::text)");
    let any = SourceType::Numeric { precision: None, scale: None };
    vec![
        column("bool", SourceType::Bool, &["t", "f"], says::NUMBER, &[]),
        column("int2", SourceType::Int2, &["-32768", "0", "32767"], says::NUMBER, &[]),
        column("int4", SourceType::Int4, &["-2147483648", "-1", "2147483647"], says::NUMBER, &[]),
        column("int8", SourceType::Int8, &["-9223372036854775808", "0", "9223372036854775807"], says::NUMBER, &[]),
        column("oid", SourceType::Oid, &["0", "4294967295"], "to_json(v::int8)", &[]),
        column(
            "float4",
            SourceType::Float4,
            &["0.1", "-0", "1e-45", "3.4028235e38", "Infinity", "NaN"],
            says::FLOAT4,
            &[],
        ),
        column(
            "float8",
            SourceType::Float8,
            &[
                "0.1",
                "-0",
                "5e-324",
                "1.7976931348623157e308",
                "-Infinity",
                "1e15",
                "123456789012345680",
                "0.30000000000000004",
            ],
            says::FLOAT8,
            &[],
        ),
        column(
            "numeric(12,3)",
            numeric(12, 3),
            &["0", "0.001", "-0.001", "999999999.999", "-128e-3", "1e5"],
            &unscaled(3),
            &[("NaN", Reason::Nan)],
        ),
        column(
            "numeric(60,0)",
            numeric(60, 0),
            &[
                "0",
                "170141183460469231731687303715884105728",
                "-999999999999999999999999999999999999999999999999999999999999",
            ],
            &unscaled(0),
            &[("NaN", Reason::Nan)],
        ),
        column("numeric", any, &["NaN", "Infinity", "1e40", "0.10", "-1e-20"], says::TEXT, &[]),
        column(
            "money",
            SourceType::Money,
            &["0", "1234.5", "-0.01", "-92233720368547758.08", "92233720368547758.07"],
            says::CENTS,
            &[],
        ),
    ]
}

fn texts() -> Vec<Column> {
    vec![
        column("text", SourceType::Text, &["", "é\\n\"", " a "], says::TEXT, &[]),
        column("varchar(5)", SourceType::Varchar, &["ab ", "🙂"], says::TEXT, &[]),
        column("char(5)", SourceType::Char, &["", "ab", " a b "], says::TEXT, &[]),
        column("name", SourceType::Name, &["a name"], says::TEXT, &[]),
        column("bytea", SourceType::Bytea, &["", "\\x00ff5c22", "a\\\\b"], says::HEX, &[]),
        column("uuid", SourceType::Uuid, &["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"], says::TEXT, &[]),
        column("json", SourceType::Json, &["{\"a\" : [1,  2.50]}", "null", "\"é\""], says::TEXT, &[]),
        column("jsonb", SourceType::Jsonb, &["{\"b\":1,\"a\":\"\\\"\"}", "1e2"], says::TEXT, &[]),
        column("interval", SourceType::Interval, &["1 year -2 days 03:04:05.5", "0"], says::TEXT, &[]),
        column("timetz", SourceType::Timetz, &["12:34:56.7+05:30"], says::TEXT, &[]),
        column("inet", other("inet"), &["10.0.0.1/8"], says::TEXT, &[]),
        column("int4range", other("int4range"), &["[1,5)", "empty"], says::TEXT, &[]),
        column("bit varying", other("bit varying"), &["1010"], says::TEXT, &[]),
        column("box", other("box"), &["(1,2),(3,4)"], says::TEXT, &[]),
        column("tsvector", other("tsvector"), &["a fat cat"], says::TEXT, &[]),
        column("pg_lsn", other("pg_lsn"), &["16/B374D848"], says::TEXT, &[]),
        column("box[]", array(other("box")), &["{(1,2),(3,4);(5,6),(7,8)}"], says::TEXT, &[]),
    ]
}

fn moments() -> Vec<Column> {
    vec![
        column(
            "date",
            SourceType::Date,
            &[
                "1970-01-01",
                "2000-02-29",
                "0001-01-01",
                "0001-12-31 BC",
                "4714-11-24 BC",
                "5874897-12-31",
                "10000-01-01",
            ],
            says::DAYS,
            &[("infinity", Reason::Infinity), ("-infinity", Reason::Infinity)],
        ),
        column(
            "time",
            SourceType::Time,
            &["00:00:00", "23:59:59.999999", "12:30:00.5", "01:02:03.000001"],
            says::TIME,
            &[("24:00:00", Reason::OutOfRange)],
        ),
        column(
            "timestamp",
            SourceType::Timestamp,
            &[
                "1970-01-01 00:00:00",
                "1969-12-31 23:59:59.999999",
                "0044-03-15 12:00:00.25 BC",
                "4714-11-24 00:00:00 BC",
                "10000-01-01 00:00:00",
                "294247-01-10 04:00:54.775807",
            ],
            says::MICROS,
            &[
                ("infinity", Reason::Infinity),
                ("-infinity", Reason::Infinity),
                ("294247-01-10 04:00:54.775808", Reason::OutOfRange),
                ("294276-12-31 23:59:59.999999", Reason::OutOfRange),
            ],
        ),
        column(
            "timestamptz",
            SourceType::Timestamptz,
            &[
                "2026-07-01 12:00:00.123456+05:30",
                "0001-01-01 00:00:00+14",
                "4714-11-24 00:00:00+00 BC",
                "294246-12-31 23:59:59-05",
            ],
            says::MICROS,
            &[("infinity", Reason::Infinity), ("294276-12-31 23:59:59.999999+00", Reason::OutOfRange)],
        ),
    ]
}

fn arrays() -> Vec<Column> {
    const SHAPES: &[(&str, Reason)] = &[
        ("{{1,2},{3,4}}", Reason::Dimensions),
        ("[2:3]={1,2}", Reason::Bounds),
        ("[0:0][1:1]={{7}}", Reason::Dimensions),
    ];
    let each = |item: &str| {
        let items = format!("select json_agg({item} order by o) from unnest(v) with ordinality u(x, o)");
        format!("case when v is not null then ({items}) end")
    };
    vec![
        column("int4[]", array(SourceType::Int4), &["{}", "{1,NULL,-3}", "[1:2]={8,9}"], says::ARRAY, SHAPES),
        column("int8[]", array(SourceType::Int8), &["{9223372036854775807}"], says::ARRAY, SHAPES),
        column("bool[]", array(SourceType::Bool), &["{t,f,NULL}"], says::ARRAY, &[]),
        column(
            "text[]",
            array(SourceType::Text),
            &["{}", r#"{a,"",NULL,"NULL","null","a,b","{}","\"","\\"," ","é"}"#],
            says::ARRAY,
            SHAPES,
        ),
        column("char(3)[]", array(SourceType::Char), &["{a,\"b c\"}"], &each("x::text"), &[]),
        column("bytea[]", array(SourceType::Bytea), &[r#"{"\\x00ff","",NULL}"#], &each("encode(x, 'hex')"), &[]),
        column(
            "numeric(8,2)[]",
            array(numeric(8, 2)),
            &["{1.5,-0.01,NULL}"],
            &each("trim_scale(x * 100)::text"),
            &[("{NaN}", Reason::Nan)],
        ),
        column("money[]", array(SourceType::Money), &["{1234.5,-1}"], &each("trim_scale(x::numeric * 100)::text"), &[]),
        column(
            "date[]",
            array(SourceType::Date),
            &["{2026-07-01,\"0001-01-01 BC\"}"],
            &each("x - date '1970-01-01'"),
            &[("{infinity}", Reason::Infinity)],
        ),
        column(
            "timestamptz[]",
            array(SourceType::Timestamptz),
            &["{2026-07-01,NULL}"],
            &each("(extract(epoch from x) * 1000000)::numeric(30,0)"),
            &[("{infinity}", Reason::Infinity)],
        ),
        column("float8[]", array(SourceType::Float8), &["{0.1,-Infinity}"], &each("encode(float8send(x), 'hex')"), &[]),
        column("uuid[]", array(SourceType::Uuid), &["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"], says::ARRAY, &[]),
        column("jsonb[]", array(SourceType::Jsonb), &[r#"{"{\"a\": \"\\\"\"}"}"#], &each("x::text"), &[]),
        column("int4range[]", array(other("int4range")), &["{\"[1,5)\"}"], &each("x::text"), &[]),
    ]
}

#[test]
fn every_draft_is_what_the_server_says_of_the_value() {
    for column in numbers().into_iter().chain(texts()).chain(moments()).chain(arrays()) {
        check(&column, draft_type(&column.source).base);
    }
}

#[test]
fn every_type_as_string_is_the_servers_text() {
    let all = numbers().into_iter().chain(texts()).chain(moments()).chain(arrays());
    // `bytea` needs the author's word on how its bytes become text.
    for mut column in all.filter(|column| column.source != SourceType::Bytea) {
        column.poison = &[];
        column.says = match column.source {
            SourceType::Money => "to_json(v::numeric::text)".to_owned(),
            _ => says::TEXT.to_owned(),
        };
        check(&column, BaseType::String);
    }
}

#[test]
fn checked_pairs_are_lossless_or_refused() {
    let any = SourceType::Numeric { precision: None, scale: None };
    let decimal = BaseType::Decimal { precision: 10, scale: 2 };
    let fits: &[&str] = &["0", "1.50", "-99999999.99", "1.5000"];
    let poison: &[(&str, Reason)] = &[
        ("0.001", Reason::Inexact),
        ("100000000", Reason::OutOfRange),
        ("1e400", Reason::OutOfRange),
        ("Infinity", Reason::Infinity),
        ("NaN", Reason::Nan),
    ];
    check(&column("numeric", any.clone(), fits, "to_json(trim_scale(v * 100)::text)", poison), decimal);
    let poison: &[(&str, Reason)] =
        &[("0.5", Reason::Inexact), ("9223372036854775808", Reason::OutOfRange), ("NaN", Reason::Nan)];
    check(&column("numeric", any, &["7.000", "-9223372036854775808"], "to_json(v::int8)", poison), BaseType::Long);
    let poison: &[(&str, Reason)] = &[("2147483648", Reason::OutOfRange)];
    check(&column("int8", SourceType::Int8, &["-2147483648"], says::NUMBER, poison), BaseType::Int);
    let poison: &[(&str, Reason)] = &[("2026-07-01 00:00:00.000001+00", Reason::Inexact)];
    let millis = "to_json((extract(epoch from v) * 1000)::numeric(30,0))";
    let instants: &[&str] = &["1969-12-31 23:59:59.999+00", "2026-07-01 12:00:00+02"];
    check(&column("timestamptz", SourceType::Timestamptz, instants, millis, poison), BaseType::TimestampMillis);
    let poison: &[(&str, Reason)] = &[("\\x00", Reason::Length), ("", Reason::Length)];
    let fixed = BaseType::Fixed { name: "F".to_owned(), size: 2 };
    check(&column("bytea", SourceType::Bytea, &["\\x00ff"], says::HEX, poison), fixed);
    let uuids: &[&str] = &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"];
    check(&column("uuid", SourceType::Uuid, uuids, says::TEXT, &[]), BaseType::UuidFixed);
}

#[test]
fn an_enum_is_its_label_or_a_symbol() {
    let database = lab::postgres().fresh_database("projection_enum");
    database.run("create type mood as enum ('sad', 'so, so', 'happy \"!\"')");
    let texts = database.rows("select v, array[v, null] from unnest(enum_range(null::mood)) v");
    let labels = ["sad", "so, so", "happy \"!\""].map(|label| EnumLabel { oid: 1, label: label.to_owned() });
    let source = SourceType::Enum { labels: labels.to_vec() };
    let map =
        [("sad", "SAD"), ("so, so", "SO_SO"), ("happy \"!\"", "HAPPY")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let symbols = ["UNKNOWN", "SAD", "SO_SO", "HAPPY"].map(str::to_owned).to_vec();
    let target = BaseType::Enum { name: "test.Mood".to_owned(), symbols, default: Some("UNKNOWN".to_owned()) };
    let mut fed = Fed::plain(source.clone(), FieldType::required(target.clone()));
    fed.options.map = Some(map.to_vec());
    let items = BaseType::Array(Box::new(FieldType::nullable(target)));
    let list = Fed { source: array(source), field: FieldType::required(items), ..fed.clone() };
    let columns = [fed, list];
    let projection = super::projection(&columns);
    let schema = apache_avro::Schema::parse_str(&super::record_schema(&columns).to_json().to_string()).unwrap();
    assert_eq!(texts.len(), 3);
    for (row, symbol) in texts.iter().zip(["SAD", "SO_SO", "HAPPY"]) {
        let framed = super::encode(&projection, row.iter().map(Option::as_deref)).unwrap();
        assert_eq!(forms::decode(&schema, &framed), [serde_json::json!(symbol), serde_json::json!([symbol, null])]);
    }
}
