//! `path`, `expr` and `mask` against what PostgreSQL and Python say.

use std::sync::Arc;

use apache_avro::Schema;
use gimbal::avro::{BaseType, FieldType};
use gimbal::contract::{Expr, FeedOptions, FeedSource, JsonPath, Mask, MaskKey, PathStep};
use gimbal::table::SourceType;
use serde_json::json;

use super::{field, servers};
use crate::lab;
use crate::projection::{Fed, encode, forms, projection, projection_of, record_schema};

fn text(source: SourceType, options: FeedOptions) -> Fed {
    Fed { source, field: FieldType::nullable(BaseType::String), options }
}

const DOCUMENTS: [&str; 16] = [
    r#"{"a": {"b": [10, {"c": "x\n\u00e9\ud83d\ude42"}, null]}, "": 1.50, "a\"": true, "k": "}"}"#,
    r#"{"a":1,"a":2}"#,
    r#"{"a":{"b":1},"a":{"c":2}}"#,
    r#"{"a":{"b":1},"a":5}"#,
    r#"{"a":{"b":1},"a":{"b":null}}"#,
    r#"{"\u0061":{"b":"escaped key"}}"#,
    r#"[[1,2],[3,[4]],{"a":"in a list"}]"#,
    r#"{"a":[{"b":1e5},-0,0.10,12E-3]}"#,
    r#"  { "a" : { "b" : [ 1 , 2 ] } , "k" : { } }  "#,
    r#""a scalar""#,
    "null",
    "{}",
    r#"{"a":"\u0000"}"#,
    r#"{"a":1,"x":"\ud800"}"#,
    r#"{"k":"\\","a":{"b":"\"quoted\" \/ \t"}}"#,
    r#"{"größe":{"b":"wide"},"a":{"b":{"c":{"d":[]}}}}"#,
];

const PATHS: [&str; 11] = [
    "$.a",
    "$.a.b",
    "$.a.b[0]",
    "$.a.b[1].c",
    "$.a[0].b",
    "$[1]",
    "$[1][1][0]",
    "$[2].a",
    "$.k",
    "$[\"\"]",
    "$[\"größe\"].b",
];

#[test]
fn a_path_finds_what_the_servers_operator_finds() {
    for database in servers("pairs_path") {
        let mut compared = 0;
        for (source, name) in [(SourceType::Json, "json"), (SourceType::Jsonb, "jsonb")] {
            for path in PATHS.map(|path| JsonPath::parse(path).unwrap()) {
                let options = FeedOptions { path: Some(path.clone()), ..FeedOptions::default() };
                let fed = [text(source.clone(), options)];
                let (projection, record) = (projection(&fed), record_schema(&fed).to_json());
                let schema = Schema::parse_str(&record.to_string()).unwrap();
                let steps: Vec<String> = path.0.iter().map(step).collect();
                for document in DOCUMENTS {
                    let document = document.replace('\'', "''");
                    // jsonb refuses some of them itself.
                    if database.try_run(&format!("select '{document}'::{name}")).is_err() {
                        continue;
                    }
                    let stored = database.text(&format!("select '{document}'::{name}"));
                    let found = encode(&projection, [Some(stored.as_str())]);
                    let query = format!("select '{document}'::{name} #>> array[{}]", steps.join(", "));
                    compared += 1;
                    if database.try_run(&query).is_err() {
                        assert_eq!(found.map_err(|error| error.reason.code()), Err("not_canonical"), "{query}");
                        continue;
                    }
                    let said = database.rows(&query)[0][0].clone();
                    assert_eq!(forms::decode(&schema, &found.unwrap()), [json!(said)], "{query}");
                }
            }
        }
        assert!(compared > 300, "{compared}");
    }
}

fn step(step: &PathStep) -> String {
    match step {
        PathStep::Key(key) => format!("'{}'", key.replace('\'', "''")),
        PathStep::Index(index) => format!("'{index}'"),
    }
}

/// Columns of the expressions' table.
const COLUMNS: [(&str, &str); 10] = [
    ("a", "text"),
    ("b", "bool"),
    ("c", "char(4)"),
    ("d", "date"),
    ("e", "mood"),
    ("i", "int4"),
    ("l", "int8"),
    ("n", "numeric"),
    ("u", "uuid"),
    ("v", "varchar(9)"),
];

const ROWS: [&str; 7] = [
    "('x', true, 'ab', '2026-01-01', 'sad', 1, 9223372036854775807, 1.50, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x')",
    "('', false, '', '0044-03-15 BC', 'so, so', -1, 0, 'NaN', '00000000-0000-0000-0000-000000000000', 'Z')",
    "('é', null, 'x', 'infinity', 'NULL', 0, -1, 'Infinity', null, 'z ')",
    "('Z', true, 'é', null, null, null, 1, '-Infinity', null, null)",
    "(null, null, null, null, null, null, null, null, null, null)",
    "('x ', false, 'x ', '2026-01-02', 'sad', 2, 2, 1.500, 'f0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'x ')",
    "('it''s', true, 'ab', '2026-01-01', 'sad', 10, 10, 10.0, null, 'ab')",
];

