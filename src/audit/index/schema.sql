-- The index of the evidence: rebuilt from the records, never their source. src/audit/README.md tells what each table says.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (
    key INTEGER PRIMARY KEY, id TEXT NOT NULL, opened_ns INTEGER NOT NULL, peer TEXT, listener TEXT, tls TEXT,
    method TEXT, issuer TEXT, issuer_url TEXT, subject TEXT, person TEXT, token TEXT, token_id TEXT,
    target TEXT, endpoint TEXT, database TEXT, access TEXT, login TEXT, user TEXT, mode TEXT, durability TEXT, server_version TEXT,
    closed_ns INTEGER, closed_by TEXT, closed_why TEXT);
CREATE TABLE session_groups (session INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (session, name)) WITHOUT ROWID;
CREATE TABLE session_claims (session INTEGER NOT NULL, path TEXT NOT NULL, json TEXT NOT NULL, PRIMARY KEY (session, path)) WITHOUT ROWID;
CREATE TABLE texts (
    key INTEGER PRIMARY KEY, text TEXT, withheld TEXT, rule TEXT NOT NULL, classes TEXT NOT NULL, policy BLOB NOT NULL,
    catalog_epoch INTEGER NOT NULL);
CREATE TABLE text_relations (
    text INTEGER NOT NULL, statement INTEGER NOT NULL, name TEXT NOT NULL, access TEXT NOT NULL, what TEXT NOT NULL,
    blind INTEGER NOT NULL);
CREATE TABLE text_uses (text INTEGER NOT NULL, statement INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE asked (
    sequence INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, session INTEGER NOT NULL, number INTEGER NOT NULL, text INTEGER NOT NULL,
    protocol TEXT NOT NULL, verdict TEXT NOT NULL, outcome TEXT NOT NULL, tag TEXT, sqlstate TEXT, rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL, bytes_in INTEGER NOT NULL, took_us INTEGER, masked INTEGER NOT NULL, refusal TEXT, ref TEXT,
    parameters INTEGER NOT NULL, exact_text TEXT, text_bytes INTEGER NOT NULL, text_commitment BLOB, parameter_digest BLOB, result_digest BLOB,
    hash BLOB NOT NULL, name TEXT NOT NULL, portal TEXT NOT NULL);
CREATE TABLE results (
    sequence INTEGER NOT NULL, session INTEGER, number INTEGER, at INTEGER NOT NULL, outcome TEXT NOT NULL, tag TEXT NOT NULL,
    sqlstate TEXT, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, bytes_in INTEGER NOT NULL, started_ns INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL, digest BLOB, PRIMARY KEY (sequence, at)) WITHOUT ROWID;
CREATE TABLE parameter_values (
    sequence INTEGER NOT NULL, session INTEGER, number INTEGER, at INTEGER NOT NULL, type_oid INTEGER NOT NULL, binary INTEGER NOT NULL,
    kept TEXT NOT NULL, value, PRIMARY KEY (sequence, at)) WITHOUT ROWID;
CREATE TABLE reports (
    sequence INTEGER NOT NULL, session INTEGER, number INTEGER, at INTEGER NOT NULL, what TEXT NOT NULL, sqlstate TEXT, message TEXT,
    fields TEXT NOT NULL, PRIMARY KEY (sequence, at)) WITHOUT ROWID;
CREATE TABLE stated (
    sequence INTEGER NOT NULL, session INTEGER, number INTEGER, at INTEGER NOT NULL, origin TEXT NOT NULL, name TEXT NOT NULL,
    value TEXT NOT NULL, PRIMARY KEY (sequence, at)) WITHOUT ROWID;
CREATE TABLE holds (
    sequence INTEGER NOT NULL, session INTEGER, number INTEGER, hold TEXT NOT NULL, needs TEXT NOT NULL, expires_ns INTEGER NOT NULL,
    outcome TEXT, reason TEXT, approved_by TEXT, waited_ns INTEGER, PRIMARY KEY (sequence, hold)) WITHOUT ROWID;
CREATE TABLE masks (sequence INTEGER NOT NULL, place TEXT NOT NULL, cause TEXT NOT NULL, count INTEGER NOT NULL);
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, session INTEGER, number INTEGER NOT NULL, kind TEXT NOT NULL,
    detail TEXT NOT NULL, hash BLOB NOT NULL);
CREATE INDEX session_ids ON sessions (id);
CREATE INDEX relation_names ON text_relations (name);
CREATE INDEX relation_texts ON text_relations (text);
CREATE INDEX use_texts ON text_uses (text);
CREATE INDEX mask_statements ON masks (sequence);
CREATE VIEW statements AS
    SELECT a.sequence, strftime('%Y-%m-%dT%H:%M:%S', a.time_ns / 1000000000, 'unixepoch') || printf('.%03dZ', a.time_ns / 1000000 % 1000) AS time, a.time_ns, s.id AS session, a.number,
           s.subject, s.issuer, s.person, s.target, s.database, s.access, s.user, s.mode, s.peer,
           a.verdict, t.rule, t.classes, a.protocol, a.outcome, a.tag, a.sqlstate, a.rows, a.bytes, a.bytes_in, a.took_us, a.masked,
           a.refusal, a.ref, t.text, t.withheld, a.exact_text, a.text_bytes, a.parameters, lower(hex(a.text_commitment)) AS text_commitment,
           lower(hex(a.parameter_digest)) AS parameter_digest, lower(hex(a.result_digest)) AS result_digest,
           lower(hex(t.policy)) AS policy, lower(hex(a.hash)) AS hash, a.name, a.portal, a.text AS text_key, a.session AS session_key
      FROM asked a JOIN sessions s ON s.key = a.session JOIN texts t ON t.key = a.text
     WHERE a.outcome <> 'parsed';
CREATE VIEW reached AS
    SELECT a.sequence, r.statement, r.name, r.access, r.what, r.blind, a.verdict, a.outcome, s.subject, s.person, s.target
      FROM text_relations r JOIN asked a ON a.text = r.text JOIN sessions s ON s.key = a.session;
CREATE VIEW decisions AS
    SELECT sequence, time_ns, detail ->> 'hold' AS hold, detail ->> 'session' AS session, detail ->> 'statement' AS number,
           detail ->> 'decision' AS decision, detail ->> 'refused' AS refused, detail ->> 'reason' AS reason,
           detail ->> 'subject' AS subject, detail ->> 'issuer' AS issuer, detail ->> 'person' AS person, detail ->> 'channel' AS channel
      FROM events WHERE kind = 'hold-decided';
