//! Directs the show: sets the stage, lets the shop live, migrates it in the middle of the day, and compares at the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use gimbal::daemon::status::Status;

use crate::Result;
use crate::amount::grouped;
use crate::dashboard::Dashboard;
use crate::ending::{Ending, NaiveFigures};
use crate::load;
use crate::process::Running;
use crate::screen::Screen;
use crate::shop::Shop;
use crate::stage::{Sink, Stage};
use crate::verify;

const MIGRATION: &str = include_str!("../../demo/migration.sql");

/// Options of `demo play`.
#[derive(Args)]
pub struct Options {
    /// Where the pipeline publishes to
    #[arg(long, value_enum, default_value = "files")]
    sink: Sink,
    /// A small shop and a short day
    #[arg(long)]
    quick: bool,
    /// Seed of the traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The program, if it does not lie beside this example
    #[arg(long)]
    gimbal: Option<PathBuf>,
}

/// How long the parts of the show are.
struct Pace {
    scale: f64,
    rate: &'static str,
    /// Of live traffic before the migration, and after it.
    before: Duration,
    after: Duration,
}

const FULL: Pace = Pace { scale: 1.0, rate: "500", before: Duration::from_secs(18), after: Duration::from_secs(22) };
const QUICK: Pace = Pace { scale: 0.02, rate: "300", before: Duration::from_secs(5), after: Duration::from_secs(5) };

/// Longest time until all that was loaded is in the topics.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(120);
/// Time between two questions about the daemon's status.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// Longest time until topics and production are level, once nothing is written any more.
const LEVEL_PATIENCE: Duration = Duration::from_secs(30);
/// Longest time for a part to end by itself.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// Runs `demo play`. Fails if any check failed.
pub fn run(options: &Options) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, interrupted.clone())?;
    signal_hook::flag::register(signal_hook::consts::SIGTERM, interrupted.clone())?;
    let pace = if options.quick { QUICK } else { FULL };

    let mut screen = Screen::open();
    screen.tell(match options.sink {
        Sink::Files => "starting a private PostgreSQL; the topics will be files",
        Sink::Kafka => "starting a private PostgreSQL, a Kafka and a schema registry",
    })?;
    let stage = Stage::set(options.sink, options.gimbal.clone())?;
    let shop = Shop::connect(&stage.source)?;
    screen.tell("loading the legacy shop")?;
    load::load(&shop, pace.scale)?;
    screen.tell(&format!(
        "loaded: {} customers, {} orders with {} lines",
        count(&shop, "shop.cst")?,
        count(&shop, "shop.orders")?,
        count(&shop, "shop.ord_ln")?
    ))?;

    let show = Show::begin(&stage, shop, screen, interrupted, options.seed, &pace)?;
    let ending = show.play(&pace)?;
    stage.strike()?;
    ending.print(options.sink)
}

fn count(shop: &Shop, table: &str) -> Result<String> {
    Ok(grouped(shop.number(&format!("SELECT count(*) FROM {table}"))?.unsigned_abs()))
}

/// Everybody on the stage.
struct Show<'a> {
    stage: &'a Stage,
    shop: Shop,
    screen: Screen,
    interrupted: Arc<AtomicBool>,
    dashboard: Dashboard,
    daemon: Running,
    naive: Running,
    traffic: Running,
    /// Orders up to this one were loaded; later ones are sales of the day.
    loaded_orders: i64,
    /// True once all that was loaded is in the topics.
    live: bool,
    worst_freshness: f64,
}

