//! A field's type: primitive, logical, named, array or nullable.

use serde_json::{Map, Value};

use super::super::{BaseType, FieldType};
use super::{Parser, SchemaProblem, problem, qualified};

impl Parser {
    pub(super) fn field_type(&mut self, pointer: &str, value: &Value) -> Option<FieldType> {
        let Some(branches) = value.as_array() else {
            return self.base_type(pointer, value).map(FieldType::required);
        };
        let null_at = branches.iter().position(|branch| branch.as_str() == Some("null"));
        match (null_at, branches.as_slice()) {
            (Some(0), [_, branch]) => {
                let base = self.base_type(&format!("{pointer}/1"), branch)?;
                Some(FieldType { null_branch: Some(0), base })
            }
            (Some(1), [branch, _]) => {
                let base = self.base_type(&format!("{pointer}/0"), branch)?;
                Some(FieldType { null_branch: Some(1), base })
            }
            _ => {
                self.error_with_hint(
                    pointer,
                    "a union must be of null and one other type",
                    "write [\"null\", T] or [T, \"null\"]",
                );
                None
            }
        }
    }

    fn base_type(&mut self, pointer: &str, value: &Value) -> Option<BaseType> {
        match value {
            Value::String(name) => self.named_or_primitive(pointer, name),
            Value::Object(object) => self.object_type(pointer, object),
            Value::Array(_) => {
                self.error(pointer, "a union inside a union");
                None
            }
            _ => {
                self.error(pointer, "a type must be a name, an object or a union");
                None
            }
        }
    }

    fn named_or_primitive(&mut self, pointer: &str, name: &str) -> Option<BaseType> {
        if let Some(primitive) = primitive(name) {
            return Some(primitive);
        }
        let full = if name.contains('.') { name.to_owned() } else { qualified(self.namespace.as_deref(), name) };
        if let Some(known) = self.named.get(&full) {
            return Some(known.clone());
        }
        match name {
            "null" => self.error_with_hint(pointer, "a field that is always null", "write [\"null\", T]"),
            "record" | "map" => self.nested(pointer, name),
            _ => {
                let near = crate::diagnostic::nearest(name, PRIMITIVES.iter().copied());
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                self.problems.push(SchemaProblem { hint, ..problem(pointer, format!("`{name}` is no known type")) });
            }
        }
        None
    }

    fn nested(&mut self, pointer: &str, name: &str) {
        let hint = "gimbal publishes flat records; publish the nested value as a string, or its parts as fields";
        self.error_with_hint(pointer, format!("a `{name}` inside a field"), hint);
    }

    fn object_type(&mut self, pointer: &str, object: &Map<String, Value>) -> Option<BaseType> {
        match object.get("type") {
            Some(Value::String(kind)) => match kind.as_str() {
                "enum" => self.enum_type(pointer, object),
                "fixed" => self.fixed_type(pointer, object),
                "array" => {
                    let Some(items) = object.get("items") else {
                        self.error(pointer, "an array lacks `items`");
                        return None;
                    };
                    let items = self.field_type(&format!("{pointer}/items"), items)?;
                    Some(BaseType::Array(Box::new(items)))
                }
                "record" | "map" => {
                    self.nested(pointer, kind);
                    None
                }
                _ => {
                    let base = self.named_or_primitive(&format!("{pointer}/type"), kind)?;
                    self.logical_type(pointer, object, base)
                }
            },
            Some(inner @ (Value::Object(_) | Value::Array(_))) => {
                let hint = "put the inner type in its place";
                self.error_with_hint(pointer, format!("a type inside a type: {inner}"), hint);
                None
            }
            _ => {
                self.error(pointer, "a type object lacks `type`");
                None
            }
        }
    }

