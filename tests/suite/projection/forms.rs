//! Avro values in a plain JSON form in which two decoders, a model and PostgreSQL can be compared.
//!
//! Decimals are their unscaled number as text; dates, times and timestamps the stored number; bytes, fixed and the bits
//! of floats hexadecimal text; uuids their text; the rest is JSON of the same kind. `decode_records.py` has the same.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use num_bigint::BigInt;
use serde_json::{Value as Json, json};

use super::VALUE_ID;

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes a framed record with apache-avro: the fields' plain forms, in schema order.
pub fn decode(schema: &Schema, framed: &[u8]) -> Vec<Json> {
    let (frame, mut body) = framed.split_at(5);
    assert_eq!(frame, [&[0][..], &VALUE_ID.to_be_bytes()].concat(), "the frame");
    let reader = GenericDatumReader::builder(schema).build().expect("a complete schema");
    let value = reader.read_value(&mut body).expect("a record that decodes");
    assert!(body.is_empty(), "{} bytes are left over", body.len());
    match value {
        Value::Record(fields) => fields.iter().map(|(_, value)| plain(value)).collect(),
        other => panic!("not a record: {other:?}"),
    }
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Boolean(yes) => json!(yes),
        Value::Int(n) | Value::Date(n) => json!(n),
        Value::Long(n)
        | Value::TimeMicros(n)
        | Value::TimestampMillis(n)
        | Value::TimestampMicros(n)
        | Value::LocalTimestampMicros(n) => json!(n),
        Value::Float(n) => json!(float(*n)),
        Value::Double(n) => json!(double(*n)),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => json!(hex(bytes)),
        Value::String(text) => json!(text),
        Value::Enum(_, symbol) => json!(symbol),
        Value::Decimal(decimal) => json!(BigInt::from(decimal.clone()).to_string()),
        Value::Uuid(uuid) => json!(uuid.to_string()),
        Value::Union(_, value) => plain(value),
        Value::Array(items) => items.iter().map(plain).collect(),
        other => panic!("gimbal publishes no {other:?}"),
    }
}

pub fn float(value: f32) -> String {
    hex(&value.to_be_bytes())
}

pub fn double(value: f64) -> String {
    hex(&value.to_be_bytes())
}
