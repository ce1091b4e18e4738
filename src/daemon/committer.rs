//! The sink's own thread: takes a sealed batch, makes it durable, gives it back for reuse.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::batch::{Batch, Op};
use crate::error::{Code, Error, Result};
use crate::killpoint::{self, Point};
use crate::sink::Sink;

/// A batch that was committed, or not.
pub struct Committed {
    /// Emptied if it was.
    pub batch: Batch,
    /// How it ended.
    pub result: Result<()>,
    /// How long the commit took.
    pub took: Duration,
    /// Commit time of the newest streamed record in it, microseconds since 1970.
    pub newest: Option<i64>,
}

/// Hands batches to the sink's thread, one at a time.
pub struct Committer {
    to_sink: Option<Sender<Batch>>,
    /// Gives each batch back.
    pub done: Receiver<Committed>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Moves the sink to a thread of its own.
    pub fn spawn(mut sink: Box<dyn Sink>) -> Result<Committer> {
        let (to_sink, batches) = bounded::<Batch>(1);
        let (results, done) = bounded(1);
        let run = move || {
            for mut batch in batches {
                let begin = Instant::now();
                let streamed = batch.records.iter().rev().find(|record| record.op != Op::Read);
                let newest = streamed.map(|record| record.timestamp);
                killpoint::pass(Point::CommitBegin);
                let result = sink.commit(&batch);
                killpoint::pass(Point::CommitEnd);
                if result.is_ok() {
                    batch.clear();
                }
                if results.send(Committed { batch, result, took: begin.elapsed(), newest }).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("sink".into())
            .spawn(run)
            .map_err(|e| Error::definite(Code::Io, format!("no thread for the sink: {e}")))?;
        Ok(Committer { to_sink: Some(to_sink), done, thread: Some(thread) })
    }

    /// Gives a sealed batch to the sink. Only one may be under way.
    pub fn send(&self, batch: Batch) -> Result<()> {
        let sent = self.to_sink.as_ref().map(|to_sink| to_sink.send(batch));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(Error::definite(Code::Internal, "the sink's thread has ended")),
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.to_sink = None;
        if let Some(thread) = self.thread.take() {
            // A commit under way is finished first; the sink and its lock go with the thread.
            while self.done.recv().is_ok() {}
            let _ = thread.join();
        }
    }
}