const EXPRESSIONS: [&str; 36] = [
    "i is null",
    "a is not null and b",
    "b or i = 1",
    "not b",
    "not (b and i > 0)",
    "b and null",
    "b or null",
    "i = l",
    "i <> n",
    "n = 1.5",
    "n > 1",
    "n >= n",
    "n <= -0.0",
    "n = 10",
    "a < 'Z'",
    "a = v",
    "a >= v",
    "a = 'it''s'",
    "c = 'x'",
    "c = 'x  '",
    "c = a",
    "c || '|'",
    "a || '-' || i || '-' || b || '-' || n",
    "v || d",
    "e = 'sad'",
    "e || '' = 'so, so'",
    "d = '2026-01-01'",
    "d <> '2026-01-01'",
    "u > '00000000-0000-0000-0000-000000000001'",
    "coalesce(a, v, 'none')",
    "coalesce(n, 0)",
    "coalesce(i, l, 7)",
    "coalesce(e, 'sad')",
    "case when b then 'yes' when i = 0 then a else coalesce(v, '?') end",
    "case i when 1 then 'one' when -1 then 'minus' end",
    "case when a = '' then null when i > -2 and not b is null then c else 'other' end || '.'",
];

#[test]
fn an_expression_is_what_the_server_works_out() {
    let columns: Vec<Fed> =
        COLUMNS.iter().map(|(_, sql)| Fed::plain(field::source(sql), FieldType::nullable(BaseType::String))).collect();
    for database in servers("pairs_expr") {
        let definitions: Vec<String> = COLUMNS
            .iter()
            .map(|(name, sql)| {
                let text = ["text", "varchar", "char"].iter().any(|text| sql.starts_with(text));
                format!("{name} {sql}{}", if text { " collate \"C\"" } else { "" })
            })
            .collect();
        database.run(&format!("create table t ({}); insert into t values {}", definitions.join(", "), ROWS.join(", ")));
        for expression in EXPRESSIONS {
            let mut expr = Expr::parse(expression).unwrap();
            let field = FieldType::nullable(BaseType::String);
            let source = FeedSource::Expr { expr: expr.clone(), options: FeedOptions::default() };
            let place = |name: &String| COLUMNS.iter().position(|(known, _)| known == name).unwrap();
            let places: Vec<usize> = expr.columns().iter().map(place).collect();
            let (projection, schema) = projection_of(&columns, field, source, &places);
            let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
            let rows = database.rows(&format!("select {}, ({expression})::text from t", names.join(", ")));
            assert_eq!(rows.len(), ROWS.len());
            for row in rows {
                let (said, cells) = row.split_last().unwrap();
                let framed = encode(&projection, cells.iter().map(Option::as_deref)).unwrap();
                assert_eq!(forms::decode(&schema, &framed), [json!(said)], "{expression} of {cells:?}");
            }
            expr = Expr::parse(expr.text()).unwrap();
            assert_eq!(expr.text(), expression);
        }
    }
}

#[test]
fn a_mac_is_what_python_works_out_and_the_value_is_not_in_it() {
    let secret = "a secret of more than sixteen bytes";
    let mut key = MaskKey::named("email_key");
    key.set_secret(secret.as_bytes());
    let masked = |base| Fed {
        source: SourceType::Text,
        field: FieldType::nullable(base),
        options: FeedOptions { mask: Some(Mask::HmacSha256 { key: key.clone() }), ..FeedOptions::default() },
    };
    let columns = [masked(BaseType::String), masked(BaseType::Bytes)];
    let (projection, record) = (projection(&columns), Arc::new(record_schema(&columns)));
    let schema = Schema::parse_str(&record.to_json().to_string()).unwrap();
    let program = "import hashlib, hmac, sys\n\
                   print(hmac.new(sys.argv[1].encode(), sys.argv[2].encode(), hashlib.sha256).hexdigest())";
    for value in ["", "ann@example.org", "größe🙂"] {
        let output = lab::python_inline(program, &[secret, value]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let framed = encode(&projection, [Some(value), Some(value)]).unwrap();
        assert_eq!(forms::decode(&schema, &framed), [json!(said), json!(said)], "{value}");
    }
    let framed = encode(&projection, [None, None]).unwrap();
    assert_eq!(forms::decode(&schema, &framed), [json!(null), json!(null)]);
}
