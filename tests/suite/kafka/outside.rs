//! What the sink wrote, as clients see it that gimbal did not write; and what gimbal's own reader sees.

use std::collections::BTreeMap;
use std::time::Duration;

use gimbal::sink::kafka::tail::{From, KafkaTopicReader};
use gimbal::sink::{RegisteredSchema, Retention, Sink};

use super::scene::{LONG, Scene, batch, push};
use crate::lab::{self, eventually};

/// Keys and murmur2 hashes, as Java's `org.apache.kafka.common.utils.Utils` computes them.
const JAVA_MURMUR2: &[(&str, i32)] = &[
    ("21", -973932308),
    ("foobar", -790332482),
    ("a-little-bit-long-string", -985981536),
    ("a-little-bit-longer-string", -1486304829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ("abc", 479470107),
];

#[test]
fn a_key_goes_to_the_partition_that_the_java_producer_would_choose() {
    let scene = Scene::new("murmur");
    let mut sink = scene.sink();
    sink.load().unwrap();
    sink.declare(&[scene.spec(7, Retention::Append)]).unwrap();
    let mut batch = batch("1", &[]);
    for (i, (key, _)) in JAVA_MURMUR2.iter().enumerate() {
        push(&mut batch, i as u32, key.as_bytes(), Some(b"v"));
    }
    sink.commit(&batch).unwrap();
    let partitions: BTreeMap<String, i32> = scene
        .read_all(&scene.topic)
        .into_iter()
        .map(|r| (String::from_utf8(r.key.unwrap()).unwrap(), r.partition))
        .collect();
    for (key, hash) in JAVA_MURMUR2 {
        assert_eq!(partitions[*key], (hash & 0x7fff_ffff) % 7, "{key}");
    }
}

#[test]
fn an_independent_client_decodes_keys_values_headers_and_tombstones() {
    let key_schema = r#"{"type":"record","name":"K","fields":[{"name":"id","type":"long"}]}"#;
    let value_schema = r#"{"type":"record","name":"V","fields":[{"name":"name","type":["null","string"]}]}"#;
    let scene = Scene::new("python");
    let mut sink = scene.sink();
    sink.load().unwrap();
    let mut spec = scene.spec(5, Retention::Compact);
    spec.key = Some(RegisteredSchema { id: 7, json: key_schema.to_owned() });
    spec.value = RegisteredSchema { id: 300, json: value_schema.to_owned() };
    sink.declare(&[spec]).unwrap();
    let mut batch = batch("1", &[]);
    for id in 0..50u8 {
        // Long and string as Avro writes them: zig-zag numbers, a branch, a length.
        let key = [0, 0, 0, 0, 7, id * 2];
        let value = [&[0, 0, 0, 1, 44, 2, 6][..], b"n", &[b'0' + id / 10, b'0' + id % 10]].concat();
        push(&mut batch, u32::from(id), &key, (id != 13).then_some(&value[..]));
    }
    batch.records.last_mut().unwrap().last = true;
    sink.commit(&batch).unwrap();

    let schemas = [format!("7={key_schema}"), format!("300={value_schema}")];
    let printed = lab::python(
        "py/read_topic.py",
        &["--bootstrap", &scene.bootstrap, "--topic", &scene.topic, "--schema", &schemas[0], "--schema", &schemas[1]],
    );
    let mut lines: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["key"]["id"].as_i64());
    assert_eq!(lines.len(), 50);
    for (id, line) in lines.iter().enumerate() {
        let deleted = id == 13;
        assert_eq!(line["key"]["id"], id);
        assert_eq!(line["partition"], line["java_partition"], "{line}");
        let value = if deleted { serde_json::Value::Null } else { serde_json::json!({"name": format!("n{id:02}")}) };
        assert_eq!(line["value"], value);
        let mut headers = serde_json::json!([
            ["op", if deleted { "d" } else { "c" }],
            ["pos", format!("0000-0000000000001000-{id:08X}")],
            ["ts", (1_700_000_000_000_000i64 + id as i64).to_string()],
        ]);
        if id == 49 {
            headers.as_array_mut().unwrap().push(serde_json::json!(["last", "1"]));
        }
        assert_eq!(line["headers"], headers);
    }
}

#[test]
fn a_reader_from_the_end_sees_only_what_is_committed_later() {
    let scene = Scene::new("end");
    let mut sink = scene.ready(scene.sink());
    sink.commit(&batch("1", &["a"])).unwrap();
    let mut reader = KafkaTopicReader::open(&scene.bootstrap, &BTreeMap::new(), &scene.topic, From::End).unwrap();
    sink.commit(&batch("2", &["b"])).unwrap();
    let record = eventually("a record comes", LONG, || reader.next(Duration::from_millis(100)).unwrap());
    assert_eq!((record.value.as_deref(), record.header("op")), (Some(&b"b"[..]), Some("c")));
}
