//! Decodes pgoutput messages (protocol 1, text mode) without copying.
//!
//! [`decode`] checks the whole message once: lengths, counts, tags, the encoding of names, and that nothing trails. What
//! it returns borrows from the message, and reading it later cannot fail. The texts of cells are not checked for UTF-8
//! here: most are copied or parsed as bytes, and who needs a string checks it.
//!
//! Absent on purpose: no state. A decoder that remembered relations would decide what a row means; the engine does that.

use std::fmt;

use crate::error::{Code, Error};
use crate::lsn::Lsn;
use crate::row::Cell;
use crate::table::{RelationId, ReplicaIdentity};

mod reader;
#[cfg(test)]
pub(crate) mod tests;

use reader::Reader;

/// Microseconds from 1970 to 2000, where PostgreSQL's clock starts.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// One message of the logical replication stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A committed transaction begins.
    Begin(Begin),
    /// It ends.
    Commit(Commit),
    /// The transaction was replicated from elsewhere.
    Origin(Origin<'a>),
    /// What a table looks like from here on.
    Relation(Relation<'a>),
    /// Names a type that is not built in.
    Type(Type<'a>),
    /// A row came.
    Insert {
        /// The table.
        relation: RelationId,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row changed.
    Update {
        /// The table.
        relation: RelationId,
        /// Present if the key changed, or under REPLICA IDENTITY FULL.
        old: Option<OldTuple<'a>>,
        /// The row as it is now.
        new: Tuple<'a>,
    },
    /// A row went.
    Delete {
        /// The table.
        relation: RelationId,
        /// What is known of the row.
        old: OldTuple<'a>,
    },
    /// Tables were emptied.
    Truncate(Truncate<'a>),
    /// What `pg_logical_emit_message` wrote.
    Logical(Logical<'a>),
}

/// The start of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where the transaction's commit record *starts* (the manual calls it the final LSN).
    pub commit_lsn: Lsn,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
    /// The transaction's id, without its epoch.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Unused so far, 0.
    pub flags: u8,
    /// As in [`Begin`].
    pub commit_lsn: Lsn,
    /// Where the commit record ends: what is acknowledged.
    pub end_lsn: Lsn,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
}

/// Where a replicated transaction came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Its commit position on the origin.
    pub commit_lsn: Lsn,
    /// The origin's name.
    pub name: &'a str,
}

/// A type that is not built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type<'a> {
    /// Its oid.
    pub oid: u32,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// A table as the following rows are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The oid.
    pub relation: RelationId,
    /// PostgreSQL's schema.
    pub namespace: &'a str,
    /// The table's name.
    pub name: &'a str,
    /// How old rows are identified.
    pub replica_identity: ReplicaIdentity,
    columns: Reader<'a>,
    column_count: u16,
}

impl<'a> Relation<'a> {
    /// The listed columns, in the order of the tuples' cells.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = RelationColumn<'a>> + use<'a> {
        let mut reader = self.columns;
        (0..self.column_count).map(move |_| reader.column().unwrap_or_default())
    }
}

/// A listed column of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// True if it is part of the replica identity.
    pub key: bool,
    /// Its name.
    pub name: &'a str,
    /// `atttypid`.
    pub type_oid: u32,
    /// `atttypmod`.
    pub typmod: i32,
}

/// Tables emptied by one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate<'a> {
    /// TRUNCATE … CASCADE.
    pub cascade: bool,
    /// TRUNCATE … RESTART IDENTITY.
    pub restart_identity: bool,
    relations: &'a [u8],
}

impl<'a> Truncate<'a> {
    /// The tables.
    pub fn relations(&self) -> impl ExactSizeIterator<Item = RelationId> + use<'a> {
        self.relations.as_chunks::<4>().0.iter().map(|oid| RelationId(u32::from_be_bytes(*oid)))
    }
}

