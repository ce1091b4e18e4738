//! The engine's end of a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::FrameBuffer;
use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;

/// How far the sink is durable, and the server may forget. 0 while starting: nothing is confirmed yet.
#[derive(Debug, Default)]
pub struct ConfirmedLsn(AtomicU64);

impl ConfirmedLsn {
    /// Where it stands.
    pub fn get(&self) -> Lsn {
        Lsn(self.0.load(Ordering::Acquire))
    }

    /// Moves it forward; a lower position changes nothing.
    pub fn advance(&self, lsn: Lsn) {
        self.0.fetch_max(lsn.0, Ordering::AcqRel);
    }
}

/// What comes out of the stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// Frames, in order.
    Frames(FrameBuffer),
    /// The stream is over; nothing follows.
    Ended(Error),
}

/// The engine's end of a running stream. Dropping it stops the stream too, without
/// waiting for the end.
pub struct StreamHandle {
    /// Frames as they come; at most four buffers wait here.
    pub events: Receiver<StreamEvent>,
    pub(super) empty: Sender<FrameBuffer>,
    pub(super) confirmed: Arc<ConfirmedLsn>,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) thread: Option<JoinHandle<Result<()>>>,
}

impl StreamHandle {
    /// Gives a buffer back for reuse.
    pub fn recycle(&self, buffer: FrameBuffer) {
        // A full queue means that the thread has enough of them.
        drop(self.empty.try_send(buffer));
    }

    /// Everything before `lsn` is durable: the server may forget it. It hears of it within 100 ms.
    pub fn confirm(&self, lsn: Lsn) {
        self.confirmed.advance(lsn);
    }

    /// The position to share with who confirms.
    pub fn confirmed(&self) -> Arc<ConfirmedLsn> {
        Arc::clone(&self.confirmed)
    }

    /// Sends the confirmed position a last time, ends the stream and waits until the server has taken note.
    ///
    /// Errors: the stream had ended before, or the server did not answer; then the last position may be unconfirmed,
    /// and what lies behind the one before comes again.
    pub fn stop(mut self) -> Result<()> {
        self.stopping.store(true, Ordering::Release);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(outcome)) => outcome,
            _ => Err(Error::definite(Code::Internal, "the stream's thread died")),
        }
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_confirmed_position_never_moves_back() {
        let confirmed = ConfirmedLsn::default();
        confirmed.advance(Lsn(9));
        confirmed.advance(Lsn(4));
        assert_eq!(confirmed.get(), Lsn(9));
    }
}
