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

use crate::error::{Code, Error, Result};
use crate::lsn::Lsn;
use crate::pgoutput::Logical;
use crate::state::{Anchor, PositionEntry};

/// What to do when the server does not have the history that was published.
pub const ADOPT_HINT: &str = "make sure that the config names the right server; if it is to be this one from now on, run \
     `gimbal adopt`: it begins a new epoch and lets every table be copied again";

/// Waits for the anchor of a checkpoint.
#[derive(Clone, Debug)]
pub struct AnchorWatch {
    awaited: Option<Anchor>,
    /// The last transaction of the checkpoint, and whether all of it was delivered.
    commit_lsn: Lsn,
    complete: bool,
}

impl AnchorWatch {
    /// A watch for the anchor of this checkpoint. One without an anchor (before the first heartbeat) waits for nothing.
    pub fn new(position: &PositionEntry) -> AnchorWatch {
        AnchorWatch { awaited: position.anchor.clone(), commit_lsn: position.commit_lsn, complete: position.complete }
    }

    /// True until the anchor has passed by.
    pub fn waits(&self) -> bool {
        self.awaited.is_some()
    }

    /// Takes a Begin. Errors: a transaction that the checkpoint does not contain comes before the anchor.
    pub fn begin(&self, commit_lsn: Lsn) -> Result<()> {
        let contained = commit_lsn < self.commit_lsn || (commit_lsn == self.commit_lsn && self.complete);
        let Some(anchor) = self.awaited.as_ref().filter(|_| !contained) else { return Ok(()) };
        Err(Error::definite(
            Code::AnchorMissing,
            format!(
                "the checkpoint knows a heartbeat at {}, the server goes on with a transaction at {commit_lsn} without it",
                anchor.lsn
            ),
        )
        .hint(ADOPT_HINT))
    }

    /// Takes one of gimbal's own messages.
    pub fn heartbeat(&mut self, message: &Logical<'_>) {
        let same = |anchor: &mut Anchor| anchor.lsn == message.lsn && anchor.nonce.as_bytes() == message.content;
        self.awaited.take_if(same);
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
        })
    }

    fn message(lsn: u64, content: &[u8]) -> Logical<'_> {
        Logical { transactional: true, lsn: Lsn(lsn), prefix: crate::engine::HEARTBEAT_PREFIX, content }
    }

    #[test]
    fn only_the_same_place_and_nonce_are_the_anchor() {
        let mut watch = watch(true);
        for (lsn, nonce) in [(0x200, "m"), (0x201, "n")] {
            watch.heartbeat(&message(lsn, nonce.as_bytes()));
            assert!(watch.waits(), "{lsn} {nonce}");
        }
        assert!(watch.begin(Lsn(0x200)).is_ok() && watch.begin(Lsn(0x300)).is_ok());
        let error = watch.begin(Lsn(0x301)).unwrap_err();
        assert_eq!(error.code(), Code::AnchorMissing);
        assert!(error.to_string().contains("0/200") && error.to_string().contains("0/301"), "{error}");
        watch.heartbeat(&message(0x200, b"n"));
        assert!(!watch.waits() && watch.begin(Lsn(0x301)).is_ok());
    }

    #[test]
    fn the_rest_of_a_half_published_transaction_comes_after_the_anchor() {
        let mut watch = watch(false);
        assert!(watch.begin(Lsn(0x300)).is_err());
        watch.heartbeat(&message(0x200, b"n"));
        assert!(watch.begin(Lsn(0x300)).is_ok());
    }
}
