//! What the shop's application sends to its database.

/// Labels of `shop.payment_kind`; cards are the most popular.
pub const PAYMENTS: [&str; 8] = ["card", "card", "card", "paypal", "paypal", "invoice", "klarna", "sepa_debit"];

/// Codes of `shop.usr_act.act_cd`; most visitors only look.
pub const ACTIONS: [&str; 10] = ["V", "V", "V", "V", "V", "S", "S", "C", "P", "L"];

/// Which names the application uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Before `demo/migration.sql`.
    Old,
    /// After it.
    New,
}

impl Version {
    /// As a person would call it.
    pub fn number(self) -> u32 {
        match self {
            Version::Old => 41,
            Version::New => 42,
        }
    }

    fn total(self) -> &'static str {
        match self {
            Version::Old => "ttl_amt",
            Version::New => "total_amount",
        }
    }
}

/// Parameters: order, number, product and quantity of the lines; id, customer, region, payment and gift of the orders.
/// Lines and orders come in one transaction, priced as the catalogue says at that moment.
pub fn new_orders(version: Version) -> String {
    let total = version.total();
    let (channel, web_or_app) = match version {
        Version::Old => ("", ""),
        Version::New => (", sales_channel", ", CASE WHEN o.ord_id % 3 = 0 THEN 'app' ELSE 'web' END"),
    };
    format!(
        "WITH line AS (
             INSERT INTO shop.ord_ln (ord_id, ln_no, prd_id, qty, unt_prc)
             SELECT l.ord_id, l.ln_no, l.prd_id, l.qty, p.lst_prc
             FROM unnest($1::bigint[], $2::smallint[], $3::integer[], $4::integer[]) AS l (ord_id, ln_no, prd_id, qty)
             JOIN shop.prd AS p USING (prd_id)
             RETURNING ord_id, qty * unt_prc AS amount)
         INSERT INTO shop.orders (ord_id, cst_id, rgn_id, ord_dt, sts_cd, pmt_kd, {total}, cur_cd, flg3{channel})
         SELECT o.ord_id, o.cst_id, o.rgn_id, now() AT TIME ZONE 'UTC', 10, o.pmt_kd::shop.payment_kind, t.amount,
                r.cur_cd, o.flg3{web_or_app}
         FROM unnest($5::bigint[], $6::bigint[], $7::integer[], $8::text[], $9::boolean[])
                  AS o (ord_id, cst_id, rgn_id, pmt_kd, flg3)
         JOIN (SELECT ord_id, sum(amount) AS amount FROM line GROUP BY ord_id) AS t USING (ord_id)
         JOIN shop.rgn AS r USING (rgn_id)"
    )
}

/// Parameter: orders. Their first line grows by one piece, and their total with it.
pub fn one_piece_more(version: Version) -> String {
    let total = version.total();
    format!(
        "WITH line AS (
             UPDATE shop.ord_ln SET qty = qty + 1 WHERE ord_id = ANY ($1) AND ln_no = 1 RETURNING ord_id, unt_prc)
         UPDATE shop.orders AS o SET {total} = o.{total} + line.unt_prc, chg_ts = now()
         FROM line WHERE line.ord_id = o.ord_id"
    )
}

/// Parameter: orders. Paid, packed, shipped, delivered.
pub const PROGRESS: &str = "
    UPDATE shop.orders SET sts_cd = sts_cd + 10, chg_ts = now() WHERE ord_id = ANY ($1) AND sts_cd < 50";

/// Parameter: orders.
pub const CANCEL: &str = "
    UPDATE shop.orders SET sts_cd = 90, chg_ts = now() WHERE ord_id = ANY ($1) AND sts_cd < 40";

/// Parameter: orders.
pub const PURGE_ORDERS: &str = "
    WITH line AS (DELETE FROM shop.ord_ln WHERE ord_id = ANY ($1))
    DELETE FROM shop.orders WHERE ord_id = ANY ($1)";

/// Parameters: customer, action, product and session of each event.
pub const ACTIVITY: &str = "
    INSERT INTO shop.usr_act (cst_id, act_ts, act_cd, prd_id, ssn_uid)
    SELECT a.cst_id, clock_timestamp(), a.act_cd, a.prd_id, md5(a.session::text)::uuid
    FROM unnest($1::bigint[], $2::text[], $3::integer[], $4::bigint[]) AS a (cst_id, act_cd, prd_id, session)";

/// Parameter: events.
pub const ACTIVITY_ENDS: &str = "
    UPDATE shop.usr_act SET dur_ms = extract(epoch FROM clock_timestamp() - act_ts) * 1000
    WHERE act_id = ANY ($1) AND dur_ms IS NULL AND act_ts > now() - interval '1 day'";

/// Parameter: events.
pub const PURGE_ACTIVITY: &str = "DELETE FROM shop.usr_act WHERE act_id = ANY ($1)";

/// Parameter: shelves.
pub const STOCK: &str = "
    UPDATE shop.misc_mstr SET n01 = CASE WHEN n01 > 0 THEN n01 - 1 ELSE 250 END, d01 = current_date, f05 = NOT f05
    WHERE mstr_id = ANY ($1)";

/// Parameters: product, percent of the old price.
pub const PRICE: &str = "
    UPDATE shop.prd SET lst_prc = greatest(0.50, round(lst_prc * $2::integer / 100, 2)), chg_ts = now() WHERE prd_id = $1";

/// Parameters: customer, region.
pub const NEW_CUSTOMER: &str = "
    INSERT INTO shop.cst (cst_id, cst_uid, cst_nm1, cst_nm2, eml_ad, rgn_id, lng_cd, sgn_dt)
    VALUES ($1::bigint, md5($1::text)::uuid, 'Nemo', 'Newman', 'new' || $1 || '@example.com', $2, 'en',
            now() AT TIME ZONE 'UTC')";

/// Parameter: customer.
pub const NEWSLETTER: &str = "UPDATE shop.cst SET flg3 = NOT flg3, chg_ts = now() WHERE cst_id = $1";

/// The shop grows: one more country.
pub const NEW_REGION: &str = "
    INSERT INTO shop.rgn (rgn_id, rgn_nm, ctry_cd, cur_cd, tz_nm)
    SELECT max(rgn_id) + 1, 'Kantō', 'JP', 'JPY', 'Asia/Tokyo' FROM shop.rgn";
