//! One row as cells over a borrowed buffer: no copy, no allocation, unread columns never parsed.

/// One column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datum<'a> {
    /// SQL NULL.
    Null,
    /// An out-of-line value that the change did not touch and the message does not carry: unknown, not null.
    Unchanged,
    /// PostgreSQL's output text under the pinned settings.
    Text(&'a [u8]),
}

/// Where a column's text stands in the buffer, or that it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// SQL NULL.
    Null,
    /// See [`Datum::Unchanged`].
    Unchanged,
    /// Byte range of the text.
    Text {
        /// First byte.
        start: u32,
        /// Length in bytes.
        len: u32,
    },
}

/// A row: cells by place (the order of the table version's listed columns) over one buffer.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The bytes that the cells point into.
    pub buffer: &'a [u8],
    /// One cell a listed column.
    pub cells: &'a [Cell],
}

impl<'a> Row<'a> {
    /// The column at `place`; a place beyond the row is null-like only if the caller checked the length, so it is `Unchanged`.
    pub fn get(&self, place: usize) -> Datum<'a> {
        match self.cells.get(place) {
            Some(Cell::Null) => Datum::Null,
            Some(Cell::Text { start, len }) => {
                match self.buffer.get(*start as usize..(*start as usize).saturating_add(*len as usize)) {
                    Some(text) => Datum::Text(text),
                    None => Datum::Unchanged,
                }
            }
            Some(Cell::Unchanged) | None => Datum::Unchanged,
        }
    }
}
