//! A cursor over one message that answers every overrun with an error.

use super::{DecodeError, POSTGRES_EPOCH_MICROS, Problem, RelationColumn};
use crate::lsn::Lsn;
use crate::row::Cell;
use crate::table::RelationId;

/// The message and how far it was read. Copying it is a bookmark.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Reader<'a> {
    /// The message up to where reading has to stop.
    bytes: &'a [u8],
    /// The next byte; at most `bytes.len()`.
    offset: usize,
}

// Shows where, not what: a derived one would print rows.
impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bytes {}..{}", self.offset, self.bytes.len())
    }
}

impl<'a> Reader<'a> {
    /// Starts at the message's first byte. Cells hold 32-bit offsets, so a longer message is refused.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Reader<'a>, DecodeError> {
        let reader = Reader { bytes, offset: 0 };
        if u32::try_from(bytes.len()).is_err() { Err(reader.error(Problem::Long)) } else { Ok(reader) }
    }

    /// A problem found here.
    #[cold]
    pub(super) fn error(&self, problem: Problem) -> DecodeError {
        DecodeError { problem, offset: self.offset }
    }

    /// An error unless everything was read.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.offset == self.bytes.len() { Ok(()) } else { Err(self.error(Problem::Trailing)) }
    }

    /// This bookmark, made to end where `end` stands.
    pub(super) fn until(mut self, end: &Reader<'a>) -> Reader<'a> {
        self.bytes = self.bytes.get(..end.offset).unwrap_or(self.bytes);
        self
    }

    /// The next `len` bytes.
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        // `offset` is at most the length, so the first slice exists.
        match self.bytes.get(self.offset..).and_then(|rest| rest.get(..len)) {
            Some(taken) => {
                self.offset += len;
                Ok(taken)
            }
            None => Err(self.error(Problem::Short)),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.bytes.get(self.offset..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(chunk) => {
                self.offset += N;
                Ok(*chunk)
            }
            None => Err(self.error(Problem::Short)),
        }
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn lsn(&mut self) -> Result<Lsn, DecodeError> {
        self.array().map(|bytes| Lsn(u64::from_be_bytes(bytes)))
    }

    /// Microseconds since 1970, from the message's microseconds since 2000.
    pub(super) fn timestamp(&mut self) -> Result<i64, DecodeError> {
        let since_2000 = self.array().map(i64::from_be_bytes)?;
        since_2000.checked_add(POSTGRES_EPOCH_MICROS).ok_or_else(|| self.error(Problem::Timestamp))
    }

    pub(super) fn relation(&mut self) -> Result<RelationId, DecodeError> {
        self.u32().map(RelationId)
    }

    /// A count of columns: 16 bits, not negative.
    #[inline]
    pub(super) fn count(&mut self) -> Result<u16, DecodeError> {
        let count = self.array().map(u16::from_be_bytes)?;
        if count > i16::MAX.unsigned_abs() { Err(self.error(Problem::Count)) } else { Ok(count) }
    }

    /// A text that ends with a zero byte.
    pub(super) fn name(&mut self) -> Result<&'a str, DecodeError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let len = memchr::memchr(0, rest).ok_or_else(|| self.error(Problem::Name))?;
        let name = self.take(len)?;
        let name = std::str::from_utf8(name).map_err(|_| self.error(Problem::Name))?;
        self.u8()?;
        Ok(name)
    }

    /// A name where the empty one stands for `pg_catalog`.
    pub(super) fn namespace(&mut self) -> Result<&'a str, DecodeError> {
        let name = self.name()?;
        Ok(if name.is_empty() { "pg_catalog" } else { name })
    }

    pub(super) fn column(&mut self) -> Result<RelationColumn<'a>, DecodeError> {
        Ok(RelationColumn {
            key: self.u8()? & 1 != 0,
            name: self.name()?,
            type_oid: self.u32()?,
            typmod: self.array().map(i32::from_be_bytes)?,
        })
    }

    /// One cell; a text's range counts from the start of the message.
    #[inline]
    pub(super) fn cell(&mut self) -> Result<Cell, DecodeError> {
        match self.u8()? {
            b't' => {
                let len = self.u32()?;
                // The message is shorter than 4 GiB, so its offsets fit.
                let start = self.offset as u32;
                self.take(len as usize)?;
                Ok(Cell::Text { start, len })
            }
            b'n' => Ok(Cell::Null),
            b'u' => Ok(Cell::Unchanged),
            b'b' => Err(self.error(Problem::BinaryCell)),
            tag => Err(self.error(Problem::CellTag(tag))),
        }
    }
}