impl<'a> Show<'a> {
    fn begin(
        stage: &'a Stage,
        shop: Shop,
        mut screen: Screen,
        interrupted: Arc<AtomicBool>,
        seed: u64,
        pace: &Pace,
    ) -> Result<Show<'a>> {
        stage.gimbal(&["check"])?;
        stage.gimbal(&["install", "--admin", &stage.source])?;
        screen.tell("gimbal check is clean, gimbal install has set up role and publication")?;
        let naive = stage.start_part("naive", &[])?;
        naive.await_line("ready", END_PATIENCE)?;
        let loaded_orders = shop.number("SELECT max(ord_id) FROM shop.orders")?;
        let daemon = stage.start_daemon()?;
        let traffic = stage.start_part("traffic", &["--seed", &seed.to_string(), "--rate", pace.rate])?;
        screen.tell("gimbal run; the shop is open; a naive reader of the raw stream runs beside")?;
        let dashboard = Dashboard::new(stage.place.clone());
        Ok(Show {
            stage,
            shop,
            screen,
            interrupted,
            dashboard,
            daemon,
            naive,
            traffic,
            loaded_orders,
            live: false,
            worst_freshness: 0.0,
        })
    }

    fn play(mut self, pace: &Pace) -> Result<Ending> {
        let deadline = Instant::now() + SNAPSHOT_PATIENCE;
        // Until it listens, the daemon cannot say.
        while !status(self.stage).is_ok_and(|status| all_live(&status)) {
            self.watch(STATUS_PAUSE)?;
            if Instant::now() >= deadline {
                return Err("the topics did not get all that was loaded".into());
            }
        }
        self.screen.tell("the subscriber has caught up with fifteen years of shop; live from here on")?;
        self.live = true;
        self.watch(pace.before)?;

        self.shop.batch(&format!("SET lock_timeout = '5s'; {MIGRATION}"))?;
        self.screen.tell("PRODUCTION: renamed shop.orders.ttl_amt to total_amount, added sales_channel")?;
        self.watch(pace.after)?;
        self.end()
    }

    /// Shows the dashboard for a while. Fails if anybody has left the stage.
    fn watch(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.dashboard.watch()?;
            self.screen.show(&self.dashboard.figures())?;
            while let Some(line) = self.naive.line() {
                if let Some(what) = line.strip_prefix("blind ") {
                    self.screen.tell(&format!("NAIVE READER: {what}"))?;
                }
            }
            while let Some(line) = self.traffic.line() {
                self.screen.tell(&format!("shop: {line}"))?;
            }
            for part in [&mut self.daemon, &mut self.naive, &mut self.traffic] {
                part.check()?;
            }
            if self.interrupted.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            if self.live {
                self.worst_freshness = self.worst_freshness.max(self.dashboard.freshness().unwrap_or(f64::MAX));
            }
        }
        Ok(())
    }

    /// The shop closes. What it wrote last has to arrive, and then the topics must say what production says.
    fn end(self) -> Result<Ending> {
        let Show { stage, shop, mut screen, mut dashboard, mut daemon, naive, traffic, .. } = self;
        for line in traffic.release(END_PATIENCE)? {
            screen.tell(&format!("shop: {line}"))?;
        }
        let naive = NaiveFigures::of(&naive.release(END_PATIENCE)?)?;
        let deadline = Instant::now() + LEVEL_PATIENCE;
        loop {
            dashboard.watch()?;
            screen.show(&dashboard.figures())?;
            daemon.check()?;
            let level = verify::compare(&dashboard.fold, &shop)?.iter().all(|check| check.passed);
            if level || Instant::now() >= deadline {
                break;
            }
        }
        let follows = follows(&status(stage)?);
        daemon.terminate(END_PATIENCE)?;
        // What came late would show now.
        dashboard.catch_up()?;
        Ok(Ending {
            checks: verify::compare(&dashboard.fold, &shop)?,
            production: verify::total_after(&shop, self.loaded_orders)?,
            subscriber: dashboard.fold.total_after(self.loaded_orders),
            read: dashboard.read(),
            unreadable: dashboard.fold.unreadable,
            worst_freshness: self.worst_freshness,
            follows,
            naive,
            took: screen.close()?,
        })
    }
}

/// What the daemon says of itself.
fn status(stage: &Stage) -> Result<Status> {
    Ok(serde_json::from_str(&stage.gimbal(&["status", "--format", "json"])?)?)
}

/// Whether every contract has all that was loaded.
fn all_live(status: &Status) -> bool {
    !status.contracts.is_empty() && status.contracts.iter().all(|contract| contract.state == "live")
}

/// What the daemon says about the renamed column.
fn follows(status: &Status) -> Option<String> {
    let orders = status.contracts.iter().find(|contract| contract.contract == "orders")?;
    let follows = orders.follows.first()?;
    Some(format!("`{}` of the contract follows `{}` to `{}`", follows.field, follows.from, follows.now))
}
