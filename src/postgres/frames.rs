//! Frames of the replication stream, in buffers that go round between the socket's thread and the engine.
//!
//! A buffer holds whole protocol messages as they came from the wire; a frame borrows from it, so a row is never copied
//! between the socket and its projection.

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;

use super::sqlstate::{During, error_response, gap};
use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;

/// Bytes of a buffer (256 KiB), unless a larger message needs more: large enough that a hand-over costs nothing per row,
/// small enough that all buffers together stay below 2 MiB.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// Tag and length before every protocol message.
const HEADER_BYTES: usize = 5;

/// `w`, start, end, time of sending.
const DATA_HEADER_BYTES: usize = 25;

/// One frame of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A message of the output plugin.
    Data {
        /// Where the message's change stands; 0 for some messages.
        wal_start: Lsn,
        /// How far the server has sent.
        wal_end: Lsn,
        /// For [`crate::pgoutput::decode`].
        message: &'a [u8],
    },
    /// The server has nothing more to send before `wal_end`.
    Keepalive {
        /// How far the server has sent: everything before has passed.
        wal_end: Lsn,
        /// The server asked for a status update (the stream's thread has answered).
        reply: bool,
    },
}

// Rows stay out of logs.
impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Frame::Data { wal_start, message, .. } => write!(f, "Data({} bytes at {wal_start})", message.len()),
            Frame::Keepalive { wal_end, reply } => write!(f, "Keepalive({wal_end}, reply: {reply})"),
        }
    }
}

/// Whole frames, in order.
pub struct FrameBuffer {
    /// All of it is initialised, so that the socket can be read into its tail.
    pub(super) bytes: Vec<u8>,
    /// The end of the last whole message.
    end: usize,
}

impl std::fmt::Debug for FrameBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrameBuffer({} bytes)", self.end)
    }
}

impl FrameBuffer {
    /// The frame at `offset`, which is moved behind it; nothing at the end. Start with 0. To be offered the same frame
    /// again, keep the offset from before.
    #[inline]
    pub fn next_frame(&self, offset: &mut usize) -> Option<Frame<'_>> {
        loop {
            let rest = self.bytes.get(*offset..self.end)?;
            let (tag, body) = split_message(rest)?;
            *offset += HEADER_BYTES + body.len();
            if tag == b'd' {
                return read_frame(body);
            }
        }
    }

    /// All frames from the first.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let mut offset = 0;
        std::iter::from_fn(move || self.next_frame(&mut offset))
    }
}

/// Tag and body of the first message, if it is whole.
#[inline]
fn split_message(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&[tag, a, b, c, d], rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    Some((tag, rest.get(..len.checked_sub(4)?)?))
}

#[inline]
fn read_frame(body: &[u8]) -> Option<Frame<'_>> {
    let lsn = |at: usize| Some(Lsn(u64::from_be_bytes(*body.get(at..)?.first_chunk()?)));
    match body.first()? {
        b'w' => Some(Frame::Data { wal_start: lsn(1)?, wal_end: lsn(9)?, message: body.get(DATA_HEADER_BYTES..)? }),
        b'k' => Some(Frame::Keepalive { wal_end: lsn(1)?, reply: *body.get(17)? != 0 }),
        _ => None,
    }
}

/// The buffer that the socket is being read into.
pub(super) struct Filling {
    bytes: Vec<u8>,
    /// Bytes read so far.
    filled: usize,
    /// The end of the last whole message.
    complete: usize,
    /// Size of the message that is not whole yet, header included, once its header is there.
    wanted: usize,
}

/// What the newest bytes told the socket's thread itself.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The furthest position that the server has sent.
    pub(super) received: Lsn,
    /// The server asks for a status update.
    pub(super) reply: bool,
    /// The stream is over, for this reason. The frames before it are still good.
    pub(super) ended: Option<Error>,
}

impl Filling {
    /// Starts with bytes that were read before the stream, and scans nothing yet.
    pub(super) fn new(first: &[u8]) -> Filling {
        let mut bytes = vec![0; BUFFER_BYTES.max(first.len())];
        if let Some(start) = bytes.get_mut(..first.len()) {
            start.copy_from_slice(first);
        }
        Filling { bytes, filled: first.len(), complete: 0, wanted: 0 }
    }

    /// Room to read into; empty if the buffer is full.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// True if frames are ready to be handed over.
    pub(super) fn has_frames(&self) -> bool {
        self.complete > 0
    }

    /// True if the message that is arriving needs a larger buffer.
    pub(super) fn needs_growth(&self) -> bool {
        self.complete == 0 && self.wanted > self.bytes.len()
    }