/// A logical decoding message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Logical<'a> {
    /// False if it was sent whether or not its transaction committed.
    pub transactional: bool,
    /// Where it stands.
    pub lsn: Lsn,
    /// Its prefix.
    pub prefix: &'a str,
    /// Its content, any bytes.
    pub content: &'a [u8],
}

// The content is anybody's data: it is never printed.
impl fmt::Debug for Logical<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logical({:?} at {}, {} bytes)", self.prefix, self.lsn, self.content.len())
    }
}

/// What a change tells about the row as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTuple<'a> {
    /// Only the key columns mean anything: another column's null means "not key".
    Key(Tuple<'a>),
    /// The whole row (REPLICA IDENTITY FULL).
    Full(Tuple<'a>),
}

impl<'a> OldTuple<'a> {
    /// The tuple, whichever it is.
    pub fn tuple(&self) -> Tuple<'a> {
        match self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => *tuple,
        }
    }
}

/// The cells of one row, checked and not yet located.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<'a> {
    /// From the first cell to the last.
    cells: Reader<'a>,
    count: u16,
}

impl Tuple<'_> {
    /// The number of cells.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// True for a table without columns.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Replaces `out` by one cell per column. Ranges count from the start of the message that [`decode`] was given, so
    /// the old and the new tuple of a message share that one buffer.
    pub fn cells(&self, out: &mut Vec<Cell>) {
        out.clear();
        let mut reader = self.cells;
        out.extend((0..self.count).map_while(|_| reader.cell().ok()));
    }
}

/// Decodes one message. Never panics, whatever the bytes.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let message = match reader.u8()? {
        b'B' => Message::Begin(Begin { commit_lsn: reader.lsn()?, timestamp: reader.timestamp()?, xid: reader.u32()? }),
        b'C' => Message::Commit(Commit {
            flags: reader.u8()?,
            commit_lsn: reader.lsn()?,
            end_lsn: reader.lsn()?,
            timestamp: reader.timestamp()?,
        }),
        b'O' => Message::Origin(Origin { commit_lsn: reader.lsn()?, name: reader.name()? }),
        b'R' => Message::Relation(decode_relation(&mut reader)?),
        b'Y' => Message::Type(Type { oid: reader.u32()?, namespace: reader.namespace()?, name: reader.name()? }),
        b'I' => Message::Insert { relation: reader.relation()?, new: decode_new(&mut reader)? },
        b'U' => decode_update(&mut reader)?,
        b'D' => {
            let relation = reader.relation()?;
            let tag = reader.u8()?;
            match decode_old(&mut reader, tag)? {
                Some(old) => Message::Delete { relation, old },
                None => return Err(reader.error(Problem::TupleTag(tag))),
            }
        }
        b'T' => Message::Truncate(decode_truncate(&mut reader)?),
        b'M' => Message::Logical(decode_logical(&mut reader)?),
        tag => return Err(reader.error(Problem::MessageTag(tag))),
    };
    reader.finish()?;
    Ok(message)
}

fn decode_relation<'a>(reader: &mut Reader<'a>) -> Result<Relation<'a>, DecodeError> {
    let relation = reader.relation()?;
    let namespace = reader.namespace()?;
    let name = reader.name()?;
    let replica_identity = match reader.u8()? {
        b'd' => ReplicaIdentity::Default,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        b'n' => ReplicaIdentity::Nothing,
        other => return Err(reader.error(Problem::ReplicaIdentity(other))),
    };
    let column_count = reader.count()?;
    let columns = *reader;
    for _ in 0..column_count {
        reader.column()?;
    }
    Ok(Relation { relation, namespace, name, replica_identity, columns, column_count })
}

fn decode_update<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = reader.relation()?;
    let tag = reader.u8()?;
    match decode_old(reader, tag)? {
        Some(old) => Ok(Message::Update { relation, old: Some(old), new: decode_new(reader)? }),
        None if tag == b'N' => Ok(Message::Update { relation, old: None, new: decode_tuple(reader)? }),
        None => Err(reader.error(Problem::TupleTag(tag))),
    }
}

