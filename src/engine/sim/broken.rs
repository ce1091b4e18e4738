//! Servers that lost a part of their history, and slots that were moved: each is found before anything is published.

use std::collections::BTreeMap;

use super::database::Database;
use super::shell::{Daemon, Defect};
use crate::error::Code;
use crate::identity::tests::Rng;
use crate::lsn::Lsn;
use crate::postgres::slot::Fork;
use crate::state::PositionEntry;

/// What befell the server while the daemon was down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// Set back to before its anchor or witness by its storage, and its log has grown past the checkpoint since.
    Restored,
    /// Set back, and its log still ends before the checkpoint.
    RestoredShort,
    /// A standby that lacked the end was promoted, and its log has grown past the checkpoint since.
    LaggingStandby,
    /// `pg_replication_slot_advance`, or dropped and made anew.
    MovedSlot,
    /// The same, and only the anchor is there to tell.
    MovedSlotUnseen,
}

/// Lets the log grow past this place.
fn grow(rng: &mut Rng, db: &mut Database, past: Lsn) {
    while db.insert_lsn() <= past {
        db.work(rng);
        if rng.chance(10) {
            db.heartbeat(rng);
        }
    }
}

/// A place in the log from `least` on, and before `end`.
fn between(rng: &mut Rng, least: Lsn, end: Lsn) -> Lsn {
    Lsn(least.0 + rng.next() % (end.0 - least.0))
}

fn break_it(rng: &mut Rng, daemon: &mut Daemon, position: &PositionEntry, what: Break) {
    let reach = position.reach();
    daemon.broken = true;
    // The slot is where the anchor needs it: that is how a restored one, or one that is copied to the standby, looks.
    let slot = Lsn(position.ack.0.min(reach.0));
    match what {
        Break::Restored => {
            let anchor = position.anchor.as_ref().map_or(Lsn(0), |anchor| anchor.lsn);
            let last = position.witness.map_or(anchor, |witness| witness.commit_lsn.max(anchor));
            let end = between(rng, slot, Lsn(last.0 + 1));
            daemon.db.set_back(end);
            daemon.move_slot(slot);
            grow(rng, &mut daemon.db, reach);
        }
        Break::RestoredShort => {
            daemon.db.set_back(slot);
            daemon.move_slot(slot);
        }
        Break::LaggingStandby => {
            let fork = between(rng, slot, reach);
            daemon.db.set_back(fork);
            daemon.move_slot(slot);
            daemon.forks.push(Fork { timeline: daemon.timeline, lsn: fork });
            daemon.timeline += 1;
            grow(rng, &mut daemon.db, reach);
        }
        Break::MovedSlot | Break::MovedSlotUnseen => {
            grow(rng, &mut daemon.db, reach);
            let at = daemon.db.insert_lsn();
            daemon.move_slot(at);
            daemon.blind = what == Break::MovedSlotUnseen;
        }
    }
}

/// The code with which the daemon stopped; nothing if there was no anchor yet.
fn found(seed: u64, what: Break) -> Option<Code> {
    let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9).wrapping_add(5));
    let rng = &mut rng;
    let mut daemon = super::daemon(rng, Defect::None);
    daemon.open(rng);
    for _ in 0..rng.between(60, 300) {
        match rng.chance(30) {
            true => daemon.db.work(rng),
            false => daemon.step(rng),
        }
        if daemon.stopped.is_some() {
            return None;
        }
    }
    match rng.chance(50) {
        true => daemon.crash(rng),
        false => daemon.stop(),
    }
    let position = daemon.position().filter(|position| position.anchor.is_some())?;
    break_it(rng, &mut daemon, &position, what);
    daemon.open(rng);
    for _ in 0..5_000 {
        if let Some(error) = &daemon.stopped {
            return Some(error.code());
        }
        match rng.chance(20) {
            true => daemon.db.work(rng),
            false => daemon.step(rng),
        }
    }
    panic!("GIMBAL_SEED={seed}: {what:?} is not found");
}

#[test]
fn every_broken_history_is_found_before_anything_is_published() {
    for (what, code) in [
        (Break::Restored, Code::AnchorMissing),
        (Break::RestoredShort, Code::ServerBehind),
        (Break::LaggingStandby, Code::TimelineDiverged),
        (Break::MovedSlot, Code::SlotMoved),
        (Break::MovedSlotUnseen, Code::AnchorMissing),
    ] {
        let seeds = super::number("GIMBAL_SEED").map_or(0..60, |seed| seed..seed + 1);
        let mut codes: BTreeMap<Code, usize> = BTreeMap::new();
        for code in seeds.filter_map(|seed| found(seed, what)) {
            *codes.entry(code).or_default() += 1;
        }
        println!("{what:?}: {codes:?}");
        assert!(super::number("GIMBAL_SEED").is_some() || codes.values().sum::<usize>() > 20, "{what:?}: {codes:?}");
        assert!(codes.keys().all(|found| *found == code), "{what:?}: {codes:?}");
    }
}
