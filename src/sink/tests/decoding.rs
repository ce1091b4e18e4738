//! Our decoder against the reference implementation, for every type that gimbal publishes, and on arbitrary bytes.

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Decimal, Schema, Uuid};
use proptest::prelude::*;

use crate::sink::decode::{EnvelopePlan, read_long};
use crate::sink::envelope::envelope_schema;
use crate::sink::ocf::write_long;

const KEY: &str = r#"{"type":"record","name":"Key","namespace":"shop","fields":[
    {"name":"status","type":{"type":"enum","name":"Status","symbols":["NEW","PAID"]}},
    {"name":"id","type":{"type":"fixed","name":"Id","size":16,"logicalType":"uuid"}}]}"#;

const VALUE: &str = r#"{"type":"record","name":"Value","namespace":"shop","fields":[
    {"name":"boolean","type":"boolean"},
    {"name":"int","type":["null","int"]},
    {"name":"long","type":["long","null"]},
    {"name":"float","type":"float"},
    {"name":"double","type":"double"},
    {"name":"bytes","type":"bytes"},
    {"name":"string","type":["null","string"]},
    {"name":"date","type":{"type":"int","logicalType":"date"}},
    {"name":"time","type":{"type":"long","logicalType":"time-micros"}},
    {"name":"millis","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"micros","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
    {"name":"local","type":{"type":"long","logicalType":"local-timestamp-micros"}},
    {"name":"uuid","type":{"type":"string","logicalType":"uuid"}},
    {"name":"decimal","type":["null",{"type":"bytes","logicalType":"decimal","precision":40,"scale":3}]},
    {"name":"fixed","type":{"type":"fixed","name":"Four","size":4}},
    {"name":"again","type":["null","Four"]},
    {"name":"status","type":{"type":"enum","name":"Status","symbols":["NEW","PAID"]}},
    {"name":"array","type":{"type":"array","items":["null","long"]}}]}"#;

fn optional(branch: u32, value: Option<Value>) -> Value {
    match value {
        Some(value) => Value::Union(branch, Box::new(value)),
        None => Value::Union(1 - branch, Box::new(Value::Null)),
    }
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(|bytes| Uuid::from_slice(&bytes).unwrap())
}

fn key() -> impl Strategy<Value = Value> {
    (0u32..2, uuid()).prop_map(|(i, id)| {
        let status = Value::Enum(i, ["NEW", "PAID"][i as usize].into());
        Value::Record(vec![("status".into(), status), ("id".into(), Value::Uuid(id))])
    })
}

fn value() -> impl Strategy<Value = Value> {
    let numbers = any::<(bool, Option<i32>, Option<i64>, f32, f64, i32, i64, i64, Option<i64>, i64)>();
    let texts = (any::<Vec<u8>>(), any::<Option<String>>(), uuid(), any::<Option<i128>>(), any::<[u8; 4]>());
    let rest = (any::<Option<[u8; 4]>>(), 0u32..2, any::<Vec<Option<i64>>>());
    (numbers, texts, rest).prop_map(|(numbers, texts, rest)| {
        let (boolean, int, long, float, double, date, time, millis, micros, local) = numbers;
        let (bytes, string, uuid, decimal, fixed) = texts;
        let (again, status, array) = rest;
        let (float, double) = (if float.is_nan() { 0.0 } else { float }, if double.is_nan() { 0.0 } else { double });
        let fields = [
            ("boolean", Value::Boolean(boolean)),
            ("int", optional(1, int.map(Value::Int))),
            ("long", optional(0, long.map(Value::Long))),
            ("float", Value::Float(float)),
            ("double", Value::Double(double)),
            ("bytes", Value::Bytes(bytes)),
            ("string", optional(1, string.map(Value::String))),
            ("date", Value::Date(date)),
            ("time", Value::TimeMicros(time)),
            ("millis", Value::TimestampMillis(millis)),
            ("micros", optional(1, micros.map(Value::TimestampMicros))),
            ("local", Value::LocalTimestampMicros(local)),
            ("uuid", Value::Uuid(uuid)),
            ("decimal", optional(1, decimal.map(|n| Value::Decimal(Decimal::from(n.to_be_bytes()))))),
            ("fixed", Value::Fixed(4, fixed.to_vec())),
            ("again", optional(1, again.map(|bytes| Value::Fixed(4, bytes.to_vec())))),
            ("status", Value::Enum(status, ["NEW", "PAID"][status as usize].into())),
            ("array", Value::Array(array.into_iter().map(|n| optional(1, n.map(Value::Long))).collect())),
        ];
        Value::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_the_reference_encodes_we_decode_to_the_same_values(
        key in key(), value in prop::option::weighted(0.8, value()), reread in any::<Vec<String>>(), ts: i64, last: bool,
    ) {
        let schema = envelope_schema(Some(KEY), VALUE).unwrap();
        let envelope = Value::Record(vec![
            ("key".into(), optional(1, Some(key.clone()))),
            ("value".into(), optional(1, value.clone())),
            ("op".into(), Value::Enum(1, "u".into())),
            ("pos".into(), Value::String("0001-00000000000000AB-00000003".into())),
            ("ts".into(), Value::TimestampMicros(ts)),
            ("last".into(), Value::Boolean(last)),
            ("reread".into(), Value::Array(reread.iter().cloned().map(Value::String).collect())),
        ]);
        let parsed = Schema::parse_str(&schema).unwrap();
        let writer = GenericDatumWriter::builder(&parsed).build().unwrap();
        let encoded = writer.write_value_to_vec(envelope).unwrap();
        let plan = EnvelopePlan::compile(&schema).unwrap();
        let mut bytes = &encoded[..];
        let decoded = plan.decode(&mut bytes).unwrap();
        prop_assert!(bytes.is_empty());
        prop_assert_eq!((decoded.key, decoded.value), (Some(key), value));
        prop_assert_eq!((decoded.timestamp, decoded.last, decoded.reread), (ts, last, reread));
        for len in 0..encoded.len() {
            prop_assert!(plan.decode(&mut &encoded[..len]).is_none(), "a record cut at {} of {}", len, encoded.len());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let plan = EnvelopePlan::compile(&envelope_schema(Some(KEY), VALUE).unwrap()).unwrap();
        let _ = plan.decode(&mut &bytes[..]);
        let _ = crate::sink::decode::read_header(&bytes);
    }

    #[test]
    fn longs_read_back(n: i64) {
        let mut bytes = Vec::new();
        write_long(&mut bytes, n);
        prop_assert_eq!(read_long(&mut &bytes[..]), Some(n));
        prop_assert_eq!(read_long(&mut &bytes[..bytes.len() - 1]), None);
    }
}
