//! Reads an `.avsc` text: every problem at once, each with the JSON pointer of its place.

mod types;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{BaseType, Field, RecordSchema, default};

/// Something wrong, or doubtful, in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaProblem {
    /// JSON pointer of the place, such as `/fields/2/type`.
    pub pointer: String,
    /// Lower-case diagnosis.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// False for an error.
    pub warning: bool,
    /// Line and column, from 1, where the text is no JSON and no pointer can lead there.
    pub line_column: Option<(usize, usize)>,
}

/// A schema as its file says it: the record, and what only readers of the text care for.
#[derive(Clone, Debug, PartialEq)]
pub struct AvroSchema {
    /// What gimbal writes.
    pub record: RecordSchema,
    /// The text without its blanks, everything else kept (docs, aliases, defaults, own attributes): what is registered.
    pub json: String,
    /// Field aliases, by field name.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// What does not stop anything.
    pub warnings: Vec<SchemaProblem>,
}

impl AvroSchema {
    /// Parses the text of an `.avsc` file: one flat record.
    pub fn parse(json: &str) -> Result<AvroSchema, Vec<SchemaProblem>> {
        let value: Value = serde_json::from_str(json).map_err(|error| vec![not_json(&error)])?;
        let mut parser = Parser::default();
        let record = parser.record(&value);
        let (warnings, errors): (Vec<_>, Vec<_>) = parser.problems.into_iter().partition(|problem| problem.warning);
        match record {
            Some(record) if errors.is_empty() => {
                // A second opinion: what apache-avro cannot read, hardly any consumer can.
                apache_avro::Schema::parse(&value)
                    .map_err(|error| vec![problem("", format!("apache-avro refuses this schema: {error}"))])?;
                Ok(AvroSchema { record, json: value.to_string(), aliases: parser.aliases, warnings })
            }
            _ => Err(errors.into_iter().chain(warnings).collect()),
        }
    }
}

fn not_json(error: &serde_json::Error) -> SchemaProblem {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    let place = Some((error.line(), error.column()));
    SchemaProblem { line_column: place, ..problem("", format!("this is not JSON: {message}")) }
}

fn problem(pointer: impl Into<String>, message: impl Into<String>) -> SchemaProblem {
    SchemaProblem { pointer: pointer.into(), message: message.into(), hint: None, warning: false, line_column: None }
}

/// Whether Avro allows this as the name of a record, field, enum, fixed or symbol.
pub fn is_legal_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[derive(Default)]
struct Parser {
    namespace: Option<String>,
    named: BTreeMap<String, BaseType>,
    aliases: BTreeMap<String, Vec<String>>,
    problems: Vec<SchemaProblem>,
}

impl Parser {
    fn error(&mut self, pointer: &str, message: impl Into<String>) {
        self.problems.push(problem(pointer, message));
    }

    fn error_with_hint(&mut self, pointer: &str, message: impl Into<String>, hint: &str) {
        self.problems.push(SchemaProblem { hint: Some(hint.to_owned()), ..problem(pointer, message) });
    }

    fn warn(&mut self, pointer: &str, message: impl Into<String>) {
        self.problems.push(SchemaProblem { warning: true, ..problem(pointer, message) });
    }

    fn record(&mut self, value: &Value) -> Option<RecordSchema> {
        let Some(object) =
            value.as_object().filter(|object| object.get("type").and_then(Value::as_str) == Some("record"))
        else {
            self.error("", "the schema must be a record: {\"type\": \"record\", …}");
            return None;
        };
        let name = self.full_name("", object, None);
        self.namespace = name.as_ref().and_then(|name| name.rsplit_once('.')).map(|(space, _)| space.to_owned());
        self.doc("", object);
        self.alias_list("", object);
        let Some(list) = object.get("fields").and_then(Value::as_array) else {
            self.error("", "the record lacks `fields`, a list");
            return None;
        };
        if list.is_empty() {
            self.error("/fields", "the record has no fields");
        }
        let mut fields: Vec<Field> = Vec::new();
        for (at, value) in list.iter().enumerate() {
            let pointer = format!("/fields/{at}");
            if let Some(field) = self.field(&pointer, value) {
                self.unique_name(&pointer, &fields, &field.name);
                fields.push(field);
            }
        }
        Some(RecordSchema { name: name?, fields })
    }

    /// A name given twice, be it as an alias, would make a reader's choice undefined.
    fn unique_name(&mut self, pointer: &str, earlier: &[Field], name: &str) {
        let aliases = self.aliases.get(name).cloned().unwrap_or_default();
        for other in earlier {
            let other_aliases = self.aliases.get(&other.name).cloned().unwrap_or_default();
            if other.name == name {
                self.error(&format!("{pointer}/name"), format!("field `{name}` is defined twice"));
            }
            let own = aliases.iter().find(|alias| **alias == other.name || other_aliases.contains(alias));
            if let Some(alias) = own.cloned().or_else(|| other_aliases.iter().find(|alias| *alias == name).cloned()) {
                let message = format!("alias `{alias}` belongs to two fields, `{}` and `{name}`", other.name);
                self.error(pointer, message);
            }
        }
    }

