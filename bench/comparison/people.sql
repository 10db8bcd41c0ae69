-- Synthetic people, about 204 bytes a row on the wire: what the bulk SELECT reads, and what masking finds something in, in every
-- row. Visits, about 100 bytes a row: what it finds nothing in.
-- Deterministic (hash-derived), no real person's data.
CREATE TABLE people (
  id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL, ssn text,
  card text, phone text, notes text);
INSERT INTO people
WITH w AS (SELECT
  ARRAY['Anna','Ben','Carla','David','Elena','Farid','Grace','Hugo','Ines','Jonas','Kavya','Liam','Mara','Noah','Olga','Pedro','Quentin','Rosa','Samir','Tessa','Umar','Vera','Wen','Xenia','Yusuf','Zoe'] fn,
  ARRAY['Adler','Brandt','Castillo','Dubois','Eriksen','Fischer','Gupta','Haddad','Ito','Jensen','Kowalski','Lopez','Muller','Nowak','Okafor','Petrov','Quinn','Rossi','Schmidt','Tanaka','Ueda','Vasquez','Weber','Xu','Yilmaz','Zhang'] ln,
  ARRAY['example.com','example.org','mail.example.net','corp.example.io'] dm,
  ARRAY['called about the invoice','asked for a refund','prefers contact by mail','account under review','delivery was late twice','renewal due next quarter','changed address last month','reported a login problem','wants the annual report','is a long-standing customer','opened a support ticket','confirmed the appointment'] ph)
SELECT i,
  fn[1+h1%26]||' '||ln[1+h2%26],
  lower(fn[1+h1%26])||'.'||lower(ln[1+h2%26])||(i%1000)||'@'||dm[1+h3%4],
  lpad((100+h1%565)::text,3,'0')||'-'||lpad((1+h2%98)::text,2,'0')||'-'||lpad((1+h3%9998)::text,4,'0'),
  '4'||lpad((h1::bigint*h2%1000000000000000)::text,15,'0'),
  '+1-'||(200+h2%799)||'-555-'||lpad((h3%10000)::text,4,'0'),
  'Customer '||ph[1+h1%12]||'; '||ph[1+h2%12]||'. '||ph[1+h3%12]||
    CASE WHEN i%20=0 THEN '. Reach at '||lower(fn[1+h2%26])||(i%97)||'@'||dm[1+h1%4] ELSE '' END||
    CASE WHEN i%33=0 THEN ', call +1-'||(200+h1%799)||'-555-'||lpad((h2%10000)::text,4,'0') ELSE '' END||'.'
FROM w, LATERAL (SELECT i, abs(hashint8(i)) h1, abs(hashint8(i+7777777)) h2, abs(hashint8(i*31+3)) h3
                 FROM generate_series(1, @ROWS@) i) g;
CREATE TABLE visits (id bigint PRIMARY KEY, who text NOT NULL, about text NOT NULL, paid numeric(8, 2), done boolean);
INSERT INTO visits SELECT id, name, left(split_part(notes, '; ', 2), 42), (id % 9973) / 7.0, id % 3 = 0 FROM people;
CREATE TABLE patients (id bigint PRIMARY KEY, ssn text);
VACUUM (FREEZE, ANALYZE) people;
VACUUM (FREEZE, ANALYZE) visits;
