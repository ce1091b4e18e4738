//! Creates the shop: `demo/shop.sql` and `demo/data.sql` at the repository's root.

use clap::Args;

use crate::Result;
use crate::shop::Shop;

const SCHEMA: &str = include_str!("../../demo/shop.sql");
const DATA: &str = include_str!("../../demo/data.sql");

/// Options of `demo load`.
#[derive(Args)]
pub struct Options {
    /// An empty database, such as postgresql://postgres@127.0.0.1:5432/shop
    #[arg(long)]
    source: String,
    /// How much of it: 1 is 100,000 customers and 200,000 orders
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

/// Runs `demo load`.
pub fn run(options: &Options) -> Result<()> {
    load(&Shop::connect(&options.source)?, options.scale)?;
    Ok(())
}

/// Creates and fills the shop.
pub fn load(shop: &Shop, scale: f64) -> Result<(), tokio_postgres::Error> {
    shop.batch(SCHEMA)?;
    shop.batch(&format!("SET shop.scale = '{scale}'"))?;
    shop.batch(DATA)
}
