-- Fills the shop of `shop.sql`: 100,000 customers, 200,000 orders with 400,000 lines, 100,000 clicks.
--
-- `SET shop.scale = '0.05'` before it makes it smaller. Everything is computed from row numbers by hashing, so every
-- load gives the same rows, on every server.

SET client_min_messages = warning;
SET synchronous_commit = off;

-- How many of `n` rows to make.
CREATE FUNCTION pg_temp.scaled(n integer) RETURNS integer STABLE LANGUAGE sql AS
$$ SELECT greatest(20, (n * coalesce(nullif(current_setting('shop.scale', true), ''), '1')::numeric)::integer) $$;

-- A number from 0 to n - 1 for row i; `salt` tells the columns of a row apart.
CREATE FUNCTION pg_temp.pick(i bigint, salt bigint, n integer) RETURNS integer IMMUTABLE LANGUAGE sql AS
$$ SELECT ((hashint8extended(i, salt) & 2147483647) % n)::integer $$;

-- As `pick`, with small numbers more often than large ones.
CREATE FUNCTION pg_temp.pick_low(i bigint, salt bigint, n integer) RETURNS integer IMMUTABLE LANGUAGE sql AS
$$ SELECT (power((hashint8extended(i, salt) & 2147483647) / 2147483648.0::float8, 2) * n)::integer % n $$;

CREATE FUNCTION pg_temp.some_uuid(i bigint, salt bigint) RETURNS uuid IMMUTABLE LANGUAGE sql AS
$$ SELECT md5(i::text || ' ' || salt::text)::uuid $$;

INSERT INTO shop.rgn (rgn_id, rgn_nm, ctry_cd, cur_cd, tz_nm) VALUES
    (1, 'Bayern', 'DE', 'EUR', 'Europe/Berlin'),        (2, 'Berlin', 'DE', 'EUR', 'Europe/Berlin'),
    (3, 'Wien', 'AT', 'EUR', 'Europe/Vienna'),          (4, 'Zürich', 'CH', 'CHF', 'Europe/Zurich'),
    (5, 'Île-de-France', 'FR', 'EUR', 'Europe/Paris'),  (6, 'Occitanie', 'FR', 'EUR', 'Europe/Paris'),
    (7, 'Mazowsze', 'PL', 'PLN', 'Europe/Warsaw'),      (8, 'Lombardia', 'IT', 'EUR', 'Europe/Rome'),
    (9, 'London', 'GB', 'GBP', 'Europe/London'),        (10, 'Skåne', 'SE', 'SEK', 'Europe/Stockholm'),
    (11, 'New York', 'US', 'USD', 'America/New_York'),  (12, 'California', 'US', 'USD', 'America/Los_Angeles');

INSERT INTO shop.ctgr (ctgr_id, prnt_id, ctgr_nm, srt_no) VALUES
    (1, NULL, 'Media', 1),       (2, NULL, 'Home', 2),          (3, NULL, 'Outdoor', NULL),
    (11, 1, 'Books', 1),         (12, 1, 'Music', 2),           (13, 1, 'Games', 3),
    (21, 2, 'Kitchen', 1),       (22, 2, 'Furniture', 2),       (23, 2, 'Lighting', 3),
    (31, 3, 'Camping', 1),       (32, 3, 'Cycling', 2),         (33, 3, 'Sailing', 3);

INSERT INTO shop.sts_cd VALUES
    (10, 'NEW'), (20, 'PAID'), (30, 'PACKED'), (40, 'SHIPPED'), (50, 'DELIVERED'), (90, 'CANCELLED');

