-- The demonstration's database: a small shop, its roles, and what a least-privilege gateway needs of them.
CREATE SCHEMA crm AUTHORIZATION crm_owner;
SET ROLE crm_owner;
SET search_path TO crm;

CREATE TABLE customers (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name        text NOT NULL,
  email       text NOT NULL UNIQUE,
  ssn         text,
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE orders (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  customer_id bigint NOT NULL REFERENCES customers,
  status      text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'paid', 'shipped', 'returned')),
  total_cents bigint NOT NULL CHECK (total_cents >= 0),
  placed_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON orders (customer_id);

INSERT INTO customers (name, email, ssn)
  SELECT 'Customer ' || n, 'customer' || n || '@example.com', lpad(n::text, 9, '0') FROM generate_series(1, 200) n;
INSERT INTO orders (customer_id, status, total_cents)
  SELECT 1 + n % 200, (ARRAY['new', 'paid', 'shipped', 'returned'])[1 + n % 4], 100 * (n % 97) FROM generate_series(1, 5000) n;

GRANT USAGE ON SCHEMA crm TO crm_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA crm TO crm_reader;
-- The reader may delete by its own rights: what stops it in the demonstration is the gateway's policy.
GRANT INSERT, UPDATE, DELETE ON orders TO crm_reader;
