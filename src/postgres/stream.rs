//! The replication stream: a thread that owns the socket, reads frames into buffers, and keeps the status timer.
//!
//! ```text
//!  socket ─▶ [thread] ─ StreamEvent::Frames ─▶ engine
//!              ▲  ▲ └──◀─ empty buffers ───────┘ │
//!              │  └────◀─ ConfirmedLsn ──────────┘   (sent to the server by the timer)
//! ```
//!
//! The engine may stop taking buffers for as long as it likes: the thread then stops reading, so the server waits, and
//! the timer goes on, so the server does not give us up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::{BufMut, BytesMut};
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};
use postgres_protocol::message::frontend::{self, CopyData};

use super::connection::Connection;
use super::frames::{BUFFER_BYTES, Filling, Scan};
pub use super::frames::{Frame, FrameBuffer};
use super::transport::Transport;
use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;

mod handle;

pub use handle::{ConfirmedLsn, StreamEvent, StreamHandle};

/// What the stream puts up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Most bytes of one message, that is of one row in text with its old version.
    ///
    /// Two of them may be held at a time: one in the engine and one arriving. PostgreSQL's own bound of 1 GiB does not
    /// fit into the machines that gimbal runs on.
    pub message_bytes_max: usize,
    /// After this time of silence the server counts as gone. After a sixth of it, it is asked for a sign of life.
    pub silence_max: Duration,
}

/// Most bytes of one message of the stream (64 MiB), unless the limits say otherwise.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

impl Default for StreamLimits {
    fn default() -> StreamLimits {
        StreamLimits { message_bytes_max: MESSAGE_BYTES_MAX, silence_max: Duration::from_secs(60) }
    }
}

/// Buffers between thread and engine: enough to keep both busy, 1 MiB in all.
const BUFFERS: usize = 4;

/// The server hears from us at least this often.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// A confirmed position that moved is sent after this time at the latest, and no more often.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(100);

/// The longest sleep without a look at the confirmed position and the wish to stop.
const SLICE: Duration = Duration::from_millis(50);

/// How long a busy socket is left to fill before it is read again.
///
/// The server sends every row by itself; reading each would cost a system call and a wake-up a row. A pause of 200 µs
/// takes a third to a fifth of the CPU, with more throughput.
const PAUSE: Duration = Duration::from_micros(200);

/// Bytes that follow the last ones within this time mean that the stream is busy.
const BUSY_GAP: Duration = Duration::from_millis(1);

/// How long [`StreamHandle::stop`] waits until the server has taken the last position.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Seconds from 1970 to 2000, where PostgreSQL's clock starts.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

/// The thread's end of a running stream.
pub struct Stream {
    transport: Transport,
    filling: Filling,
    limits: StreamLimits,
    events: Sender<StreamEvent>,
    spare: Receiver<FrameBuffer>,
    confirmed: Arc<ConfirmedLsn>,
    stopping: Arc<AtomicBool>,
    /// The furthest position that the server has sent.
    received: Lsn,
    status: BytesMut,
    status_sent: Instant,
    status_confirmed: Lsn,
    /// The server waits for a status update.
    reply_due: bool,
    heard: Instant,
    /// The socket may hold more than the last read took.
    more: bool,
    busy: bool,
}

impl Stream {
    /// Starts streaming from `slot`, from where the server has it confirmed, and returns once the server agreed.
    ///
    /// Errors: [`Code::SlotHeld`] (transient) and [`Code::SlotLost`], and those of a broken connection.
    pub fn spawn(connection: Connection, slot: &str, publications: &[&str]) -> Result<StreamHandle> {
        Stream::spawn_within(connection, slot, publications, StreamLimits::default())
    }

