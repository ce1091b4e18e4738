//! The shop's application under load: orders, their progress, activity with rushes, price changes, deletes.
//!
//! It is two versions of that application in one: when production's migration takes the old column's name away, the
//! next statement fails, and the new version, which knows the new names, takes over.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use fastrand::Rng;
use tokio_postgres::error::SqlState;

use crate::Result;
use crate::process::{Held, print_line};
use crate::shop::Shop;

mod statements;

use statements::Version;

/// How long one round of writes takes.
const ROUND: Duration = Duration::from_millis(50);
/// A rush starts this often, in rounds, and takes this many.
const RUSH_EVERY: u64 = 240;
const RUSH_ROUNDS: u64 = 60;
/// A rush has this many times the rows of a calm moment, in activity above all.
const RUSH_FACTOR: f64 = 4.0;
/// The round in which the shop opens in one more country.
const NEW_REGION_ROUND: u64 = 160;
/// Orders of this many numbers back are still on their way.
const RECENT_ORDERS: i64 = 3_000;

/// Options of `demo traffic`.
#[derive(Args)]
pub struct Options {
    /// The shop's database
    #[arg(long)]
    source: String,
    /// Seed of the choices; the same seed chooses the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rows a second in a calm moment; a rush has four times as many
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
}

/// Runs `demo traffic`: prints what version of the application is live, and at the end what it wrote.
pub fn run(options: &Options) -> Result<()> {
    let held = Held::watch();
    let mut traffic = Traffic::open(options)?;
    print_line(&format!("version {} of the application is live", traffic.version.number()))?;
    let begin = Instant::now();
    let mut round = 0;
    while held.is_open() {
        // Not more than one round is made up for: a slow machine writes less, and never in one gulp.
        let due = begin + ROUND * u32::try_from(round).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        traffic.round(round)?;
        round += 1;
    }
    print_line(&format!(
        "wrote {} rows, {} new orders among them",
        traffic.rows,
        traffic.next_order - traffic.first_order
    ))?;
    Ok(())
}

struct Traffic {
    shop: Shop,
    rng: Rng,
    rate: f64,
    version: Version,
    first_order: i64,
    next_order: i64,
    next_customer: i64,
    products: i32,
    regions: i32,
    last_activity: i64,
    shelves: i32,
    rows: u64,
}

impl Traffic {
    fn open(options: &Options) -> Result<Traffic> {
        let shop = Shop::connect(&options.source)?;
        shop.batch("SET application_name = 'shop'; SET statement_timeout = '20s'")?;
        let next_order = shop.number("SELECT max(ord_id) + 1 FROM shop.orders")?;
        Ok(Traffic {
            rng: Rng::with_seed(options.seed),
            rate: options.rate,
            version: Version::Old,
            first_order: next_order,
            next_order,
            next_customer: shop.number("SELECT max(cst_id) + 1 FROM shop.cst")?,
            products: i32::try_from(shop.number("SELECT max(prd_id)::bigint FROM shop.prd")?)?,
            regions: i32::try_from(shop.number("SELECT max(rgn_id)::bigint FROM shop.rgn")?)?,
            last_activity: shop.number("SELECT max(act_id) FROM shop.usr_act")?,
            shelves: i32::try_from(shop.number("SELECT max(mstr_id)::bigint FROM shop.misc_mstr")?)?,
            rows: 0,
            shop,
        })
    }

    fn round(&mut self, round: u64) -> Result<()> {
        let rush = round % RUSH_EVERY >= RUSH_EVERY - RUSH_ROUNDS;
        let rows = self.rate * ROUND.as_secs_f64() * (0.7 + 0.6 * self.rng.f64());
        let activity = rows * if rush { RUSH_FACTOR } else { 1.0 };
        let orders = self.part(rows, if rush { 0.16 } else { 0.09 });
        let (steps, events, shelves) = (self.part(rows, 0.22), self.part(activity, 0.4), self.part(rows, 0.05));
        self.new_orders(orders)?;
        self.progress(steps)?;
        self.activity(events)?;
        self.stock(shelves)?;
        match round % 20 {
            3 => self.price()?,
            7 => self.customers()?,
            11 => self.change_of_mind()?,
            15 => self.clean_up()?,
            _ => {}
        }
        if round == NEW_REGION_ROUND {
            self.rows += self.shop.execute(statements::NEW_REGION, &[])?;
            self.regions += 1;
        }
        Ok(())
    }

    /// A share of the rows, rounded up or down by chance so that small shares come true in the long run.
    fn part(&mut self, rows: f64, share: f64) -> usize {
        let wanted = rows * share;
        let more = self.rng.f64() < wanted.fract();
        wanted as usize + usize::from(more)
    }

    /// A number from 1 to `count`, small ones more often.
    fn popular(&mut self, count: i32) -> i32 {
        1 + ((self.rng.f64().powi(2) * f64::from(count)) as i32).min(count - 1)
    }

