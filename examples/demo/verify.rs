//! Compares what was folded from the topics with what production says at rest.

use std::collections::BTreeMap;

use crate::Result;
use crate::amount::{Amount, grouped};
use crate::fold::Fold;
use crate::shop::Shop;
use crate::topics::Topic;

/// Sales by category and region, as the dashboard computes them.
const SALES: &str = "
    SELECT c.ctgr_nm, r.ctry_cd || ' ' || r.rgn_nm, (100 * sum(l.qty * l.unt_prc))::bigint
    FROM shop.orders AS o
    JOIN shop.ord_ln AS l USING (ord_id)
    JOIN shop.prd AS p USING (prd_id)
    JOIN shop.ctgr AS c USING (ctgr_id)
    JOIN shop.rgn AS r USING (rgn_id)
    WHERE o.sts_cd <> 90
    GROUP BY 1, 2 HAVING sum(l.qty * l.unt_prc) <> 0";

/// Order totals by region, after the migration.
const TOTALS: &str = "
    SELECT r.ctry_cd || ' ' || r.rgn_nm, (100 * sum(o.total_amount))::bigint
    FROM shop.orders AS o JOIN shop.rgn AS r USING (rgn_id)
    WHERE o.sts_cd <> 90
    GROUP BY 1 HAVING sum(o.total_amount) <> 0";

/// One comparison.
pub struct Check {
    /// What was compared, and how it came out.
    pub text: String,
    /// Whether both sides are the same.
    pub passed: bool,
}

/// Compares everything that the dashboard knows.
pub fn compare(fold: &Fold, shop: &Shop) -> Result<Vec<Check>> {
    let mut sales = BTreeMap::new();
    for row in shop.query(SALES, &[])? {
        sales.insert((row.try_get(0)?, row.try_get(1)?), Amount(row.try_get(2)?));
    }
    let mut totals = BTreeMap::new();
    for row in shop.query(TOTALS, &[])? {
        totals.insert(row.try_get::<_, String>(0)?, Amount(row.try_get(1)?));
    }
    let mut checks = vec![
        compare_sums("sales by category and region", &fold.sales(), &sales),
        compare_sums("order totals by region", &fold.totals(), &totals),
    ];
    for topic in Topic::ALL {
        let there = shop.number(&format!("SELECT count(*) FROM {}", table(topic)))?.unsigned_abs();
        let here = fold.count(topic);
        let passed = here == there;
        let text = match passed {
            true => format!("{}: {} rows in both", topic.name(), grouped(here)),
            false => {
                format!("{}: {} keys in the topic, {} rows in production", topic.name(), grouped(here), grouped(there))
            }
        };
        checks.push(Check { text, passed });
    }
    Ok(checks)
}

/// Sum of the totals of orders after this one, as production has it after the migration.
pub fn total_after(shop: &Shop, order: i64) -> Result<Amount> {
    let sql =
        format!("SELECT (100 * sum(total_amount))::bigint FROM shop.orders WHERE sts_cd <> 90 AND ord_id > {order}");
    Ok(Amount(shop.number(&sql)?))
}

fn compare_sums<K: Ord>(what: &str, topics: &BTreeMap<K, Amount>, production: &BTreeMap<K, Amount>) -> Check {
    let sum = |sums: &BTreeMap<K, Amount>| sums.values().copied().sum::<Amount>();
    if topics == production {
        let text = format!("{what}: {} figures are the same to the cent, {} EUR in all", topics.len(), sum(topics));
        return Check { text, passed: true };
    }
    let same = topics.iter().filter(|(key, amount)| production.get(key) == Some(amount)).count();
    let differ = topics.len().max(production.len()) - same;
    let text = format!(
        "{what}: {differ} figures differ; {} EUR in the topics, {} EUR in production",
        sum(topics),
        sum(production)
    );
    Check { text, passed: false }
}

fn table(topic: Topic) -> &'static str {
    match topic {
        Topic::Orders => "shop.orders",
        Topic::OrderLines => "shop.ord_ln",
        Topic::Products => "shop.prd",
        Topic::Customers => "shop.cst",
        Topic::Regions => "shop.rgn",
        Topic::Categories => "shop.ctgr",
        Topic::Stock => "shop.misc_mstr",
        Topic::Activity => "shop.usr_act",
    }
}
