//! `gimbal tail TOPIC --unseal`: the rows of parked and dead-letter topics, for whoever has the key.

use serde_json::{Map, Value as Json};

use crate::cli::tail::{RecordSource, TailRecord};
use crate::config::Config;
use crate::daemon::sealing;
use crate::error::{Code, Error, Result};
use crate::parcel::{Contents, Value};
use crate::position::Position;
use crate::seal::{Context, SealKey};

/// The row of a parcel, opened: by column its text, null, or that it was not sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsealed {
    row: Json,
    /// As it was, beside the row as it is.
    old: Option<Json>,
}

impl Unsealed {
    fn of(contents: &Contents) -> Unsealed {
        let row = |values: &Vec<Value>| {
            let columns = contents.columns.iter().zip(values);
            Json::Object(columns.map(|(column, value)| (column.name.clone(), json(value))).collect::<Map<_, _>>())
        };
        match (contents.new.as_ref().map(row), contents.old.as_ref().map(row)) {
            (Some(row), old) => Unsealed { row, old },
            (None, old) => Unsealed { row: old.unwrap_or(Json::Null), old: None },
        }
    }

    /// `unsealed`, and `unsealed_old` for a change that carries the old row too.
    pub fn members(&self) -> impl Iterator<Item = (String, Json)> {
        let old = self.old.clone().map(|old| ("unsealed_old".to_owned(), old));
        std::iter::once(("unsealed".to_owned(), self.row.clone())).chain(old)
    }

    /// For a line of text.
    pub fn text(&self) -> String {
        match &self.old {
            None => format!("unsealed={}", self.row),
            Some(old) => format!("unsealed={} unsealed_old={old}", self.row),
        }
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Unchanged => serde_json::json!({"unchanged": true}),
        Value::Text(text) => Json::String(String::from_utf8_lossy(text).into_owned()),
    }
}

/// Opens the rows of another source's records.
pub struct Unsealing {
    source: Box<dyn RecordSource>,
    key: SealKey,
    pipeline: String,
}

impl Unsealing {
    /// With the config's key.
    pub fn new(source: Box<dyn RecordSource>, config: &Config) -> Result<Unsealing> {
        let key = sealing::key(config)?.ok_or_else(|| {
            Error::definite(Code::Usage, "`--unseal` needs the key for sealing, the config names none")
                .hint("`keys: {seal: {file: …}}` names it")
        })?;
        Ok(Unsealing { source, key, pipeline: config.pipeline.clone() })
    }

    fn open(&self, value: &Json) -> Result<Unsealed> {
        let text = |member: &str| value.get(member).and_then(Json::as_str);
        let major = value.get("version").and_then(Json::as_u64).and_then(|version| u32::try_from(version).ok());
        let position = text("pos").and_then(|text| text.parse::<Position>().ok());
        let (Some(contract), Some(major), Some(position), Some(sealed)) =
            (text("contract"), major, position, text("sealed").and_then(unhex))
        else {
            return Err(Error::definite(Code::Usage, "the topic holds no sealed rows")
                .hint("name a topic that ends in `.parked` or `.dead`"));
        };
        let context = Context { pipeline: &self.pipeline, contract, major, position };
        let plain = self.key.open(&context, &sealed)?;
        let contents = Contents::read(&plain).ok_or_else(|| {
            Error::definite(Code::SealBroken, format!("the sealed row of `{contract}` at {position} does not parse"))
                .hint("use the gimbal that wrote it")
        })?;
        Ok(Unsealed::of(&contents))
    }
}

impl RecordSource for Unsealing {
    fn next_record(&mut self, from: Option<Position>) -> Result<Option<TailRecord>> {
        let Some(mut record) = self.source.next_record(from)? else { return Ok(None) };
        record.unsealed = Some(self.open(record.value.as_ref().unwrap_or(&Json::Null))?);
        Ok(Some(record))
    }
}

/// Bytes as records show them, `\x00ff`.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?;
    let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..digits.len()).step_by(2).map(byte).collect()
}
