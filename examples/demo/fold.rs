//! Folds topics by key into what a sales dashboard needs, and keeps the sums as the records come.
//!
//! Topics are not ordered among each other: a line may come before its order, and a product after both. So sums are kept
//! by region and *product*, which lines and orders suffice for, and rolled up to categories when they are looked at.

use std::collections::{BTreeMap, HashMap, HashSet};

use apache_avro::types::Value;
use gimbal::batch::Op;

use crate::amount::Amount;
use crate::topics::{Record, Topic};

/// What was folded so far.
#[derive(Default)]
pub struct Fold {
    orders: HashMap<i64, Order>,
    products: HashMap<i64, i64>,
    categories: HashMap<i64, String>,
    regions: HashMap<i64, Region>,
    /// By region and product: lines of orders that are not cancelled.
    sales: HashMap<(i64, i64), Amount>,
    /// Sums of `total_amount` of orders that are not cancelled, by region.
    totals: HashMap<i64, Amount>,
    /// Keys of the other topics; nothing more is asked of them.
    keys: HashMap<Topic, HashSet<i64>>,
    order_count: u64,
    line_count: u64,
    /// Records that lack what their schema promises: none, ever.
    pub unreadable: u64,
}

/// An order with its lines; one may be there before the other.
#[derive(Default)]
struct Order {
    head: Option<Head>,
    lines: Vec<Line>,
}

struct Head {
    region: i64,
    total: Amount,
    cancelled: bool,
}

struct Line {
    number: i64,
    product: i64,
    amount: Amount,
}

struct Region {
    name: String,
    country: String,
}

impl Fold {
    /// Takes one record in.
    pub fn take(&mut self, record: &Record) {
        if self.apply(record).is_none() {
            self.unreadable += 1;
        }
    }

    fn apply(&mut self, record: &Record) -> Option<()> {
        let value = record.value.as_ref();
        match record.topic {
            Topic::Orders => {
                let head = match value {
                    Some(value) => Some(head(value)?),
                    None => None,
                };
                self.set_head(long(&record.key, "order_id")?, head);
            }
            Topic::OrderLines => {
                let number = long(&record.key, "line_number")?;
                let line = match value {
                    Some(value) => Some(line(number, value)?),
                    None => None,
                };
                self.set_line(long(&record.key, "order_id")?, number, line);
            }
            Topic::Products => {
                let key = long(&record.key, "product_id")?;
                match value {
                    Some(value) => self.products.insert(key, long(value, "category_id")?),
                    None => self.products.remove(&key),
                };
            }
            Topic::Categories => {
                let key = long(&record.key, "category_id")?;
                match value {
                    Some(value) => self.categories.insert(key, text(value, "name")?),
                    None => self.categories.remove(&key),
                };
            }
            Topic::Regions => {
                let key = long(&record.key, "region_id")?;
                match value {
                    Some(value) => {
                        let region = Region { name: text(value, "name")?, country: text(value, "country")? };
                        self.regions.insert(key, region)
                    }
                    None => self.regions.remove(&key),
                };
            }
            topic @ (Topic::Customers | Topic::Stock | Topic::Activity) => {
                let key = long(&record.key, topic.key())?;
                let keys = self.keys.entry(topic).or_default();
                // A log keeps the last known row of what was deleted.
                if record.op == Op::Delete {
                    keys.remove(&key)
                } else {
                    keys.insert(key)
                };
            }
        }
        Some(())
    }

    fn set_head(&mut self, id: i64, head: Option<Head>) {
        let mut order = self.orders.remove(&id).unwrap_or_default();
        self.order_count -= u64::from(order.head.is_some());
        self.order_count += u64::from(head.is_some());
        self.book(&order, -1);
        order.head = head;
        self.put(id, order);
    }

    fn set_line(&mut self, id: i64, number: i64, line: Option<Line>) {
        let mut order = self.orders.remove(&id).unwrap_or_default();
        self.book(&order, -1);
        self.line_count -= order.lines.len() as u64;
        order.lines.retain(|line| line.number != number);
        order.lines.extend(line);
        self.line_count += order.lines.len() as u64;
        self.put(id, order);
    }

