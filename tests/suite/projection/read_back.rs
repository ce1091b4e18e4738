//! Generated records are decoded by apache-avro and by fastavro, and equal the model.

use apache_avro::Schema;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};

use super::forms;
use super::generated::{Case, cases};
use crate::lab;

proptest! {
    #![proptest_config(Config { cases: 512, ..Config::default() })]
    #[test]
    fn apache_avro_reads_what_the_model_says(case in cases()) {
        let projection = super::projection(&case.columns);
        let schema = Schema::parse_str(&super::record_schema(&case.columns).to_json().to_string()).unwrap();
        for row in &case.rows {
            let framed = super::encode(&projection, row.iter().map(|(text, _)| text.as_deref()));
            let framed = framed.map_err(|error| TestCaseError::fail(format!("{error:?} in {row:?}")))?;
            let expected: Vec<&Json> = row.iter().map(|(_, json)| json).collect();
            let decoded = forms::decode(&schema, &framed);
            prop_assert_eq!(decoded.iter().collect::<Vec<_>>(), expected);
        }
    }
}

const FASTAVRO_CASES: usize = 150;

/// One line a record: the schema, the framed record, what it must mean.
fn lines(case: &Case) -> Vec<Json> {
    let projection = super::projection(&case.columns);
    let schema = super::record_schema(&case.columns).to_json();
    let line = |row: &Vec<(Option<String>, Json)>| {
        let framed = super::encode(&projection, row.iter().map(|(text, _)| text.as_deref())).unwrap();
        let expected: Vec<&Json> = row.iter().map(|(_, json)| json).collect();
        json!({"schema": schema, "id": super::VALUE_ID, "record": forms::hex(&framed), "expected": expected})
    };
    case.rows.iter().map(line).collect()
}

fn write(lines: &[Json]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn fastavro_reads_what_the_model_says() {
    // The same cases in every run.
    let mut runner = TestRunner::deterministic();
    let strategy = cases();
    let mut all: Vec<Json> = Vec::new();
    for _ in 0..FASTAVRO_CASES {
        all.extend(lines(&strategy.new_tree(&mut runner).unwrap().current()));
    }
    let file = write(&all);
    let printed = lab::python("py/decode_records.py", &[&file.path().to_string_lossy()]);
    assert_eq!(printed.trim(), format!("{} records equal", all.len()));

    // A reader that finds nothing wrong with a wrong record would prove nothing.
    let wrong = all.iter_mut().find(|line| line["expected"][0].is_i64()).unwrap();
    wrong["expected"][0] = json!(wrong["expected"][0].as_i64().unwrap() ^ 1);
    let file = write(&all);
    let found = lab::python_command("py/decode_records.py", &[&file.path().to_string_lossy()]).output().unwrap();
    assert!(!found.status.success(), "a planted difference was not found");
}