    fn field(&mut self, pointer: &str, value: &Value) -> Option<Field> {
        let Some(object) = value.as_object() else {
            self.error(pointer, "a field must be an object with `name` and `type`");
            return None;
        };
        let Some(name) = object.get("name").and_then(Value::as_str) else {
            self.error(pointer, "a field lacks `name`");
            return None;
        };
        self.legal(&format!("{pointer}/name"), name, "field");
        self.doc(pointer, object);
        let aliases = self.alias_list(pointer, object);
        if !aliases.is_empty() {
            self.aliases.insert(name.to_owned(), aliases);
        }
        let Some(type_value) = object.get("type") else {
            self.error(pointer, format!("field `{name}` lacks `type`"));
            return None;
        };
        self.misplaced_logical_type(pointer, name, object, type_value);
        let ty = self.field_type(&format!("{pointer}/type"), type_value)?;
        let given = object.get("default").cloned();
        if let Some(reason) = given.as_ref().and_then(|given| default::misfit(&ty, given)) {
            let hint = match ty.null_branch {
                Some(0) => Some("a default must fit the first branch of the union, here null".to_owned()),
                Some(_) => {
                    Some("a default must fit the first branch of the union, here the one that is not null".to_owned())
                }
                None => None,
            };
            let message = format!("the default of field `{name}` does not fit `{ty}`: {reason}");
            self.problems.push(SchemaProblem { hint, ..problem(format!("{pointer}/default"), message) });
        }
        Some(Field { name: name.to_owned(), ty, default: given })
    }

    /// `{"name": "d", "type": "int", "logicalType": "date"}` is a common slip: Avro ignores it without a word.
    fn misplaced_logical_type(&mut self, pointer: &str, name: &str, field: &Map<String, Value>, ty: &Value) {
        if let (Some(logical), true) = (field.get("logicalType").and_then(Value::as_str), ty.is_string()) {
            let hint = format!("write \"type\": {{\"type\": {ty}, \"logicalType\": \"{logical}\"}}");
            let message = format!("`logicalType` of field `{name}` stands beside its type, where Avro ignores it");
            self.error_with_hint(&format!("{pointer}/logicalType"), message, &hint);
        }
    }

    fn full_name(&mut self, pointer: &str, object: &Map<String, Value>, enclosing: Option<String>) -> Option<String> {
        let Some(name) = object.get("name").and_then(Value::as_str) else {
            self.error(pointer, "a named type lacks `name`");
            return None;
        };
        let namespace = match object.get("namespace").and_then(Value::as_str) {
            Some("") => None,
            Some(own) => Some(own.to_owned()),
            None => enclosing,
        };
        let full = if name.contains('.') { name.to_owned() } else { qualified(namespace.as_deref(), name) };
        let place = format!("{pointer}/name");
        if !full.split('.').all(is_legal_name) {
            self.illegal(&place, &full, "type");
        }
        self.doc(pointer, object);
        Some(full)
    }

    fn legal(&mut self, pointer: &str, name: &str, what: &str) {
        if !is_legal_name(name) {
            self.illegal(pointer, name, what);
        }
    }

    fn illegal(&mut self, pointer: &str, name: &str, what: &str) {
        let hint = "Avro allows letters, digits and `_`, and no digit first";
        self.error_with_hint(pointer, format!("`{name}` is no legal {what} name"), hint);
    }

    fn doc(&mut self, pointer: &str, object: &Map<String, Value>) {
        if object.get("doc").is_some_and(|doc| !doc.is_string()) {
            self.error(&format!("{pointer}/doc"), "`doc` must be a text");
        }
    }

    fn alias_list(&mut self, pointer: &str, object: &Map<String, Value>) -> Vec<String> {
        let Some(value) = object.get("aliases") else { return Vec::new() };
        let place = format!("{pointer}/aliases");
        let names: Option<Vec<String>> =
            value.as_array().and_then(|list| list.iter().map(|name| name.as_str().map(str::to_owned)).collect());
        let Some(names) = names else {
            self.error(&place, "`aliases` must be a list of names");
            return Vec::new();
        };
        for (at, name) in names.iter().enumerate() {
            if !name.split('.').all(is_legal_name) {
                self.illegal(&format!("{place}/{at}"), name, "alias");
            }
        }
        names
    }
}

fn qualified(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}.{name}"),
        None => name.to_owned(),
    }
}
