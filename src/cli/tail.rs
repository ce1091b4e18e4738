//! `gimbal tail TOPIC`: the records of a topic, one a line.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use crate::batch::Op;
use crate::cli::tail_kafka::KafkaSource;
use crate::cli::tail_unseal::{Unsealed, Unsealing};
use crate::config::{Config, SinkConfig};
use crate::error::{Code, Error, Result};
use crate::position::Position;
use crate::sink::disk::failure;
use crate::sink::json::timestamp;
use crate::sink::reader::TopicReader;

/// How often `--follow` looks for more: what a person takes for at once, at no cost worth mentioning.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);

/// Show the records of a topic
#[derive(Args, Clone, Debug)]
pub struct TailArgs {
    /// The topic's full name, such as shop.orders.v1
    pub topic: String,
    /// Wait for more at the end, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Leave out what is before this position (EEEE-LLLLLLLLLLLLLLLL-OOOOOOOO, as `tail` and `status` print it)
    #[arg(long, value_name = "POS", value_parser = parse_position)]
    pub from: Option<Position>,
    /// End after so many records
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Open the rows of a parked or dead-letter topic, with the key for sealing
    #[arg(long)]
    pub unseal: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t = TailFormat::Text)]
    pub format: TailFormat,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TailFormat {
    /// Position, operation, time, key and value.
    Text,
    /// The envelope as JSON.
    Json,
}

fn parse_position(text: &str) -> Result<Position, String> {
    text.parse().map_err(|_| "a position reads EEEE-LLLLLLLLLLLLLLLL-OOOOOOOO, in hexadecimal".into())
}

/// One record as `tail` shows it, wherever it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct TailRecord {
    /// Absent where the contract has no key.
    pub key: Option<Json>,
    /// Absent for a tombstone.
    pub value: Option<Json>,
    /// What happened.
    pub op: Op,
    /// Where it stands.
    pub position: Position,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
    /// The last published record of its transaction.
    pub last: bool,
    /// Fields filled by a re-read.
    pub reread: Vec<String>,
    /// The row of a parcel, opened.
    pub unsealed: Option<Unsealed>,
}

/// Where `tail` takes records from.
pub trait RecordSource {
    /// The next record at or after `from`; `None` at the present end of the topic. May be called again for more.
    fn next_record(&mut self, from: Option<Position>) -> Result<Option<TailRecord>>;
}

impl RecordSource for TopicReader {
    fn next_record(&mut self, from: Option<Position>) -> Result<Option<TailRecord>> {
        while let Some(record) = self.next()? {
            if from.is_none_or(|from| record.position >= from) {
                return Ok(Some(TailRecord {
                    key: record.key_json(),
                    value: record.value_json(),
                    op: record.op,
                    position: record.position,
                    timestamp: record.timestamp,
                    last: record.last,
                    reread: record.reread,
                    unsealed: None,
                }));
            }
        }
        Ok(None)
    }
}

/// Runs `gimbal tail`, to standard output. Ends without an error when the reading end of a pipe closes.
pub fn run(config: &Config, args: &TailArgs) -> Result<()> {
    let mut source: Box<dyn RecordSource> = match &config.sink {
        SinkConfig::Files { path } => Box::new(TopicReader::open(path, &args.topic)?),
        SinkConfig::Kafka { bootstrap, properties, .. } => {
            Box::new(KafkaSource::open(bootstrap, properties, &config.registry, &args.topic)?)
        }
        SinkConfig::Null { .. } => {
            return Err(Error::definite(Code::Usage, "the config's sink is `null`, which keeps no record"));
        }
    };
    if args.unseal {
        source = Box::new(Unsealing::new(source, config)?);
    }
    tail(source.as_mut(), args, &mut BufWriter::new(io::stdout().lock()))
}