    fn logical_type(&mut self, pointer: &str, object: &Map<String, Value>, base: BaseType) -> Option<BaseType> {
        let Some(logical) = object.get("logicalType") else { return Some(base) };
        let place = format!("{pointer}/logicalType");
        let Some(logical) = logical.as_str() else {
            self.error(&place, "`logicalType` must be a text");
            return None;
        };
        Some(match (logical, base) {
            ("date", BaseType::Int) => BaseType::Date,
            ("time-micros", BaseType::Long) => BaseType::TimeMicros,
            ("timestamp-millis", BaseType::Long) => BaseType::TimestampMillis,
            ("timestamp-micros", BaseType::Long) => BaseType::TimestampMicros,
            ("local-timestamp-micros", BaseType::Long) => BaseType::LocalTimestampMicros,
            ("uuid", BaseType::String) => BaseType::UuidString,
            ("uuid", BaseType::Fixed { size: 16, .. }) => BaseType::UuidFixed,
            ("decimal", BaseType::Bytes) => return self.decimal(pointer, object),
            ("decimal", BaseType::Fixed { .. }) => {
                self.error_with_hint(&place, "a decimal over fixed is not supported", "write the decimal over bytes");
                return None;
            }
            // Known to Avro but not to us: the plain type would be taken for what the name says, and be wrong.
            (
                "time-millis"
                | "timestamp-nanos"
                | "local-timestamp-millis"
                | "local-timestamp-nanos"
                | "duration"
                | "big-decimal",
                base,
            ) => {
                let hint = "use time-micros, timestamp-micros, local-timestamp-micros, decimal or string";
                self.error_with_hint(&place, format!("logical type `{logical}` over `{base}` is not supported"), hint);
                return None;
            }
            (_, base) => {
                self.warn(
                    &place,
                    format!("logical type `{logical}` over `{base}` is none of Avro's; it counts as `{base}`"),
                );
                base
            }
        })
    }

    fn decimal(&mut self, pointer: &str, object: &Map<String, Value>) -> Option<BaseType> {
        let number = |key: &str| object.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let Some(precision) = number("precision").filter(|precision| *precision > 0) else {
            self.error(pointer, "a decimal lacks `precision`, a positive number");
            return None;
        };
        let scale = if object.contains_key("scale") { number("scale") } else { Some(0) };
        match scale.filter(|scale| *scale <= precision) {
            Some(scale) => Some(BaseType::Decimal { precision, scale }),
            None => {
                self.error(
                    &format!("{pointer}/scale"),
                    format!("the scale of a decimal must be between 0 and its precision {precision}"),
                );
                None
            }
        }
    }

    fn enum_type(&mut self, pointer: &str, object: &Map<String, Value>) -> Option<BaseType> {
        let name = self.full_name(pointer, object, self.namespace.clone())?;
        let place = format!("{pointer}/symbols");
        let Some(list) = object.get("symbols").and_then(Value::as_array).filter(|list| !list.is_empty()) else {
            self.error(pointer, format!("enum `{name}` lacks `symbols`, a list of names"));
            return None;
        };
        let mut symbols: Vec<String> = Vec::new();
        for (at, symbol) in list.iter().enumerate() {
            let symbol = symbol.as_str().unwrap_or("");
            self.legal(&format!("{place}/{at}"), symbol, "enum symbol");
            if symbols.iter().any(|earlier| earlier == symbol) {
                self.error(&format!("{place}/{at}"), format!("symbol `{symbol}` is defined twice"));
            }
            symbols.push(symbol.to_owned());
        }
        let default = object.get("default").map(|value| value.as_str().unwrap_or("").to_owned());
        if let Some(unknown) = default.as_ref().filter(|default| !symbols.contains(default)) {
            self.error(&format!("{pointer}/default"), format!("default `{unknown}` is no symbol of enum `{name}`"));
        }
        self.define(pointer, name.clone(), BaseType::Enum { name, symbols, default })
    }

    fn fixed_type(&mut self, pointer: &str, object: &Map<String, Value>) -> Option<BaseType> {
        let name = self.full_name(pointer, object, self.namespace.clone())?;
        let size = object.get("size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        let Some(size) = size.filter(|size| *size > 0) else {
            self.error(pointer, format!("fixed `{name}` lacks `size`, a positive number"));
            return None;
        };
        let base = self.logical_type(pointer, object, BaseType::Fixed { name: name.clone(), size })?;
        self.define(pointer, name, base)
    }

    fn define(&mut self, pointer: &str, name: String, base: BaseType) -> Option<BaseType> {
        if self.named.insert(name.clone(), base.clone()).is_some() {
            self.error(&format!("{pointer}/name"), format!("type `{name}` is defined twice"));
        }
        Some(base)
    }
}

const PRIMITIVES: [&str; 7] = ["boolean", "int", "long", "float", "double", "bytes", "string"];

fn primitive(name: &str) -> Option<BaseType> {
    Some(match name {
        "boolean" => BaseType::Boolean,
        "int" => BaseType::Int,
        "long" => BaseType::Long,
        "float" => BaseType::Float,
        "double" => BaseType::Double,
        "bytes" => BaseType::Bytes,
        "string" => BaseType::String,
        _ => return None,
    })
}
