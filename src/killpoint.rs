//! Kill points: named places at which the process can be made to die at once, for crash tests.
//!
//! `GIMBAL_KILL_AT=commit.begin:7` aborts the process when it comes to the place `commit.begin` for the seventh time: no
//! destructor runs, no buffer is written, exactly as under `kill -9`, but at a moment that can be chosen again. Without
//! the variable a place costs one relaxed load of a static and a branch that is never taken.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::{Code, Error, Result};

/// The variable that arms one point: `<name>:<count>`, counted from 1.
pub const VARIABLE: &str = "GIMBAL_KILL_AT";

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A place in the program.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point { $($(#[$doc])* $name,)* }

        impl Point {
            /// All points.
            pub const ALL: &'static [Point] = &[$(Point::$name,)*];

            /// Its name in the variable.
            pub fn name(self) -> &'static str { match self { $(Point::$name => $text,)* } }
        }
    };
}

points! {
    /// First start: `creating` is durable, the slot does not exist.
    CreatingCommitted = "creating.committed";
    /// First start: the slot exists, the checkpoint does not know it yet.
    SlotCreated = "slot.created";
    /// Topics exist, the session has not begun.
    TopicsDeclared = "topics.declared";
    /// First start: the first checkpoint is complete in memory.
    StartCommitting = "start.committing";
    /// First start: the first checkpoint is durable, nothing was read from the slot.
    StartCommitted = "start.committed";
    /// A restart holds the slot, and has not looked at the sink.
    SlotTaken = "slot.taken";
    /// A snapshot chunk has its fence.
    ChunkOpened = "chunk.opened";
    /// A snapshot chunk was read, and perhaps written to the batch.
    ChunkRead = "chunk.read";
    /// A page of a topic's keys was read for a repair.
    KeysRead = "keys.read";
    /// A message of the stream was taken by the engine.
    MessageTaken = "message.taken";
    /// A batch is closed, the sink does not have it.
    BatchSealed = "batch.sealed";
    /// The sink's thread has a batch and has not begun.
    CommitBegin = "commit.begin";
    /// The sink has committed, the session does not know it.
    CommitEnd = "commit.end";
    /// A commit that ends inside a transaction of the source is durable, the session knows it.
    PartCommitted = "part.committed";
    /// Files: the records of one topic are written past the committed length.
    FilesWritten = "files.written";
    /// Files: all records are durable, the manifest does not name them.
    FilesSynced = "files.synced";
    /// A small file's new content is durable under its other name.
    FileReplacing = "file.replacing";
    /// A small file has its new content.
    FileReplaced = "file.replaced";
    /// Kafka: predecessors are fenced, the state is not read.
    KafkaTakenOver = "kafka.taken_over";
    /// Kafka: one record is handed to the client.
    KafkaSent = "kafka.sent";
    /// Kafka: all records are handed to the client, some may be on their way.
    KafkaProduced = "kafka.produced";
    /// Kafka: the brokers have every record, the transaction is open.
    KafkaDrained = "kafka.drained";
    /// Kafka: the coordinator has committed.
    KafkaCommitted = "kafka.committed";
    /// A durable batch is about to be confirmed to the server.
    Confirming = "confirming";
    /// A durable batch was confirmed; the server may not have heard of it.
    Confirmed = "confirmed";
}

/// Nothing is armed.
const NONE: usize = usize::MAX;

static ARMED: AtomicUsize = AtomicUsize::new(NONE);
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Arms what the variable says. Without it nothing happens, now and later.
pub fn arm() -> Result<()> {
    let Some(text) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let (point, count) = text.to_str().and_then(parse).ok_or_else(|| {
        let names: Vec<&str> = Point::ALL.iter().map(|point| point.name()).collect();
        Error::definite(Code::Usage, format!("`{VARIABLE}` is not `<point>:<count>`"))
            .hint(format!("it is meant for crash tests only; the points are {}", names.join(", ")))
    })?;
    tracing::warn!(point = point.name(), count, "armed to die");
    LEFT.store(count, Ordering::Relaxed);
    ARMED.store(point as usize, Ordering::Release);
    Ok(())
}

fn parse(text: &str) -> Option<(Point, u64)> {
    let (name, count) = text.split_once(':')?;
    let point = Point::ALL.iter().find(|point| point.name() == name)?;
    Some((*point, count.parse().ok().filter(|count| *count > 0)?))
}

/// Dies here if this point is armed and this is the last of its counts.
#[inline]
pub fn pass(point: Point) {
    if ARMED.load(Ordering::Relaxed) == point as usize {
        count_down();
    }
}

#[cold]
fn count_down() {
    if LEFT.fetch_sub(1, Ordering::AcqRel) == 1 {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_point_with_a_count_is_armed() {
        assert_eq!(parse("commit.begin:7"), Some((Point::CommitBegin, 7)));
        for text in ["", "commit.begin", "commit.begin:", "commit.begin:0", "commit.begin:-1", "commit:1", ":1"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_point_has_a_name_of_its_own() {
        for point in Point::ALL {
            assert_eq!(parse(&format!("{}:1", point.name())), Some((*point, 1)));
        }
    }
}
