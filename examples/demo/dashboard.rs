//! The subscriber: folds topics, and knows how fresh they are. It has never heard of a table.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use gimbal::batch::Op;

use crate::Result;
use crate::amount::Amount;
use crate::fold::Fold;
use crate::screen::Screen;
use crate::topics::{Place, Topic, Topics};

/// Time between two pictures.
const PICTURE: Duration = Duration::from_millis(250);
/// Pause where a look at the topics found nothing new.
const IDLE: Duration = Duration::from_millis(20);
/// Records of one topic that are read before the next has its turn.
const TURN: usize = 500;
/// A topic from which nothing came for so long is read to its end.
const QUIET: Duration = Duration::from_secs(1);
/// Time that one bar of the sales stands for.
const BAR: Duration = Duration::from_secs(2);
/// Bars that are kept.
const BARS_MAX: usize = 60;
/// Records per second are an average over this many pictures.
const RATE_PICTURES: usize = 12;

/// Options of `demo dashboard`.
#[derive(Args)]
pub struct Options {
    /// The config of the pipeline, which says where its topics are
    #[arg(long, default_value = "gimbal.yaml")]
    config: PathBuf,
}

/// Runs `demo dashboard`, until Ctrl-C.
pub fn run(options: &Options) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, stop.clone())?;
    signal_hook::flag::register(signal_hook::consts::SIGTERM, stop.clone())?;
    let mut dashboard = Dashboard::new(Place::of_config(&options.config)?);
    let mut screen = Screen::open();
    while !stop.load(Ordering::Relaxed) {
        dashboard.watch()?;
        screen.show(&dashboard.figures())?;
    }
    screen.close()?;
    Ok(())
}

/// The fold with its clock.
pub struct Dashboard {
    place: Place,
    topics: Option<Topics>,
    /// What the topics say.
    pub fold: Fold,
    read: u64,
    newest: Option<i64>,
    pictures: VecDeque<(Instant, u64)>,
    bars: Bars,
}

/// What a picture shows.
pub struct Figures {
    /// Now minus the newest commit time, in seconds.
    pub freshness: Option<f64>,
    /// Records read per second, lately.
    pub per_second: u64,
    /// Records read in all.
    pub read: u64,
    /// Orders there are.
    pub orders: u64,
    /// Sales there are.
    pub sales: Amount,
    /// Largest first.
    pub categories: Vec<Series>,
    /// Largest first.
    pub regions: Vec<Series>,
}

/// One line of sales.
pub struct Series {
    /// Of the category or region.
    pub name: String,
    /// In all.
    pub amount: Amount,
    /// New sales by bar, newest last.
    pub bars: Vec<Amount>,
}

impl Dashboard {
    /// A dashboard over topics that need not exist yet.
    pub fn new(place: Place) -> Dashboard {
        Dashboard {
            place,
            topics: None,
            fold: Fold::default(),
            read: 0,
            newest: None,
            pictures: VecDeque::new(),
            bars: Bars::default(),
        }
    }

    /// Reads what comes in the time of one picture.
    pub fn watch(&mut self) -> Result<()> {
        let end = Instant::now() + PICTURE;
        while Instant::now() < end {
            if self.read_turn()? == 0 {
                thread::sleep(IDLE);
            }
        }
        self.pictures.push_back((Instant::now(), self.read));
        if self.pictures.len() > RATE_PICTURES {
            self.pictures.pop_front();
        }
        Ok(())
    }

    /// Reads until nothing has come for a second.
    pub fn catch_up(&mut self) -> Result<()> {
        let mut quiet = Instant::now();
        while quiet.elapsed() < QUIET {
            match self.read_turn()? {
                0 => thread::sleep(IDLE),
                _ => quiet = Instant::now(),
            }
        }
        Ok(())
    }

    fn read_turn(&mut self) -> Result<usize> {
        if self.topics.is_none() {
            self.topics = Topics::open(&self.place)?;
        }
        let Some(topics) = &mut self.topics else { return Ok(0) };
        let (fold, newest, bars) = (&mut self.fold, &mut self.newest, &mut self.bars);
        let count = topics.read(TURN, |record| {
            *newest = (*newest).max(Some(record.timestamp));
            bars.loading |= record.op == Op::Read;
            fold.take(&record);
        })?;
        self.read += count as u64;
        Ok(count)
    }

    /// Records read so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Now minus the newest commit time, in seconds.
    pub fn freshness(&self) -> Option<f64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros();
        Some((i64::try_from(now).ok()? - self.newest?).max(0) as f64 / 1e6)
    }

    /// What there is to show now.
    pub fn figures(&mut self) -> Figures {
        let sales = self.fold.sales();
        let (mut categories, mut regions) = (BTreeMap::new(), BTreeMap::new());
        for ((category, region), amount) in &sales {
            *categories.entry(category.clone()).or_insert(Amount::default()) += *amount;
            *regions.entry(region.clone()).or_insert(Amount::default()) += *amount;
        }
        self.bars.look(&categories, &regions);
        Figures {
            freshness: self.freshness(),
            per_second: self.per_second(),
            read: self.read,
            orders: self.fold.count(Topic::Orders),
            sales: sales.values().copied().sum(),
            categories: self.bars.series(categories),
            regions: self.bars.series(regions),
        }
    }

    fn per_second(&self) -> u64 {
        let (Some((from, before)), Some((to, after))) = (self.pictures.front(), self.pictures.back()) else { return 0 };
        let seconds = (*to - *from).as_secs_f64();
        if seconds > 0.0 { ((after - before) as f64 / seconds) as u64 } else { 0 }
    }
}

/// Sales over time: what each name gained while one bar lasted.
#[derive(Default)]
struct Bars {
    /// True if rows of the past came while this bar lasted: they are no sales of now.
    loading: bool,
    since: Option<Instant>,
    before: BTreeMap<String, Amount>,
    gains: VecDeque<BTreeMap<String, Amount>>,
}

impl Bars {
    fn look(&mut self, categories: &BTreeMap<String, Amount>, regions: &BTreeMap<String, Amount>) {
        if self.since.is_some_and(|since| since.elapsed() < BAR) {
            return;
        }
        let now: BTreeMap<String, Amount> =
            categories.iter().chain(regions).map(|(name, amount)| (name.clone(), *amount)).collect();
        if !std::mem::take(&mut self.loading) && self.since.is_some() {
            let gain = |name: &String, amount: &Amount| *amount - self.before.get(name).copied().unwrap_or_default();
            self.gains.push_back(now.iter().map(|(name, amount)| (name.clone(), gain(name, amount))).collect());
        }
        if self.gains.len() > BARS_MAX {
            self.gains.pop_front();
        }
        self.before = now;
        self.since = Some(Instant::now());
    }

    fn series(&self, sums: BTreeMap<String, Amount>) -> Vec<Series> {
        let of = |name: &String| self.gains.iter().map(|gain| gain.get(name).copied().unwrap_or_default()).collect();
        let mut series: Vec<Series> =
            sums.into_iter().map(|(name, amount)| Series { bars: of(&name), name, amount }).collect();
        series.sort_by_key(|one| std::cmp::Reverse(one.amount));
        series
    }
}