    /// Makes room for the message that is arriving: at most doubled at a time, since its length is only a claim yet.
    pub(super) fn grow(&mut self) {
        let size = self.wanted.min(self.bytes.len().saturating_mul(2));
        self.bytes.resize(size, 0);
    }

    /// Takes note of `read` more bytes in the room, and looks at the messages that became whole.
    pub(super) fn scan(&mut self, read: usize, message_bytes_max: usize) -> Scan {
        self.filled = self.filled.saturating_add(read).min(self.bytes.len());
        let mut scan = Scan::default();
        loop {
            let rest = self.bytes.get(self.complete..self.filled).unwrap_or_default();
            match look_at(rest, message_bytes_max, &mut scan) {
                Ok(Progress::Whole(size)) => self.complete += size,
                Ok(Progress::Partial(wanted)) => {
                    self.wanted = wanted;
                    return scan;
                }
                Err(error) => {
                    scan.ended = Some(error);
                    return scan;
                }
            }
        }
    }

    /// Takes the whole frames out, and goes on with the rest in `next` (a buffer to reuse).
    pub(super) fn take(&mut self, next: Option<FrameBuffer>) -> FrameBuffer {
        // A buffer that grew for one large message is not kept: memory goes back after it.
        let next = next.filter(|buffer| buffer.bytes.capacity() <= 2 * BUFFER_BYTES);
        let mut bytes = next.map_or_else(Vec::new, |buffer| buffer.bytes);
        let rest = self.bytes.get(self.complete..self.filled).unwrap_or_default();
        bytes.resize(BUFFER_BYTES.max(rest.len()), 0);
        if let Some(start) = bytes.get_mut(..rest.len()) {
            start.copy_from_slice(rest);
        }
        self.filled = rest.len();
        let end = std::mem::take(&mut self.complete);
        FrameBuffer { bytes: std::mem::replace(&mut self.bytes, bytes), end }
    }
}

enum Progress {
    /// A whole message of this size.
    Whole(usize),
    /// Not whole; its size, or 0 while even that is unknown.
    Partial(usize),
}

fn look_at(bytes: &[u8], message_bytes_max: usize, scan: &mut Scan) -> Result<Progress> {
    let Some(&[tag, a, b, c, d]) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(Progress::Partial(0)) };
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    if len < 4 {
        return Err(broken("a message with a length below 4"));
    }
    if len > message_bytes_max {
        return Err(Error::definite(
            Code::MessageTooLarge,
            format!("the server sends a message of {len} bytes, and gimbal accepts {message_bytes_max}"),
        )
        .hint("a row with its values in text has to fit; the table cannot be replicated with such a row"));
    }
    let Some((_, body)) = split_message(bytes) else { return Ok(Progress::Partial(len + 1)) };
    match tag {
        b'd' => match read_frame(body) {
            Some(Frame::Data { wal_start, wal_end, .. }) => {
                scan.received = scan.received.max(wal_start).max(wal_end);
            }
            Some(Frame::Keepalive { wal_end, reply }) => {
                scan.received = scan.received.max(wal_end);
                scan.reply |= reply;
            }
            None => return Err(broken("a frame of an unknown kind")),
        },
        b'N' => return notice(bytes.get(..len + 1).unwrap_or_default()).map(|()| Progress::Whole(len + 1)),
        // Settings, notifications: not part of the stream.
        b'S' | b'A' => {}
        b'E' => return Err(server_error(bytes.get(..len + 1).unwrap_or_default())),
        b'c' | b'C' | b'Z' => {
            return Err(Error::transient(Code::SourceUnreachable, "the server ended the replication stream"));
        }
        _ => return Err(broken("a message that has no place in it")),
    }
    Ok(Progress::Whole(len + 1))
}

/// A notice is not part of the stream, unless it says that the stream has a gap: from PostgreSQL 18 on the server goes on
/// without a publication that is missing, where an older one ends the stream.
fn notice(message: &[u8]) -> Result<()> {
    match Message::parse(&mut BytesMut::from(message)) {
        Ok(Some(Message::NoticeResponse(body))) => gap(body.fields()).map_or(Ok(()), Err),
        _ => Err(broken("a notice that cannot be read")),
    }
}

fn server_error(message: &[u8]) -> Error {
    match Message::parse(&mut BytesMut::from(message)) {
        Ok(Some(Message::ErrorResponse(body))) => error_response(During::Stream, body.fields()),
        _ => broken("an error that cannot be read"),
    }
}

fn broken(what: &str) -> Error {
    Error::definite(Code::SourceProtocol, format!("the replication stream holds {what}"))
        .hint("check that a PostgreSQL server, version 14 or later, is at the other end")
}

#[cfg(test)]
mod tests;