fn decode_new<'a>(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
    match reader.u8()? {
        b'N' => decode_tuple(reader),
        tag => Err(reader.error(Problem::TupleTag(tag))),
    }
}

/// The old tuple that `tag` announces, or nothing if it announces none.
fn decode_old<'a>(reader: &mut Reader<'a>, tag: u8) -> Result<Option<OldTuple<'a>>, DecodeError> {
    Ok(match tag {
        b'K' => Some(OldTuple::Key(decode_tuple(reader)?)),
        b'O' => Some(OldTuple::Full(decode_tuple(reader)?)),
        _ => None,
    })
}

fn decode_tuple<'a>(reader: &mut Reader<'a>) -> Result<Tuple<'a>, DecodeError> {
    let count = reader.count()?;
    let cells = *reader;
    for _ in 0..count {
        reader.cell()?;
    }
    Ok(Tuple { cells: cells.until(reader), count })
}

fn decode_truncate<'a>(reader: &mut Reader<'a>) -> Result<Truncate<'a>, DecodeError> {
    let count = reader.u32()?;
    let options = reader.u8()?;
    if options > 3 {
        return Err(reader.error(Problem::TruncateOptions(options)));
    }
    let relations = reader.take((count as usize).saturating_mul(4))?;
    Ok(Truncate { cascade: options & 1 != 0, restart_identity: options & 2 != 0, relations })
}

fn decode_logical<'a>(reader: &mut Reader<'a>) -> Result<Logical<'a>, DecodeError> {
    let transactional = reader.u8()? & 1 != 0;
    let lsn = reader.lsn()?;
    let prefix = reader.name()?;
    let len = reader.u32()?;
    Ok(Logical { transactional, lsn, prefix, content: reader.take(len as usize)? })
}

/// Why a message cannot be read. Holds no part of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong.
    pub problem: Problem,
    /// The byte of the message after which it was found.
    pub offset: usize,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The message ends too early.
    Short,
    /// The message goes on after its end.
    Trailing,
    /// The message has 4 GiB or more.
    Long,
    /// No message of protocol 1 starts so.
    MessageTag(u8),
    /// No tuple starts so, or not here.
    TupleTag(u8),
    /// No cell starts so.
    CellTag(u8),
    /// A cell in binary, which gimbal never asks for.
    BinaryCell,
    /// A count below zero.
    Count,
    /// Not one of the four replica identities.
    ReplicaIdentity(u8),
    /// An unknown option of TRUNCATE.
    TruncateOptions(u8),
    /// A name without its end, or not in UTF-8.
    Name,
    /// A time that microseconds since 1970 cannot express.
    Timestamp,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Short => write!(f, "the message ends too early"),
            Problem::Trailing => write!(f, "the message goes on after its end"),
            Problem::Long => write!(f, "the message has 4 GiB or more"),
            Problem::MessageTag(tag) => write!(f, "no message of protocol 1 starts with byte 0x{tag:02x}"),
            Problem::TupleTag(tag) => write!(f, "byte 0x{tag:02x} where a tuple has to start"),
            Problem::CellTag(tag) => write!(f, "byte 0x{tag:02x} where a cell has to start"),
            Problem::BinaryCell => write!(f, "a cell in binary where text was asked for"),
            Problem::Count => write!(f, "a count below zero"),
            Problem::ReplicaIdentity(byte) => write!(f, "no replica identity has the letter 0x{byte:02x}"),
            Problem::TruncateOptions(byte) => write!(f, "unknown options 0x{byte:02x} of a truncate"),
            Problem::Name => write!(f, "a name without an end or not in UTF-8"),
            Problem::Timestamp => write!(f, "a commit time out of range"),
        }?;
        write!(f, " (byte {} of the message)", self.offset)
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Error {
        Error::definite(Code::SourceProtocol, format!("a replication message cannot be decoded: {error}"))
            .hint("report this with the server's version: either the server broke pgoutput's format, or gimbal reads it wrong")
    }
}