    /// As [`Stream::spawn`], with limits of the caller's.
    pub fn spawn_within(
        connection: Connection,
        slot: &str,
        publications: &[&str],
        limits: StreamLimits,
    ) -> Result<StreamHandle> {
        let (transport, first) = connection.into_stream(&start_command(slot, publications))?;
        transport.start_polling()?;
        let (events, engine_events) = bounded(BUFFERS);
        // One more than can be under way, so that giving back never fails in practice.
        let (empty, spare) = bounded(BUFFERS + 2);
        let (confirmed, stopping) = (Arc::new(ConfirmedLsn::default()), Arc::new(AtomicBool::new(false)));
        let now = Instant::now();
        let stream = Stream {
            transport,
            filling: Filling::new(&first),
            limits,
            events,
            spare,
            confirmed: Arc::clone(&confirmed),
            stopping: Arc::clone(&stopping),
            received: Lsn(0),
            status: BytesMut::new(),
            status_sent: now,
            status_confirmed: Lsn(0),
            reply_due: true,
            heard: now,
            more: true,
            busy: false,
        };
        let thread = std::thread::Builder::new()
            .name("gimbal-stream".to_string())
            .spawn(move || stream.run())
            .map_err(|error| Error::transient(Code::Internal, format!("no thread for the stream: {error}")))?;
        Ok(StreamHandle { events: engine_events, empty, confirmed, stopping, thread: Some(thread) })
    }

    fn run(mut self) -> Result<()> {
        let first = self.filling.scan(0, self.limits.message_bytes_max);
        match self.take_in(first).and_then(|()| self.pump()) {
            Ok(()) => self.say_farewell(),
            Err(error) => {
                let reason = error.diagnosis().to_string();
                self.hand_over(StreamEvent::Ended(error)).ok();
                Err(Error::transient(
                    Code::SourceUnreachable,
                    format!("the stream had ended before it was stopped: {reason}"),
                ))
            }
        }
    }

    /// Reads and hands over until the engine wants to stop.
    fn pump(&mut self) -> Result<()> {
        while !self.stopping() {
            self.keep_time()?;
            if self.filling.needs_growth() {
                // A large message arrives only into an empty channel, so that no more than two are held at a time.
                if !self.events.is_empty() {
                    std::thread::sleep(SLICE / 10);
                    self.heard = Instant::now();
                    continue;
                }
                self.filling.grow();
            }
            let scan = self.read()?;
            self.take_in(scan)?;
        }
        Ok(())
    }

    /// Notes what the newest bytes say, and hands their frames over.
    fn take_in(&mut self, scan: Scan) -> Result<()> {
        self.received = self.received.max(scan.received);
        self.reply_due |= scan.reply;
        if self.filling.has_frames() {
            let buffer = self.filling.take(self.spare.try_recv().ok());
            self.hand_over(StreamEvent::Frames(buffer))?;
        }
        scan.ended.map_or(Ok(()), Err)
    }

    /// Waits a slice for bytes, or not at all if there are some, and reads what fits.
    fn read(&mut self) -> Result<Scan> {
        if self.busy && !self.more {
            // Never when idle: the first bytes after a pause are read at once.
            std::thread::sleep(PAUSE.saturating_sub(self.heard.elapsed()));
        }
        if !self.more && !self.transport.wait(SLICE)? {
            self.busy = false;
            return Ok(Scan::default());
        }
        let read = self.read_available()?;
        if read > 0 {
            let now = Instant::now();
            self.busy = now.duration_since(self.heard) < BUSY_GAP;
            self.heard = now;
        }
        Ok(self.filling.scan(read, self.limits.message_bytes_max))
    }