    fn recent_orders(&mut self, count: usize) -> Vec<i64> {
        let from = (self.next_order - RECENT_ORDERS).max(1);
        (0..count).map(|_| self.rng.i64(from..self.next_order)).collect()
    }

    fn new_orders(&mut self, count: usize) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let (mut orders, mut customers, mut regions, mut payments, mut gifts) =
            (vec![], vec![], vec![], vec![], vec![]);
        let (mut line_orders, mut numbers, mut products, mut quantities) = (vec![], vec![], vec![], vec![]);
        for _ in 0..count {
            orders.push(self.next_order);
            customers.push(self.rng.i64(1..self.next_customer));
            regions.push(self.popular(self.regions));
            payments.push(*self.rng.choice(&statements::PAYMENTS).unwrap_or(&"card"));
            gifts.push(self.rng.u8(..) < 16);
            for number in 1..=self.rng.i16(1..4) {
                line_orders.push(self.next_order);
                numbers.push(number);
                products.push(self.popular(self.products));
                quantities.push(self.rng.i32(1..4));
            }
            self.next_order += 1;
        }
        let lines = line_orders.len() as u64;
        let orders_written = self.versioned(
            statements::new_orders,
            &[&line_orders, &numbers, &products, &quantities, &orders, &customers, &regions, &payments, &gifts],
        )?;
        self.rows += orders_written + lines;
        Ok(())
    }

    /// Runs a statement that names the column which a migration may rename. If it did, the new version takes over.
    fn versioned(&mut self, sql: fn(Version) -> String, parameters: crate::shop::Parameters<'_>) -> Result<u64> {
        match self.shop.execute(&sql(self.version), parameters) {
            Err(error) if self.version == Version::Old && error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
                self.version = Version::New;
                print_line(&format!("version {} of the application is live", self.version.number()))?;
                Ok(self.shop.execute(&sql(self.version), parameters)?)
            }
            outcome => Ok(outcome?),
        }
    }

    fn progress(&mut self, count: usize) -> Result<()> {
        let orders = self.recent_orders(count);
        self.rows += self.shop.execute(statements::PROGRESS, &[&orders])?;
        Ok(())
    }

    fn activity(&mut self, count: usize) -> Result<()> {
        let (mut customers, mut actions, mut products, mut sessions) = (vec![], vec![], vec![], vec![]);
        for _ in 0..count {
            customers.push(self.rng.i64(1..self.next_customer));
            actions.push(*self.rng.choice(&statements::ACTIONS).unwrap_or(&"V"));
            products.push((self.rng.u8(..) > 60).then(|| self.popular(self.products)));
            sessions.push(self.rng.i64(..));
        }
        let rows = self.shop.execute(statements::ACTIVITY, &[&customers, &actions, &products, &sessions])?;
        self.last_activity += rows as i64;
        // Some visits end: how long they took is known only now.
        let ended: Vec<i64> = (0..count / 12).map(|_| self.last_activity - self.rng.i64(0..200)).collect();
        self.rows += rows + self.shop.execute(statements::ACTIVITY_ENDS, &[&ended])?;
        Ok(())
    }

    fn stock(&mut self, count: usize) -> Result<()> {
        let shelves: Vec<i32> = (0..count).map(|_| self.rng.i32(1..=self.shelves)).collect();
        self.rows += self.shop.execute(statements::STOCK, &[&shelves])?;
        Ok(())
    }

    fn price(&mut self) -> Result<()> {
        let product = self.popular(self.products);
        let percent = self.rng.i32(80..125);
        self.rows += self.shop.execute(statements::PRICE, &[&product, &percent])?;
        Ok(())
    }

    fn customers(&mut self) -> Result<()> {
        let region = self.popular(self.regions);
        self.rows += self.shop.execute(statements::NEW_CUSTOMER, &[&self.next_customer, &region])?;
        self.next_customer += 1;
        let other = self.rng.i64(1..self.next_customer);
        self.rows += self.shop.execute(statements::NEWSLETTER, &[&other])?;
        Ok(())
    }

    /// Orders that are cancelled, and orders of which one piece more is wanted.
    fn change_of_mind(&mut self) -> Result<()> {
        let cancelled = self.recent_orders(2);
        self.rows += self.shop.execute(statements::CANCEL, &[&cancelled])?;
        let more = self.recent_orders(1);
        self.rows += 2 * self.versioned(statements::one_piece_more, &[&more])?;
        Ok(())
    }

    /// Old and recent orders that are removed with their lines, and activity that a visitor wants forgotten.
    fn clean_up(&mut self) -> Result<()> {
        let mut orders = self.recent_orders(1);
        orders.push(self.rng.i64(1..self.next_order));
        self.rows += self.shop.execute(statements::PURGE_ORDERS, &[&orders])?;
        let events: Vec<i64> = (0..3).map(|_| self.rng.i64(1..=self.last_activity)).collect();
        self.rows += self.shop.execute(statements::PURGE_ACTIVITY, &[&events])?;
        Ok(())
    }
}