-- Every seventh description is an essay of several kB.
INSERT INTO shop.prd (prd_id, prd_uid, sku, ttl_tx, dsc_tx, atr_js, tgs, ctgr_id, lst_prc, pur_prc, actv_fg, chg_ts)
SELECT i,
       pg_temp.some_uuid(i, 1),
       upper(substr(md5(i::text), 1, 4 + i % 9)),
       (ARRAY['Plain', 'Classic', 'Brass', 'Nordic', 'Folding', 'Quiet', 'Sturdy', 'Little'])[1 + pg_temp.pick(i, 2, 8)]
           || ' '
           || (ARRAY['compass', 'kettle', 'lamp', 'atlas', 'tent', 'stool', 'record', 'saddle'])[1 + pg_temp.pick(i, 3, 8)]
           || ' No. ' || i,
       CASE WHEN i % 11 = 0 THEN NULL
            WHEN i % 7 = 0 THEN (SELECT string_agg(md5((i * 1000 + w)::text), ' ') FROM generate_series(1, 150) AS w)
            ELSE 'It does what it should, and has done so since ' || 1950 + pg_temp.pick(i, 4, 70) || '.' END,
       CASE WHEN i % 5 > 0 THEN
           jsonb_build_object('weight_g', 50 + pg_temp.pick(i, 5, 5000),
                              'color', (ARRAY['black', 'oak', 'brass', 'blue'])[1 + pg_temp.pick(i, 6, 4)],
                              'dimensions', jsonb_build_array(pg_temp.pick(i, 7, 90), pg_temp.pick(i, 8, 90))) END,
       CASE pg_temp.pick(i, 9, 4) WHEN 0 THEN NULL WHEN 1 THEN '{}'::text[] WHEN 2 THEN ARRAY['new']
            ELSE ARRAY['gift', NULL, 'made in ' || (ARRAY['EU', 'UK', 'JP'])[1 + pg_temp.pick(i, 10, 3)]] END,
       (ARRAY[11, 12, 13, 21, 22, 23, 31, 32, 33])[1 + pg_temp.pick_low(i, 11, 9)],
       ((199 + pg_temp.pick_low(i, 12, 29800)) / 100.0)::numeric(12,2),
       CASE WHEN i % 13 > 0 THEN ((99 + pg_temp.pick_low(i, 12, 14900)) / 100.0)::numeric::money END,
       i % 29 > 0,
       timestamptz '2026-01-01 00:00+00' + pg_temp.pick(i, 13, 200 * 86400) * interval '1 second'
FROM generate_series(1, pg_temp.scaled(5000)) AS i;

INSERT INTO shop.cst (cst_id, cst_uid, cst_nm1, cst_nm2, eml_ad, brth_dt, rgn_id, lng_cd, sgn_dt, crd_lmt,
                      flg1, flg2, flg3, chg_ts)
SELECT i,
       pg_temp.some_uuid(i, 2),
       (ARRAY['Ada', 'Björn', 'Chloé', 'Dario', 'Eun-ji', 'Fatma', 'Grace', 'Håkon'])[1 + pg_temp.pick(i, 20, 8)],
       (ARRAY['Müller', 'O''Brien', 'Nowak', 'Rossi', 'Dubois', 'Smith', 'Åkesson', 'Cruz'])[1 + pg_temp.pick(i, 21, 8)],
       'customer' || i || '@example.com',
       date '1940-01-01' + pg_temp.pick(i, 22, 24000),
       1 + pg_temp.pick_low(i, 23, 12),
       (ARRAY['de', 'fr', 'en', 'it', 'pl', NULL])[1 + pg_temp.pick(i, 24, 6)],
       timestamp '2012-03-01' + pg_temp.pick(i, 25, 440000000) * interval '1 second',
       CASE WHEN i % 3 = 0 THEN (pg_temp.pick(i, 26, 100) * 50)::money END,
       i % 2 = 0, NULL, i % 4 = 0,
       timestamptz '2026-06-01 00:00+00'
FROM generate_series(1, pg_temp.scaled(100000)) AS i;

-- One to three lines an order.
INSERT INTO shop.ord_ln (ord_id, ln_no, prd_id, qty, unt_prc)
SELECT o, n, p.prd_id, 1 + pg_temp.pick_low(o * 4 + n, 30, 4), p.lst_prc
FROM generate_series(1, pg_temp.scaled(200000)) AS o
CROSS JOIN LATERAL generate_series(1, 1 + pg_temp.pick(o, 31, 3)) AS n
JOIN shop.prd AS p ON p.prd_id = 1 + pg_temp.pick_low(o * 4 + n, 32, pg_temp.scaled(5000));

