//! What PostgreSQL itself says of a value, as the JSON that must be published: one SQL expression a conversion.

use gimbal::avro::BaseType;
use gimbal::contract::FeedOptions;
use gimbal::pairs::axes::How;
use gimbal::table::SourceType;

/// The zone of `timezone:` in all cases.
pub const ZONE: &str = "Europe/Berlin";

/// The expression for a column or expression `v`.
pub fn json(how: How, source: &SourceType, base: &BaseType, options: &FeedOptions, v: &str) -> String {
    let scale = if let BaseType::Decimal { scale, .. } = base { *scale } else { 0 };
    let unscaled = format!("to_json(trim_scale({v}::numeric * 1e{scale})::text)");
    // By day and time of day, because `extract(epoch …)` of a far timestamp has too few digits.
    let micros = |moment: String| {
        format!(
            "to_json(((({moment})::date - date '1970-01-01') * 86400000000::numeric \
             + extract(epoch from ({moment})::time) * 1000000)::numeric(30,0))"
        )
    };
    match how {
        How::Boolean => format!("to_json({v})"),
        How::BooleanOfWord => format!("to_json({v}::boolean)"),
        How::Integer => format!("to_json({v}::text::int8)"),
        How::Integral => format!("to_json({v}::int8)"),
        How::Number if scale > 0 => unscaled,
        How::Number => format!("to_json({v}::numeric::int8)"),
        How::Float | How::SameFloat | How::NearestFloat => format!("to_json(encode(float4send({v}::float4), 'hex'))"),
        How::DoubleOfFloat | How::Double | How::SameDouble | How::NearestDouble => {
            format!("to_json(encode(float8send({v}::float8), 'hex'))")
        }
        How::Decimal | How::Money => unscaled,
        How::RoundedDecimal => format!("to_json({}::numeric(200,0)::text)", half_even(v, scale)),
        How::RoundedInteger => format!("to_json({}::int8)", half_even(v, 0)),
        How::StringOfMoney => format!("to_json({v}::numeric::text)"),
        How::String | How::WordOfBoolean | How::Label => format!("to_json({v}::text)"),
        How::Bytes | How::HexOfBytes => format!("to_json(encode({v}, 'hex'))"),
        How::Base64OfBytes => format!("to_json(replace(encode({v}, 'base64'), e'\\n', ''))"),
        How::Utf8OfBytes => format!("to_json(convert_from({v}, 'UTF8'))"),
        How::BytesOfHex => format!("to_json(encode(decode({v}::text, 'hex'), 'hex'))"),
        How::BytesOfBase64 => format!("to_json(encode(decode({v}::text, 'base64'), 'hex'))"),
        How::BytesOfUtf8 => format!("to_json(encode(convert_to({v}::text, 'UTF8'), 'hex'))"),
        How::Date => format!("to_json({v}::date - date '1970-01-01')"),
        How::Time => format!("to_json((extract(epoch from {v}) * 1000000)::numeric(30,0))"),
        How::LocalMicros => micros(format!("{v}::timestamp")),
        How::Micros => micros(format!("{v}::timestamptz")),
        How::Millis => format!("to_json((extract(epoch from {v}::timestamptz) * 1000)::numeric(30,0))"),
        How::MicrosInZone | How::LocalMicrosInZone => micros(format!("{v} at time zone '{ZONE}'")),
        How::DateInZone => format!("to_json(({v} at time zone '{ZONE}')::date - date '1970-01-01')"),
        How::UuidString | How::UuidFixed => format!("to_json({v}::text::uuid::text)"),
        How::Array => {
            let (SourceType::Array(item), BaseType::Array(to)) = (source, base) else { panic!("no array") };
            let how = gimbal::pairs::entry(item, &to.base, options).expect("an item's pair").how;
            let each = json(how, item, &to.base, options, "x");
            let items =
                format!("select coalesce(json_agg({each} order by o), '[]') from unnest({v}) with ordinality u(x, o)");
            format!("case when {v} is not null then ({items}) end")
        }
    }
}

/// PostgreSQL's own `round` goes away from zero.
fn half_even(v: &str, scale: u32) -> String {
    let x = format!("({v}::text::numeric * 1e{scale})");
    format!("(case when abs({x} - trunc({x})) = 0.5 then 2 * round({x} / 2) else round({x}) end)")
}
