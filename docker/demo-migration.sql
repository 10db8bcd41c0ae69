-- What a migration tool would send.
BEGIN;
ALTER TABLE orders ADD COLUMN shipped_at timestamptz;
UPDATE orders SET shipped_at = placed_at + interval '2 days' WHERE status = 'shipped';
CREATE INDEX orders_shipped_at ON orders (shipped_at);
COMMIT;
SELECT count(*) AS shipped FROM orders WHERE shipped_at IS NOT NULL;
