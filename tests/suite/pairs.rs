//! The matrix of pairs against live servers: what each pair accepts is what PostgreSQL itself says of the value, and
//! what it refuses is refused with its reason. The values are the matrix's own.

mod field;
mod mapping;
mod says;

use std::sync::OnceLock;

use apache_avro::Schema;
use gimbal::avro::{BaseType, FieldType};
use gimbal::contract::{Encoding, FeedOptions, JsonPath, Rounding};
use gimbal::pairs::axes::{By, How, Kind};
use gimbal::pairs::matrix::{Case, Entry, MATRIX};
use gimbal::pairs::{Pair, classify};
use gimbal::table::SourceType;
use serde_json::{Value as Json, json};

use crate::lab::{self, Options, Postgres, Sql};
use crate::projection::{Fed, encode, forms, projection, record_schema, value_id};

/// The settings that gimbal pins on every connection, as far as they rule text.
pub const PINS: &str = "set datestyle = 'ISO'; set intervalstyle = 'iso_8601'; set timezone = 'UTC'; \
                        set bytea_output = 'hex'; set extra_float_digits = 1";

const TYPES: &str = "create type mood as enum ('sad', 'so, so', 'happy \"!\"', 'NULL'); \
                     create type pair as (a int, b text); \
                     create domain inner_number as numeric(8,2) check (value < 1000); \
                     create domain outer_number as inner_number not null";

/// PostgreSQL 17, beside the one that all tests share.
fn postgres_17() -> &'static Postgres {
    static SEVENTEEN: OnceLock<Postgres> = OnceLock::new();
    SEVENTEEN.get_or_init(|| {
        let bin = lab::lab_folder().join("pg17/bin");
        assert!(bin.join("initdb").exists(), "no PostgreSQL 17 here: run scripts/setup.sh pg17");
        Postgres::start(Options::default().programs(bin))
    })
}

/// Both servers, each with a database that has the tests' types; in the matrix the one of the major under test.
fn servers(name: &str) -> Vec<lab::Database> {
    let shared = lab::postgres();
    let servers = if lab::in_matrix() { vec![shared] } else { vec![shared, postgres_17()] };
    let opened = servers.into_iter().map(|server| {
        let database = server.fresh_database(name);
        database.run(TYPES);
        database.run(PINS);
        let citext = "select 1 from pg_available_extensions where name = 'citext'";
        if !database.rows(citext).is_empty() {
            database.run("create extension citext");
        }
        database
    });
    opened.collect()
}

/// One line a record, for fastavro.
type Lines = Vec<Json>;

/// One pair with one type of column.
struct Subject<'a> {
    entry: &'a Entry,
    case: &'a Case,
    column: String,
    fed: Fed,
}

#[test]
fn every_pair_is_what_the_server_says_of_its_values() {
    let mut lines = Lines::new();
    for database in servers("pairs_matrix") {
        let has_citext = !database.rows("select 1 from pg_type where typname = 'citext'").is_empty();
        for entry in MATRIX {
            for (kind, case) in entry.from.iter().flat_map(|kind| entry.cases.iter().map(move |case| (*kind, case))) {
                if kind == Kind::Citext && !has_citext {
                    continue;
                }
                for column in columns(kind, case) {
                    let subject = Subject { entry, case, fed: fed(kind, entry, case, &column), column };
                    subject.accepted(&database, &mut lines);
                    subject.refused(&database);
                }
            }
        }
    }
    assert!(lines.len() > 500, "{}", lines.len());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let printed = lab::python("py/decode_records.py", &[&file.path().to_string_lossy()]);
    assert_eq!(printed.trim(), format!("{} records equal", lines.len()));
}

/// The SQL types that stand for a kind.
fn columns(kind: Kind, case: &Case) -> Vec<String> {
    let plain: &[&str] = match kind {
        _ if !case.column.is_empty() => &[case.column],
        Kind::Bool => &["bool"],
        Kind::Int2 => &["int2"],
        Kind::Int4 => &["int4"],
        Kind::Int8 => &["int8"],
        Kind::Oid => &["oid"],
        Kind::Float4 => &["float4"],
        Kind::Float8 => &["float8"],
        Kind::Numeric => &["numeric"],
        Kind::Money => &["money"],
        Kind::Text => &["text"],
        Kind::Varchar => &["varchar(60)"],
        Kind::Char => &["char(60)"],
        Kind::Name => &["name"],
        Kind::Citext => &["citext"],
        Kind::Bytea => &["bytea"],
        Kind::Date => &["date"],
        Kind::Time => &["time"],
        Kind::Timetz => &["timetz"],
        Kind::Interval => &["interval"],
        Kind::Timestamp => &["timestamp"],
        Kind::Timestamptz => &["timestamptz"],
        Kind::Uuid => &["uuid"],
        Kind::Json => &["json"],
        Kind::Jsonb => &["jsonb"],
        Kind::Enum => &["mood"],
        Kind::Array | Kind::Other => &[],
        Kind::Path => &["json", "jsonb"],
    };
    assert!(!plain.is_empty(), "a case of {kind:?} names its column's type");
    plain.iter().map(|column| (*column).to_owned()).collect()
}