    /// Reads what is there, as far as there is room, and notes whether more may be there.
    fn read_available(&mut self) -> Result<usize> {
        let mut room = self.filling.room();
        let mut total = 0;
        loop {
            match self.transport.read(room) {
                // The end shows again at the next read, when these bytes have been looked at.
                Ok(0) if total > 0 => return Ok(total),
                Ok(0) => return Err(self.transport.broken(&io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => {
                    total += read;
                    room = room.get_mut(read..).unwrap_or_default();
                    self.more = room.is_empty();
                    // A short read has emptied the socket. Under TLS it says nothing: bytes may wait decrypted.
                    if self.more || !self.transport.is_encrypted() {
                        return Ok(total);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.more = false;
                    return Ok(total);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.transport.broken(&error)),
            }
        }
    }

    /// Gives an event to the engine; while there is no room the timer goes on.
    fn hand_over(&mut self, event: StreamEvent) -> Result<()> {
        let mut event = match self.events.try_send(event) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => return Ok(()),
            Err(TrySendError::Full(event)) => event,
        };
        while !self.stopping() {
            // A dead socket ends the stream when it is read again; the frames in hand are good.
            let timer = self.keep_time();
            event = match self.events.send_timeout(event, SLICE) {
                Ok(()) | Err(SendTimeoutError::Disconnected(_)) => {
                    self.heard = Instant::now();
                    return timer;
                }
                Err(SendTimeoutError::Timeout(event)) => event,
            };
            // Nothing was read meanwhile, so nothing could be heard.
            self.heard = Instant::now();
        }
        Ok(())
    }

    /// Sends a status update if one is due, and notices a silent server.
    fn keep_time(&mut self) -> Result<()> {
        let (silent, since_status) = (self.heard.elapsed(), self.status_sent.elapsed());
        if silent > self.limits.silence_max {
            return Err(Error::transient(
                Code::SourceUnreachable,
                format!("the server at `{}` has been silent for {} s", self.transport.address, silent.as_secs()),
            ));
        }
        let moved = since_status >= CONFIRM_INTERVAL && self.confirmed.get() != self.status_confirmed;
        if self.reply_due || moved || since_status >= STATUS_INTERVAL {
            self.send_status(silent >= self.limits.silence_max / 6)?;
        }
        Ok(())
    }

    fn send_status(&mut self, ask: bool) -> Result<()> {
        let confirmed = self.confirmed.get();
        let update = status_update(self.received.max(confirmed), confirmed, ask);
        self.status.clear();
        CopyData::new(update).map_err(|error| self.transport.broken(&error))?.write(&mut self.status);
        self.transport.write_all(&self.status)?;
        self.status_sent = Instant::now();
        self.status_confirmed = confirmed;
        self.reply_due = false;
        Ok(())
    }

    /// Sends the confirmed position a last time, and waits until the server has taken note and hung up.
    ///
    /// Without CopyDone: in the middle of a transaction the server would go on to its end before it looked at anything
    /// behind that. It reads our messages in order, so the end of the connection shows that the position before the
    /// Terminate was taken. Closing at once could destroy it on its way, since unread bytes reset the connection.
    fn say_farewell(mut self) -> Result<()> {
        self.send_status(false)?;
        self.status.clear();
        frontend::terminate(&mut self.status);
        self.transport.write_all(&self.status)?;
        let deadline = Instant::now() + FAREWELL_TIMEOUT;
        let mut unconfirmed = vec![0; BUFFER_BYTES];
        while Instant::now() < deadline {
            match self.transport.read(&mut unconfirmed) {
                Ok(0) => return Ok(()),
                // Slowly on purpose: a server that can send at full speed looks at our messages only every few seconds.
                Ok(_) => std::thread::sleep(SLICE),
                Err(error) => match error.kind() {
                    io::ErrorKind::UnexpectedEof => return Ok(()),
                    io::ErrorKind::WouldBlock => drop(self.transport.wait(SLICE)?),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(self.transport.broken(&error)),
                },
            }
        }
        Err(Error::transient(
            Code::SourceUnreachable,
            format!("the server at `{}` did not confirm the end of the stream", self.transport.address),
        ))
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

fn start_command(slot: &str, publications: &[&str]) -> String {
    let names: Vec<String> = publications.iter().map(|name| quote(name, '"')).collect();
    format!(
        "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {}, messages 'true')",
        quote(slot, '"'),
        quote(&names.join(","), '\'')
    )
}

/// Quotes an identifier (`"`) or a literal (`'`) as the replication grammar has it: the quote itself is doubled.
fn quote(text: &str, mark: char) -> String {
    let doubled = text.replace(mark, &format!("{mark}{mark}"));
    format!("{mark}{doubled}{mark}")
}

/// The body of a standby status update: written, flushed, applied, time, whether an answer is wanted.
fn status_update(written: Lsn, flushed: Lsn, ask: bool) -> BytesMut {
    let mut body = BytesMut::with_capacity(34);
    body.put_u8(b'r');
    body.put_u64(written.0);
    body.put_u64(flushed.0);
    body.put_u64(flushed.0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + POSTGRES_EPOCH).unwrap_or_default();
    body.put_u64(u64::try_from(now.as_micros()).unwrap_or_default());
    body.put_u8(u8::from(ask));
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_whatever_they_hold() {
        assert_eq!(
            start_command("s\"l", &["plain", "a,b'\"c"]),
            "START_REPLICATION SLOT \"s\"\"l\" LOGICAL 0/0 (proto_version '1', \
             publication_names '\"plain\",\"a,b''\"\"c\"', messages 'true')"
        );
    }
}
