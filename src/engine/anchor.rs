//! The anchor: the last heartbeat of the checkpoint must pass by again before anything new is taken from the stream.
//!
//! ```text
//!  log:  … commit ─ commit ─ heartbeat ─ commit ─ commit ─ …
//!               ack ┘           └ anchor      └ X, the checkpoint's position
//! ```
//!
//! No more than `ack` is ever acknowledged, so a server that still has the history that was published sends the anchor
//! again. One that was restored, a standby that was promoted too early, a slot that was moved or made anew: each lets
//! another transaction come first, even where all positions look right.
//!
//! Between the anchor and X the witness stands for the rest: the last transaction with row events that count. Without it a
//! server that was set back to the seconds in between would show the anchor, and what it commits below X would be skipped.

use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;
use crate::pgoutput::Logical;
use crate::state::{Anchor, PositionEntry, Witness};

/// What to do when the server does not have the history that was published.
pub const ADOPT_HINT: &str = "make sure that the config names the right server; if it is to be this one from now on, run \
     `gimbal adopt`: it begins a new epoch and lets every table be copied again";

/// Waits for the anchor of a checkpoint, and for its witness.
#[derive(Clone, Debug)]
pub struct AnchorWatch {
    anchor: Option<Anchor>,
    witness: Option<Witness>,
    /// The last transaction of the checkpoint, and whether all of it was delivered.
    commit_lsn: Lsn,
    complete: bool,
}

impl AnchorWatch {
    /// A watch for this checkpoint. At a first start, which has neither anchor nor witness, it waits for nothing.
    pub fn new(position: &PositionEntry) -> AnchorWatch {
        AnchorWatch {
            anchor: position.anchor.clone(),
            witness: position.witness,
            commit_lsn: position.commit_lsn,
            complete: position.complete,
        }
    }

    /// True until both have passed by.
    pub fn waits(&self) -> bool {
        self.anchor.is_some() || self.witness.is_some()
    }

    /// Takes a Begin. Errors: a transaction that the checkpoint does not contain comes before anchor and witness.
    pub fn begin(&mut self, commit_lsn: Lsn, timestamp: i64) -> Result<()> {
        self.witness.take_if(|witness| *witness == Witness { commit_lsn, timestamp });
        if commit_lsn < self.commit_lsn || (commit_lsn == self.commit_lsn && self.complete) {
            return Ok(());
        }
        let known = match (&self.anchor, &self.witness) {
            (Some(anchor), _) => format!("a heartbeat at {}", anchor.lsn),
            (None, Some(witness)) => format!("a transaction at {}", witness.commit_lsn),
            (None, None) => return Ok(()),
        };
        Err(Error::definite(
            Code::AnchorMissing,
            format!("the checkpoint knows {known}, the server goes on with a transaction at {commit_lsn} without it"),
        )
        .hint(ADOPT_HINT))
    }

    /// Takes one of gimbal's own messages.
    pub fn heartbeat(&mut self, message: &Logical<'_>) {
        let same = |anchor: &mut Anchor| anchor.lsn == message.lsn && anchor.nonce.as_bytes() == message.content;
        self.anchor.take_if(same);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Phase;

    fn watch(complete: bool) -> AnchorWatch {
        AnchorWatch::new(&PositionEntry {
            seq: 1,
            phase: Phase::Started,
            epoch: 0,
            system_id: 1,
            timeline: 1,
            commit_lsn: Lsn(0x300),
            next_ordinal: 0,
            complete,
            end_lsn: Lsn(0x308),
            anchor: Some(Anchor { lsn: Lsn(0x200), nonce: "n".into() }),
            ack: Lsn(0x100),
            witness: Some(Witness { commit_lsn: Lsn(0x280), timestamp: 5 }),
        })
    }

    fn message(lsn: u64, content: &[u8]) -> Logical<'_> {
        Logical { transactional: true, lsn: Lsn(lsn), prefix: crate::engine::HEARTBEAT_PREFIX, content }
    }

    #[test]
    fn only_the_same_place_and_nonce_are_the_anchor() {
        let mut watch = watch(true);
        watch.begin(Lsn(0x280), 5).unwrap();
        for (lsn, nonce) in [(0x200, "m"), (0x201, "n")] {
            watch.heartbeat(&message(lsn, nonce.as_bytes()));
            assert!(watch.waits(), "{lsn} {nonce}");
        }
        assert!(watch.begin(Lsn(0x200), 1).is_ok() && watch.begin(Lsn(0x300), 6).is_ok());
        let error = watch.begin(Lsn(0x301), 7).unwrap_err();
        assert_eq!(error.code(), Code::AnchorMissing);
        assert!(error.to_string().contains("0/200") && error.to_string().contains("0/301"), "{error}");
        watch.heartbeat(&message(0x200, b"n"));
        assert!(!watch.waits() && watch.begin(Lsn(0x301), 7).is_ok());
    }

    #[test]
    fn only_the_same_place_and_instant_are_the_witness() {
        let mut watch = watch(true);
        watch.heartbeat(&message(0x200, b"n"));
        for (lsn, timestamp) in [(0x280, 4), (0x278, 5), (0x300, 6)] {
            watch.begin(Lsn(lsn), timestamp).unwrap();
        }
        let error = watch.begin(Lsn(0x400), 7).unwrap_err();
        assert!(error.code() == Code::AnchorMissing && error.to_string().contains("0/280"), "{error}");
        watch.begin(Lsn(0x280), 5).unwrap();
        assert!(!watch.waits() && watch.begin(Lsn(0x400), 7).is_ok());
    }

    #[test]
    fn the_rest_of_a_half_published_transaction_comes_after_the_anchor() {
        let mut watch = watch(false);
        watch.begin(Lsn(0x280), 5).unwrap();
        assert!(watch.begin(Lsn(0x300), 6).is_err());
        watch.heartbeat(&message(0x200, b"n"));
        assert!(watch.begin(Lsn(0x300), 6).is_ok());
    }
}