    fn put(&mut self, id: i64, order: Order) {
        self.book(&order, 1);
        if order.head.is_some() || !order.lines.is_empty() {
            self.orders.insert(id, order);
        }
    }

    /// Adds the order to the sums, or takes it out of them.
    fn book(&mut self, order: &Order, sign: i64) {
        let Some(head) = order.head.as_ref().filter(|head| !head.cancelled) else { return };
        *self.totals.entry(head.region).or_default() += head.total.times(sign);
        for line in &order.lines {
            *self.sales.entry((head.region, line.product)).or_default() += line.amount.times(sign);
        }
    }

    /// Sales by category and region.
    pub fn sales(&self) -> BTreeMap<(String, String), Amount> {
        let mut sums: HashMap<(Option<i64>, i64), Amount> = HashMap::new();
        for ((region, product), amount) in &self.sales {
            *sums.entry((self.products.get(product).copied(), *region)).or_default() += *amount;
        }
        // What was sold and taken back leaves a nothing, which a SELECT would not list.
        sums.retain(|_, amount| *amount != Amount::default());
        sums.into_iter()
            .map(|((category, region), amount)| ((self.category(category), self.region(region)), amount))
            .collect()
    }

    /// Sums of the orders' totals by region.
    pub fn totals(&self) -> BTreeMap<String, Amount> {
        let sums = self.totals.iter().map(|(region, amount)| (self.region(*region), *amount));
        sums.filter(|(_, amount)| *amount != Amount::default()).collect()
    }

    /// Sum of the totals of orders after this one.
    pub fn total_after(&self, order: i64) -> Amount {
        let heads = self.orders.iter().filter(|(id, _)| **id > order).filter_map(|(_, order)| order.head.as_ref());
        heads.filter(|head| !head.cancelled).map(|head| head.total).sum()
    }

    /// Rows by topic.
    pub fn count(&self, topic: Topic) -> u64 {
        match topic {
            Topic::Orders => self.order_count,
            Topic::OrderLines => self.line_count,
            Topic::Products => self.products.len() as u64,
            Topic::Categories => self.categories.len() as u64,
            Topic::Regions => self.regions.len() as u64,
            Topic::Customers | Topic::Stock | Topic::Activity => self.keys.get(&topic).map_or(0, HashSet::len) as u64,
        }
    }

    fn category(&self, category: Option<i64>) -> String {
        category.and_then(|id| self.categories.get(&id)).cloned().unwrap_or_else(|| "(not there yet)".to_owned())
    }

    fn region(&self, region: i64) -> String {
        match self.regions.get(&region) {
            Some(region) => format!("{} {}", region.country, region.name),
            None => "(not there yet)".to_owned(),
        }
    }
}

fn head(value: &Value) -> Option<Head> {
    Some(Head {
        region: long(value, "region_id")?,
        total: amount(value, "total_amount")?,
        cancelled: matches!(field(value, "status")?, Value::Enum(_, symbol) if symbol == "CANCELLED"),
    })
}

fn line(number: i64, value: &Value) -> Option<Line> {
    let amount = amount(value, "unit_price")?.times(long(value, "quantity")?);
    Some(Line { number, product: long(value, "product_id")?, amount })
}

/// A field of a record by its name in the contract's schema.
fn field<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Record(fields) = record else { return None };
    match &fields.iter().find(|(field, _)| field == name)?.1 {
        Value::Union(_, value) => Some(value),
        value => Some(value),
    }
}

fn long(record: &Value, name: &str) -> Option<i64> {
    match field(record, name)? {
        Value::Long(number) => Some(*number),
        Value::Int(number) => Some(i64::from(*number)),
        _ => None,
    }
}

fn text(record: &Value, name: &str) -> Option<String> {
    match field(record, name)? {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn amount(record: &Value, name: &str) -> Option<Amount> {
    match field(record, name)? {
        Value::Decimal(decimal) => Amount::of_decimal(decimal),
        _ => None,
    }
}
