//! Reads `COPY … TO STDOUT` text rows into cells: the first column is the ctid, the others the chunk's columns.

use crate::engine::Chunk;
use crate::error::{Code, Error, Result};
use crate::row::Cell;
use crate::state::Tid;

/// Why a row was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in the chunk.
    Yes,
    /// The chunk is large enough; this row begins the next one.
    Enough,
}

/// Appends rows to a chunk until it is large enough.
#[derive(Debug)]
pub struct CopyReader {
    chunk: Chunk,
    rows_max: usize,
    bytes_max: usize,
    newest: Tid,
    cut: Option<Tid>,
}

impl CopyReader {
    /// A reader for rows of `attnums`, with a bound on rows and bytes.
    pub fn new(attnums: Vec<i16>, from: Tid, rows_max: usize, bytes_max: usize) -> CopyReader {
        let chunk = Chunk { attnums, next: from, ..Chunk::default() };
        CopyReader { chunk, rows_max, bytes_max, newest: from, cut: None }
    }

    /// Takes one line of the copy, without or with its newline.
    pub fn line(&mut self, line: &[u8]) -> Result<Taken> {
        if self.cut.is_some() {
            return Ok(Taken::Enough);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut fields = line.split(|byte| *byte == b'\t');
        let tid = fields.next().and_then(parse_tid).ok_or_else(|| broken("has no ctid"))?;
        if tid < self.newest || (self.chunk.rows > 0 && tid == self.newest) {
            return Err(broken("is not in the order of the heap"));
        }
        if self.chunk.rows > 0 && (self.chunk.rows >= self.rows_max || self.chunk.buffer.len() >= self.bytes_max) {
            self.cut = Some(tid);
            return Ok(Taken::Enough);
        }
        let before = self.chunk.cells.len();
        for field in fields {
            let cell = if field == b"\\N" {
                Cell::Null
            } else {
                let start = self.chunk.buffer.len();
                unescape(field, &mut self.chunk.buffer)?;
                let len = self.chunk.buffer.len() - start;
                match (u32::try_from(start), u32::try_from(len)) {
                    (Ok(start), Ok(len)) => Cell::Text { start, len },
                    _ => return Err(broken("makes the chunk larger than 4 GiB")),
                }
            };
            self.chunk.cells.push(cell);
        }
        if self.chunk.cells.len() - before != self.chunk.attnums.len() {
            return Err(broken("has another number of columns than was asked for"));
        }
        self.newest = tid;
        self.chunk.rows += 1;
        Ok(Taken::Yes)
    }

    /// The chunk; `to` is where its range ended, unless it was cut before.
    pub fn finish(mut self, to: Tid) -> Chunk {
        self.chunk.next = self.cut.unwrap_or(to);
        self.chunk
    }
}

fn broken(how: &str) -> Error {
    Error::definite(Code::SourceProtocol, format!("a row of a snapshot's copy {how}"))
        .hint("report it: the server does not print what the manual says")
}

/// Parses `(block,offset)`.
fn parse_tid(text: &[u8]) -> Option<Tid> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix('(')?.strip_suffix(')')?;
    let (block, offset) = text.split_once(',')?;
    Some(Tid { block: block.parse().ok()?, offset: offset.parse().ok()? })
}

/// Undoes COPY's backslash sequences.
fn unescape(field: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut rest = field;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escaped) = rest.split_at(at);
        out.extend_from_slice(plain);
        let byte = match escaped.get(1) {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'v') => 11,
            Some(b'\\') => b'\\',
            _ => return Err(broken("has an unknown backslash sequence")),
        };
        out.push(byte);
        rest = escaped.get(2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escape(text: &[u8]) -> Vec<u8> {
        text.iter()
            .flat_map(|byte| match byte {
                8 => b"\\b".to_vec(),
                12 => b"\\f".to_vec(),
                b'\n' => b"\\n".to_vec(),
                b'\r' => b"\\r".to_vec(),
                b'\t' => b"\\t".to_vec(),
                11 => b"\\v".to_vec(),
                b'\\' => b"\\\\".to_vec(),
                other => vec![*other],
            })
            .collect()
    }

    fn text<'a>(chunk: &'a Chunk, cell: &Cell) -> Option<&'a [u8]> {
        match cell {
            Cell::Text { start, len } => Some(&chunk.buffer[*start as usize..(*start + *len) as usize]),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_were_escaped(rows in prop::collection::vec(prop::collection::vec(
            prop::option::of(prop::collection::vec(any::<u8>(), 0..12)), 2), 1..20)) {
            let mut reader = CopyReader::new(vec![1, 2], Tid::default(), usize::MAX, usize::MAX);
            for (i, row) in rows.iter().enumerate() {
                let mut line = format!("({},{})", i / 3, i % 3 + 1).into_bytes();
                for value in row {
                    line.push(b'\t');
                    match value { Some(v) => line.extend(escape(v)), None => line.extend(b"\\N") }
                }
                line.push(b'\n');
                prop_assert_eq!(reader.line(&line).unwrap(), Taken::Yes);
            }
            let chunk = reader.finish(Tid { block: 99, offset: 0 });
            prop_assert_eq!(chunk.rows, rows.len());
            for (cells, row) in chunk.cells.chunks(2).zip(&rows) {
                for (cell, value) in cells.iter().zip(row) {
                    prop_assert_eq!(text(&chunk, cell), value.as_deref());
                }
            }
        }
    }

    #[test]
    fn a_chunk_is_cut_at_the_first_row_that_it_does_not_hold() {
        let mut reader = CopyReader::new(vec![1], Tid::default(), 2, usize::MAX);
        assert_eq!(reader.line(b"(0,1)\ta\n").unwrap(), Taken::Yes);
        assert_eq!(reader.line(b"(0,2)\tb\n").unwrap(), Taken::Yes);
        assert_eq!(reader.line(b"(0,5)\tc\n").unwrap(), Taken::Enough);
        assert_eq!(reader.line(b"(0,6)\td\n").unwrap(), Taken::Enough);
        assert_eq!(reader.finish(Tid { block: 9, offset: 0 }).next, Tid { block: 0, offset: 5 });
    }

    #[test]
    fn rows_out_of_the_heaps_order_are_refused() {
        let mut reader = CopyReader::new(vec![1], Tid::default(), 9, usize::MAX);
        reader.line(b"(3,1)\ta").unwrap();
        assert!(reader.line(b"(2,9)\tb").is_err());
        assert!(reader.line(b"(3,1)\tb").is_err());
    }
}