INSERT INTO shop.orders (ord_id, cst_id, rgn_id, ord_dt, sts_cd, pmt_kd, ttl_amt, cur_cd, flg3, rmk_tx, chg_ts)
SELECT t.ord_id, c.cst_id, c.rgn_id, at.placed,
       CASE WHEN pg_temp.pick(t.ord_id, 41, 20) = 0 THEN 90 ELSE 50 END,
       CASE WHEN t.ord_id % 41 > 0
            THEN (enum_range(NULL::shop.payment_kind))[1 + pg_temp.pick_low(t.ord_id, 42, 6)] END,
       t.amount, r.cur_cd, t.ord_id % 17 = 0,
       CASE WHEN t.ord_id % 23 = 0 THEN 'leave it at the harbour master''s' END,
       at.placed AT TIME ZONE 'UTC' + interval '3 days'
FROM (SELECT ord_id, sum(qty * unt_prc) AS amount FROM shop.ord_ln GROUP BY ord_id) AS t
JOIN shop.cst AS c ON c.cst_id = 1 + pg_temp.pick(t.ord_id, 43, pg_temp.scaled(100000))
JOIN shop.rgn AS r USING (rgn_id)
CROSS JOIN LATERAL (
    SELECT timestamp '2024-06-01' + t.ord_id * (interval '2 years' / pg_temp.scaled(200000)) AS placed) AS at;

-- Calm hours, and a rush on every ninth day.
INSERT INTO shop.usr_act (cst_id, act_ts, act_cd, prd_id, ssn_uid, dur_ms)
SELECT 1 + pg_temp.pick_low(i, 50, pg_temp.scaled(100000)),
       timestamptz '2026-05-01 00:00+00'
           + (CASE WHEN i % 3 = 0 THEN 9 * pg_temp.pick(i, 51, 3) * 86400 + pg_temp.pick(i, 52, 7200)
                   ELSE pg_temp.pick(i, 53, 30 * 86400) END) * interval '1 second',
       (ARRAY['V', 'V', 'V', 'S', 'C', 'P', 'L'])[1 + pg_temp.pick(i, 54, 7)],
       CASE WHEN i % 7 > 1 THEN 1 + pg_temp.pick_low(i, 55, pg_temp.scaled(5000)) END,
       pg_temp.some_uuid(i / 5, 3),
       CASE WHEN i % 6 > 0 THEN 100 + pg_temp.pick_low(i, 56, 120000) END
FROM generate_series(1, pg_temp.scaled(100000)) AS i;

INSERT INTO shop.misc_mstr (mstr_id, rec_typ, k01, k02, k03, n01, n02, n07, x01, m01, a01, a04, d01, d03,
                            f01, f02, f05, c01, c03, u01, j01, r01)
SELECT i, 'ST', (ARRAY['MUC', 'LYS', 'WAW', 'EWR1'])[1 + i % 4], 1 + i % pg_temp.scaled(5000),
       'S-' || pg_temp.pick(i, 60, 300),
       pg_temp.pick(i, 61, 400), pg_temp.pick(i, 62, 10), CASE WHEN i % 5 > 0 THEN pg_temp.pick(i, 63, 40) END,
       pg_temp.pick(i, 64, 100000) / 100.0, pg_temp.pick(i, 65, 900)::money,
       'aisle ' || pg_temp.pick(i, 66, 40), 'see k03', date '2026-01-01' + pg_temp.pick(i, 67, 150),
       timestamp '2026-05-01' + pg_temp.pick(i, 68, 2000000) * interval '1 second',
       true, i % 31 = 0, NULL, 'A', 'EUR', pg_temp.some_uuid(i, 4), jsonb_build_object('v', 2),
       'migrated from the AS/400'
FROM generate_series(1, pg_temp.scaled(10000)) AS i;

SELECT setval('shop.usr_act_act_id_seq', (SELECT max(act_id) FROM shop.usr_act));
ANALYZE;
