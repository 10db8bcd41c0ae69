-- Beside tests/e2e/fixtures/database.sql: what drivers look up and tools work on.
SET ROLE owner_login;
SET search_path TO shop;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, b text);
CREATE TABLE typed (id int PRIMARY KEY, m mood, p pair);
INSERT INTO typed VALUES (1, 'ok', (7, 'seven'));
GRANT SELECT, INSERT, UPDATE, DELETE ON typed TO app_login;
RESET ROLE;
CREATE SCHEMA work AUTHORIZATION owner_login;
GRANT CREATE ON DATABASE shop TO owner_login;