fn fed(kind: Kind, entry: &Entry, case: &Case, column: &str) -> Fed {
    let (base, map) = match case.field {
        "" => (entry.to.plain().expect("a case of a type with parameters names them"), Vec::new()),
        field => field::parse(field),
    };
    let options = FeedOptions {
        path: (kind == Kind::Path).then(|| JsonPath::parse("$.v").unwrap()),
        map: (entry.by == By::Map).then_some(map),
        timezone: (entry.by == By::Timezone).then(|| says::ZONE.to_owned()),
        round: (entry.by == By::Round).then_some(Rounding::HalfEven),
        encode: match entry.by {
            By::Hex => Some(Encoding::Hex),
            By::Base64 => Some(Encoding::Base64),
            By::Utf8 => Some(Encoding::Utf8),
            _ => None,
        },
        ..FeedOptions::default()
    };
    let fed = Fed { source: field::source(column), field: FieldType::nullable(base), options };
    let pair = classify(&fed.source, &fed.field, &fed.options);
    assert!(!matches!(pair, Pair::Refused { .. }), "{column}: {pair:?}");
    if entry.to != gimbal::pairs::axes::Form::Array {
        let found = gimbal::pairs::entry(&fed.source, &fed.field.base, &fed.options).unwrap();
        assert_eq!(found.how, entry.how, "{column} to {:?} is another entry's", entry.to);
    }
    fed
}

impl Subject<'_> {
    fn name(&self) -> String {
        format!("{} to {} by {}", self.column, self.fed.field, self.entry.by.name())
    }

    fn literal(&self, value: &str) -> String {
        let value = match self.fed.options.path {
            Some(_) => format!("{{\"v\": {value}}}"),
            None => value.to_owned(),
        };
        format!("('{}'::{})", value.replace('\'', "''"), self.column)
    }

    fn accepted(&self, sql: &Sql, lines: &mut Lines) {
        let fed = std::slice::from_ref(&self.fed);
        let (projection, record) = (projection(fed), record_schema(fed).to_json());
        let schema = Schema::parse_str(&record.to_string()).unwrap();
        let values: Vec<String> = self.case.accepted.iter().map(|value| self.literal(value)).collect();
        let variable = if self.fed.options.path.is_some() { "(v #>> '{v}')" } else { "v" };
        let says = says::json(self.entry.how, &self.fed.source, &self.fed.field.base, &self.fed.options, variable);
        let rows = sql.rows(&format!("select v, ({says})::text from (values {}, (null)) t(v)", values.join(", ")));
        assert_eq!(rows.len(), values.len() + 1);
        for row in rows {
            let text = row[0].as_deref();
            let framed =
                encode(&projection, [text]).unwrap_or_else(|error| panic!("{} {text:?}: {error:?}", self.name()));
            let said: Json = row[1].as_deref().map_or(Json::Null, |said| serde_json::from_str(said).unwrap());
            let said = if self.entry.how == How::Label { self.symbol(said) } else { said };
            assert_eq!(forms::decode(&schema, &framed), std::slice::from_ref(&said), "{} {text:?}", self.name());
            if fits_python(&self.fed.field.base, &said) {
                lines.push(
                    json!({"schema": record, "id": value_id(), "record": forms::hex(&framed), "expected": [said]}),
                );
            }
        }
    }

    /// The symbol of a label, by the case's map.
    fn symbol(&self, label: Json) -> Json {
        let mapped = |text: &str| match &self.fed.options.map {
            Some(map) => map.iter().find(|(from, _)| from == text).map(|(_, symbol)| symbol.clone()).unwrap(),
            None => text.to_owned(),
        };
        label.as_str().map_or(Json::Null, |text| json!(mapped(text)))
    }

    fn refused(&self, sql: &Sql) {
        let projection = projection(std::slice::from_ref(&self.fed));
        for (value, reason) in self.case.refused {
            let row = &sql.rows(&format!("select v from (values {}) t(v)", self.literal(value)))[0];
            let found = encode(&projection, [row[0].as_deref()]).map_err(|error| error.reason.code());
            assert_eq!(found.err(), Some(*reason), "{} {row:?}", self.name());
        }
    }
}

/// Python has the years 1 to 9999 alone.
fn fits_python(base: &BaseType, value: &Json) -> bool {
    const DAY: i64 = 86_400;
    let within = |unit: i64| value.as_i64().is_none_or(|n| (-719_162 * unit..2_932_896 * unit).contains(&n));
    match base {
        BaseType::Date => within(1),
        BaseType::TimestampMillis => within(DAY * 1_000),
        BaseType::TimestampMicros | BaseType::LocalTimestampMicros => within(DAY * 1_000_000),
        BaseType::Array(item) => {
            value.as_array().is_none_or(|list| list.iter().all(|one| fits_python(&item.base, one)))
        }
        _ => true,
    }
}

#[test]
fn a_domain_counts_as_its_base_type() {
    for database in servers("pairs_domain") {
        let source = SourceType::Numeric { precision: Some(8), scale: Some(2) };
        let base = BaseType::Decimal { precision: 8, scale: 2 };
        let projection = projection(&[Fed::plain(source, FieldType::required(base))]);
        for (literal, unscaled) in [("999.99", &[4, 1, 0x86, 0x9F][..]), ("-0.01", &[2, 0xFF])] {
            let text = database.text(&format!("select '{literal}'::outer_number"));
            let framed = encode(&projection, [Some(text.as_str())]).unwrap();
            assert_eq!(framed[5..].last(), unscaled.last(), "{literal}");
        }
    }
}
