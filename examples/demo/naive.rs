//! What many teams write first: a reader of the raw stream that looks columns up by name.
//!
//! It has a slot of its own and keeps the sales of new orders, as the dashboard does. A column that is not there counts
//! as nothing, as `row.get("ttl_amt", 0)` would have it. So it does not even break when the name goes away: it goes blind.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use clap::Args;
use gimbal::pgoutput::{self, Message, Tuple};
use gimbal::row::{Datum, Row};
use gimbal::table::RelationId;

use crate::Result;
use crate::amount::Amount;
use crate::process::{Held, print_line};
use crate::shop::Shop;

/// How often the slot is asked for more.
const PAUSE: Duration = Duration::from_millis(400);

const NEXT: &str = "SELECT data FROM pg_logical_slot_get_binary_changes('naive_reader', NULL, NULL,
                        'proto_version', '1', 'publication_names', 'naive_reader')";

/// The column that the amounts are in, when this was written.
const TOTAL: &str = "ttl_amt";
/// The status code of a cancelled order.
const CANCELLED: &str = "90";

/// Options of `demo naive`.
#[derive(Args)]
pub struct Options {
    /// The shop's database
    #[arg(long)]
    source: String,
}

/// Runs `demo naive`. Prints `ready`, `blind` when a column is missed, and at the end `final` with its figures.
pub fn run(options: &Options) -> Result<()> {
    let held = Held::watch();
    let shop = Shop::connect(&options.source)?;
    shop.batch("CREATE PUBLICATION naive_reader FOR TABLE shop.orders")?;
    shop.query("SELECT pg_create_logical_replication_slot('naive_reader', 'pgoutput')", &[])?;
    let mut reader = Reader { after: shop.number("SELECT max(ord_id) FROM shop.orders")?, ..Reader::default() };
    print_line("ready")?;
    loop {
        let open = held.is_open();
        let was_blind = reader.blind_rows > 0;
        for row in shop.query(NEXT, &[])? {
            reader.take(row.try_get(0)?)?;
        }
        if reader.blind_rows > 0 && !was_blind {
            print_line(&format!(
                "blind `{TOTAL}` is not in the stream any more; its orders count as 0.00 from here on"
            ))?;
        }
        // What was committed before standard input ended is read to its end.
        if !open {
            break;
        }
        thread::sleep(PAUSE);
    }
    let sales: Amount = reader.orders.values().filter(|order| !order.cancelled).map(|order| order.total).sum();
    print_line(&format!("final sales={} orders={} blind={}", sales.0, reader.orders.len(), reader.blind_rows))?;
    shop.query("SELECT pg_drop_replication_slot('naive_reader')", &[])?;
    shop.batch("DROP PUBLICATION naive_reader")?;
    Ok(())
}

#[derive(Default)]
struct Reader {
    /// Orders up to this one are older than this reader.
    after: i64,
    columns: HashMap<RelationId, Vec<String>>,
    orders: HashMap<i64, Order>,
    blind_rows: u64,
}

struct Order {
    total: Amount,
    cancelled: bool,
}

impl Reader {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        match pgoutput::decode(bytes).map_err(|error| format!("the stream is not pgoutput: {error}"))? {
            Message::Relation(relation) => {
                let names = relation.columns().map(|column| column.name.to_owned()).collect();
                self.columns.insert(relation.relation, names);
            }
            Message::Insert { relation, new } | Message::Update { relation, new, .. } => {
                let row = self.by_name(relation, bytes, &new);
                let id: i64 = row.get("ord_id").map_or(Ok(0), |text| text.parse())?;
                if id > self.after {
                    let total = row.get(TOTAL).and_then(|text| Amount::parse(text));
                    let cancelled = row.get("sts_cd").is_some_and(|code| code == CANCELLED);
                    self.blind_rows += u64::from(total.is_none());
                    self.orders.insert(id, Order { total: total.unwrap_or_default(), cancelled });
                }
            }
            Message::Delete { relation, old } => {
                let row = self.by_name(relation, bytes, &old.tuple());
                let id: i64 = row.get("ord_id").map_or(Ok(0), |text| text.parse())?;
                self.orders.remove(&id);
            }
            _ => {}
        }
        Ok(())
    }

    fn by_name<'a>(&'a self, relation: RelationId, bytes: &[u8], tuple: &Tuple<'_>) -> HashMap<&'a str, String> {
        let mut cells = Vec::new();
        tuple.cells(&mut cells);
        let row = Row { buffer: bytes, cells: &cells };
        let names = self.columns.get(&relation).map(Vec::as_slice).unwrap_or_default();
        let texts = names.iter().enumerate().filter_map(|(place, name)| match row.get(place) {
            Datum::Text(text) => Some((name.as_str(), String::from_utf8_lossy(text).into_owned())),
            Datum::Null | Datum::Unchanged => None,
        });
        texts.collect()
    }
}
