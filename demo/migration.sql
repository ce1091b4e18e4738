-- What a developer ships on an ordinary day, while the shop is open: a name that can be read, and a new column.
BEGIN;
ALTER TABLE shop.orders RENAME COLUMN ttl_amt TO total_amount;
ALTER TABLE shop.orders ADD COLUMN sales_channel text NOT NULL DEFAULT 'web';
COMMIT;