/// Writes a source's records, until its end, the limit, or the end of whoever reads `out`.
pub fn tail(source: &mut dyn RecordSource, args: &TailArgs, out: &mut dyn Write) -> Result<()> {
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let written = match source.next_record(args.from)? {
            Some(record) => {
                left -= 1;
                writeln!(out, "{}", line(&record, args.format))
            }
            // Whoever waits sees all there is so far.
            None => match out.flush() {
                Ok(()) if args.follow => {
                    thread::sleep(FOLLOW_INTERVAL);
                    Ok(())
                }
                Ok(()) => return Ok(()),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = written {
            return ended(&error);
        }
    }
    out.flush().or_else(|error| ended(&error))
}

/// A closed pipe is how `head` says that it has enough.
fn ended(error: &io::Error) -> Result<()> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(()),
        _ => Err(failure(Code::Io, "write to", "standard output".as_ref(), error)),
    }
}

fn line(record: &TailRecord, format: TailFormat) -> String {
    let time = timestamp(i128::from(record.timestamp)) + "Z";
    match format {
        TailFormat::Json => {
            let mut line = json!({
                "key": record.key,
                "value": record.value,
                "op": record.op.letter(),
                "pos": record.position.to_string(),
                "ts": time,
                "last": record.last,
                "reread": record.reread,
            });
            if let (Some(unsealed), Some(line)) = (&record.unsealed, line.as_object_mut()) {
                line.extend(unsealed.members());
            }
            line.to_string()
        }
        TailFormat::Text => {
            let shown = |part: &Option<Json>| part.as_ref().map_or("-".into(), Json::to_string);
            let last = if record.last { " last" } else { "" };
            let reread = match record.reread.as_slice() {
                [] => String::new(),
                fields => format!(" reread={}", fields.join(",")),
            };
            let (key, value) = (shown(&record.key), shown(&record.value));
            let unsealed = record.unsealed.as_ref().map(|row| format!(" {}", row.text())).unwrap_or_default();
            format!("{} {} {time} {key} {value}{last}{reread}{unsealed}", record.position, record.op.letter())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    struct Numbers(u32);

    impl RecordSource for Numbers {
        fn next_record(&mut self, from: Option<Position>) -> Result<Option<TailRecord>> {
            self.0 = self.0.max(from.map_or(0, |from| from.ordinal)) + 1;
            let position = Position { epoch: 0, commit_lsn: Lsn(16), ordinal: self.0 - 1 };
            Ok((self.0 <= 5).then(|| TailRecord {
                key: Some(json!({"id": self.0})),
                value: (self.0 != 2).then(|| json!({"a": "line\nbreak"})),
                op: if self.0 == 2 { Op::Delete } else { Op::Create },
                position,
                timestamp: 1,
                last: self.0 == 2,
                reread: Vec::new(),
                unsealed: None,
            }))
        }
    }

    fn args(limit: Option<u64>, from: Option<&str>, format: TailFormat) -> TailArgs {
        let from = from.map(|text| parse_position(text).unwrap());
        TailArgs { topic: "t".into(), follow: false, from, limit, unseal: false, format }
    }

    #[test]
    fn text_is_one_line_a_record_whatever_the_values_hold() {
        let mut out = Vec::new();
        tail(&mut Numbers(0), &args(Some(2), None, TailFormat::Text), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "0000-0000000000000010-00000000 c 1970-01-01T00:00:00.000001Z {\"id\":1} {\"a\":\"line\\nbreak\"}\n\
             0000-0000000000000010-00000001 d 1970-01-01T00:00:00.000001Z {\"id\":2} - last\n"
        );
    }

    #[test]
    fn json_is_one_object_a_line_from_the_position_asked_for() {
        let mut out = Vec::new();
        let args = args(None, Some("0000-0000000000000010-00000003"), TailFormat::Json);
        tail(&mut Numbers(0), &args, &mut out).unwrap();
        let lines: Vec<Json> = out.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["pos"], "0000-0000000000000010-00000003");
        assert_eq!((&lines[0]["op"], &lines[0]["key"]["id"]), (&json!("c"), &json!(4)));
        assert!(parse_position("0/16").is_err());
    }

    struct Closed(ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_ends_it_without_an_error_and_a_full_disk_does_not() {
        let args = args(None, None, TailFormat::Text);
        tail(&mut Numbers(0), &args, &mut Closed(ErrorKind::BrokenPipe)).unwrap();
        let error = tail(&mut Numbers(0), &args, &mut Closed(ErrorKind::StorageFull)).unwrap_err();
        assert_eq!(error.code(), Code::Io);
    }
}
