//! Transactions: what of each is published already, and what is known once it ends.

use crate::batch::Batch;
use crate::engine::delivered::Touched;
use crate::engine::{ADOPT_HINT, Engine, HEARTBEAT_PREFIX, Request, Step};
use crate::error::{Code, Error, Result};
use crate::lsn::{Lsn, Xid, widen};
use crate::pgoutput::{Begin, Logical};
use crate::state::{Anchor, Witness};

/// What of a transaction was published before the restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    Nothing,
    /// Row events with a smaller ordinal.
    Below(u32),
    All,
}

/// The transaction that is being delivered.
#[derive(Debug)]
pub struct Transaction {
    /// Start of its commit record.
    pub commit_lsn: Lsn,
    /// Its id, widened.
    pub xid: Xid,
    /// As Begin carries it.
    pub xid_short: u32,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
    /// Index of its newest record in the current batch.
    pub last_record: Option<usize>,
    pub(super) skip: Skip,
    pub(super) ordinal: u32,
    pub(super) touched: Touched,
    heartbeat: Option<Anchor>,
}

impl Engine {
    pub(super) fn begin(&mut self, begin: &Begin, batch: &Batch) -> Result<Step> {
        let Begin { commit_lsn, timestamp, xid } = *begin;
        if self.transaction.is_some() {
            return Err(protocol("a transaction began inside another one"));
        }
        self.anchor.begin(commit_lsn, timestamp)?;
        let wide = widen(xid, self.xid_reference);
        self.xid_reference = self.xid_reference.max(wide);
        let skip = match commit_lsn.cmp(&self.position.commit_lsn) {
            std::cmp::Ordering::Greater => Skip::Nothing,
            std::cmp::Ordering::Equal if !self.position.complete => Skip::Below(self.position.next_ordinal),
            std::cmp::Ordering::Equal | std::cmp::Ordering::Less => Skip::All,
        };
        if skip == Skip::Nothing && !self.position.complete {
            return Err(Error::definite(
                Code::SourceMismatch,
                format!(
                    "the stream goes on at {commit_lsn}, the checkpoint is inside the transaction at {}",
                    self.position.commit_lsn
                ),
            )
            .hint(ADOPT_HINT));
        }
        self.safe = batch.mark();
        self.transaction = Some(Transaction {
            commit_lsn,
            xid: wide,
            xid_short: xid,
            timestamp,
            last_record: None,
            skip,
            ordinal: 0,
            heartbeat: None,
            touched: self.copies.touched(),
        });
        Ok(Step::Done)
    }

    pub(super) fn commit(&mut self, end_lsn: Lsn, batch: &mut Batch, requests: &mut Vec<Request>) -> Result<Step> {
        let Some(transaction) = self.transaction.take() else {
            return Err(protocol("a commit without a begin"));
        };
        self.passed = self.passed.max(end_lsn);
        self.newest = Some(transaction.timestamp);
        if transaction.skip == Skip::All {
            return Ok(Step::Done);
        }
        if let Skip::Below(first) = transaction.skip
            && transaction.ordinal <= first
        {
            return Err(self.shrunk(&transaction, first));
        }
        if let Some(record) = transaction.last_record.and_then(|index| batch.records.get_mut(index)) {
            record.last = true;
        }
        if let Some(anchor) = transaction.heartbeat {
            self.position.ack = self.position.end_lsn;
            self.position.anchor = Some(anchor);
            self.position.witness = None;
        } else if transaction.ordinal > 0 {
            let Transaction { commit_lsn, timestamp, .. } = transaction;
            self.position.witness = Some(Witness { commit_lsn, timestamp });
        }
        self.position.commit_lsn = transaction.commit_lsn;
        self.position.next_ordinal = transaction.ordinal;
        self.position.complete = true;
        self.position.end_lsn = end_lsn;
        self.safe = batch.mark();
        self.copies.deliver(transaction.xid, transaction.touched, requests);
        Ok(Step::Done)
    }

    pub(super) fn logical(&mut self, message: &Logical<'_>) {
        let ours = message.transactional && message.prefix == HEARTBEAT_PREFIX;
        if let (true, Some(transaction)) = (ours, &mut self.transaction) {
            self.anchor.heartbeat(message);
            let nonce = String::from_utf8_lossy(message.content).into_owned();
            transaction.heartbeat = Some(Anchor { lsn: message.lsn, nonce });
        }
    }

    /// The stream shows less of the transaction than was published of it.
    fn shrunk(&self, transaction: &Transaction, first: u32) -> Error {
        Error::definite(
            Code::SourceMismatch,
            format!(
                "the transaction at {} has {} row events of contracted tables, the checkpoint stands before number {first}",
                transaction.commit_lsn, transaction.ordinal
            ),
        )
        .hint("the server was restored, or the publication of a contracted table was changed while a transaction was half published")
    }
}

/// The stream is not what pgoutput promises.
pub(super) fn protocol(what: &str) -> Error {
    Error::definite(Code::SourceProtocol, what).hint("report it: the stream is not what pgoutput promises")
}
