//! When the daemon dies: a list of moments, all chosen by one seed.

use std::fmt;

use fastrand::Rng;
use gimbal::killpoint::Point;

use super::project::Sink;

/// How a round ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kill {
    /// By itself, when it passes a point for the n-th time.
    Point(Point, u64),
    /// By SIGKILL from outside, once it has published this many records.
    Records(u64),
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kill::Point(point, count) => write!(f, "{}:{count}", point.name()),
            Kill::Records(count) => write!(f, "SIGKILL after {count} records"),
        }
    }
}

/// What happens in a round before the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// Another table joins.
    AddTable,
    /// One transaction inserts this many rows: more than fit into one commit by their number, or by their bytes.
    Huge {
        large_rows: bool,
        rows: u32,
    },
}

/// One life of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub before: Before,
    /// While a snapshot is under way.
    pub snapshot: Kill,
    /// When all tables are live.
    pub streaming: Kill,
}

/// Every so many rounds one begins with a huge transaction.
const HUGE_EVERY: usize = 12;

/// The chosen lives of a run.
pub fn plan(seed: u64, kills: usize, sink: &Sink) -> Vec<Round> {
    let mut chooser = Chooser { rng: Rng::with_seed(seed), kafka: matches!(sink, Sink::Kafka { .. }) };
    let mut rounds = chooser.activation(kills);
    let rest = kills.saturating_sub(rounds.len());
    // A snapshot first, then streaming with huge transactions, then the same again for a table that joins late.
    let (first, second) = (rest / 4, rest * 5 / 8);
    let mut huge = 0;
    for number in 0..rest {
        let before = match number {
            _ if number == second => Before::AddTable,
            _ if number >= first && (number - first) % HUGE_EVERY == 0 => chooser.huge((number - first) / HUGE_EVERY),
            _ => Before::Nothing,
        };
        // First with a part of it published; then again in what is left, or in all of it.
        let streaming = match before {
            Before::Huge { .. } => Kill::Point(Point::PartCommitted, 1),
            _ if huge > 0 => chooser.inside(huge),
            _ => chooser.streaming(),
        };
        huge = if let Before::Huge { rows, .. } = before { rows } else { 0 };
        rounds.push(Round { before, snapshot: chooser.snapshot(), streaming });
    }
    rounds
}

struct Chooser {
    rng: Rng,
    kafka: bool,
}

impl Chooser {
    /// The first start, broken off at each of its steps. The last one ends it.
    fn activation(&mut self, kills: usize) -> Vec<Round> {
        use Point::{CreatingCommitted, FileReplaced, FileReplacing, KafkaCommitted, KafkaDrained, KafkaTakenOver};
        use Point::{SlotCreated, StartCommitted, StartCommitting, TopicsDeclared};
        let mut points = vec![(CreatingCommitted, 1), (SlotCreated, 1), (TopicsDeclared, 1), (StartCommitting, 1)];
        if self.kafka {
            points.extend([(KafkaTakenOver, 1), (KafkaDrained, 2), (KafkaCommitted, 1)]);
        } else {
            points.extend([(FileReplacing, 1), (FileReplaced, 1), (FileReplacing, 2)]);
        }
        self.rng.shuffle(&mut points);
        points.truncate(kills / 5);
        points.push((StartCommitted, 1));
        let kills = points.into_iter().map(|(point, count)| Kill::Point(point, count));
        let round = |kill: Kill| Round { before: Before::Nothing, snapshot: kill.clone(), streaming: kill };
        kills.map(round).collect()
    }

    fn huge(&mut self, number: usize) -> Before {
        let large_rows = number % 2 == 1;
        let rows = self.rng.u32(if large_rows { 4_000..5_000 } else { 21_000..26_000 });
        Before::Huge { large_rows, rows }
    }

    fn snapshot(&mut self) -> Kill {
        match self.rng.u32(0..8) {
            0 | 1 => Kill::Point(Point::ChunkOpened, self.rng.u64(1..8)),
            2 | 3 => Kill::Point(Point::ChunkRead, self.rng.u64(1..8)),
            4 => Kill::Records(self.rng.u64(1..4000)),
            _ => self.commit(4),
        }
    }

    fn streaming(&mut self) -> Kill {
        match self.rng.u32(0..8) {
            0 => Kill::Records(self.rng.u64(1..300)),
            1 | 2 => Kill::Point(Point::MessageTaken, self.rng.u64(1..2000)),
            3 if self.kafka => Kill::Point(Point::KafkaSent, self.rng.u64(1..500)),
            _ => self.commit(12),
        }
    }

    /// While a huge transaction passes by.
    fn inside(&mut self, rows: u32) -> Kill {
        let within = u64::from(self.rng.u32(100..rows * 5 / 4));
        match self.rng.u32(0..4) {
            0 if self.kafka => Kill::Point(Point::KafkaSent, within),
            0 => Kill::Records(within),
            1 => self.commit(4),
            _ => Kill::Point(Point::MessageTaken, within),
        }
    }

    /// Around a commit: the n-th one, with n below `most`.
    fn commit(&mut self, most: u64) -> Kill {
        use Point::{BatchSealed, CommitBegin, CommitEnd, Confirmed, Confirming};
        use Point::{FileReplaced, FileReplacing, FilesSynced, FilesWritten};
        use Point::{KafkaCommitted, KafkaDrained, KafkaProduced, KafkaTakenOver, SlotTaken, TopicsDeclared};
        let own = if self.kafka {
            [KafkaProduced, KafkaDrained, KafkaCommitted, KafkaCommitted]
        } else {
            [FilesWritten, FilesSynced, FileReplacing, FileReplaced]
        };
        let count = self.rng.u64(1..most);
        match self.rng.usize(0..16) {
            0 => Kill::Point(BatchSealed, count),
            1 => Kill::Point(CommitBegin, count),
            2 => Kill::Point(CommitEnd, count),
            3 => Kill::Point(Confirming, count),
            4 => Kill::Point(Confirmed, count),
            // A restart that does not get far passes these once.
            5 if self.kafka => Kill::Point(KafkaTakenOver, 1),
            5 => Kill::Point(SlotTaken, 1),
            6 => Kill::Point(TopicsDeclared, 1),
            number => Kill::Point(own[number % 4], count),
        }
    }
}
