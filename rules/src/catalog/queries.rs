//! What is asked of the server: text-format queries, the same for PostgreSQL 14 to 18.
//!
//! Owns: the SQL. May not: run it. Whoever runs it uses the simple protocol on a connection of the target's `control`
//! credential: [`OPEN`], then every query of [`QUERIES`] in order, then [`CLOSE`]; every cell arrives as text. All of it is
//! readable by an ordinary role. Relations of temporary schemas are left out: they are other sessions'.
//!
//! Masks are sums of the bits of [`super::Event`]: read 1, insert 2, update 4, delete 8, truncate 16, partition key 32,
//! commit 64.

/// Opens the one transaction of a load: one state of the catalog, and names that nobody's schema can catch.
pub const OPEN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path TO ''; SET LOCAL statement_timeout TO '60s'";

/// Sent once on a new control connection, before [`FINGERPRINT`] and [`OPEN`]: no name and no operator of it may be caught
/// by a user's schema, and nothing is ever written. The planner's guesses about the catalogs are far too high: compiling the
/// queries takes seconds where running them takes milliseconds, and no worker is worth its start.
pub const GREET: &str = "SET search_path TO ''; SET default_transaction_read_only TO on; SET jit TO off; \
                         SET max_parallel_workers_per_gather TO 0; SET application_name TO 'pgturnstile catalog'";

/// Ends it.
pub const CLOSE: &str = "COMMIT";

/// One query of a load.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// What it reads, for errors.
    pub name: &'static str,
    /// The statement.
    pub sql: &'static str,
    /// How many columns it returns.
    pub columns: usize,
}

/// Where each query stands in [`QUERIES`].
pub(super) mod at {
    pub(in crate::catalog) const SERVER: usize = 0;
    pub(in crate::catalog) const SCHEMAS: usize = 1;
    pub(in crate::catalog) const RELATIONS: usize = 2;
    pub(in crate::catalog) const COLUMN_TYPES: usize = 3;
    pub(in crate::catalog) const TYPES: usize = 4;
    pub(in crate::catalog) const ROUTINES: usize = 5;
    pub(in crate::catalog) const BUILTIN_FUNCTIONS: usize = 6;
    pub(in crate::catalog) const OPERATORS: usize = 7;
    pub(in crate::catalog) const BUILTIN_OPERATORS: usize = 8;
    pub(in crate::catalog) const CASTS: usize = 9;
    pub(in crate::catalog) const HAZARDS: usize = 10;
    pub(in crate::catalog) const EXPRESSIONS: usize = 11;
    pub(in crate::catalog) const LINKS: usize = 12;
    pub(in crate::catalog) const EVERYWHERE: usize = 13;
    pub(in crate::catalog) const EVENT_TRIGGERS: usize = 14;
    pub(in crate::catalog) const COLUMNS: usize = 15;
    pub(in crate::catalog) const GENERATED: usize = 16;
    pub(in crate::catalog) const VIEWS: usize = 17;
    pub(in crate::catalog) const VIEW_READS: usize = 18;
    pub(in crate::catalog) const REMARKS: usize = 19;
    pub(in crate::catalog) const STAMPS: usize = 20;
    pub(in crate::catalog) const KEYS: usize = 21;
    pub(in crate::catalog) const COMPUTED: usize = 22;
    pub(in crate::catalog) const POLICIES: usize = 23;
    pub(in crate::catalog) const IN_C: usize = 24;
    pub(in crate::catalog) const AGGREGATES: usize = 25;
    pub(in crate::catalog) const COUNT: usize = 26;
}

/// The users' functions behind an operator class of that alias, as a list: those of its family, since any of them may be asked, and of
/// its access method.
macro_rules! behind_class {
    ($class:literal) => {
        concat!(
            "pg_catalog.array_to_string(ARRAY(SELECT b.o FROM (
  SELECT s.amproc::pg_catalog.oid FROM pg_catalog.pg_amproc s WHERE s.amprocfamily = ",
            $class,
            ".opcfamily
  UNION SELECT f.o FROM pg_catalog.pg_amop x JOIN pg_catalog.pg_operator q ON q.oid = x.amopopr,
    pg_catalog.unnest(ARRAY[q.oprcode, q.oprrest, q.oprjoin]::pg_catalog.oid[]) f(o) WHERE x.amopfamily = ",
            $class,
            ".opcfamily
  UNION SELECT h.amhandler::pg_catalog.oid FROM pg_catalog.pg_am h WHERE h.oid = ",
            $class,
            ".opcmethod) b(o) WHERE b.o >= 16384), ' ')"
        )
    };
}

/// The same behind operators of an array of oids.
macro_rules! behind_operators {
    ($operators:literal) => {
        concat!(
            "pg_catalog.array_to_string(ARRAY(SELECT DISTINCT f.o FROM pg_catalog.unnest(",
            $operators,
            ") u(o) JOIN pg_catalog.pg_operator q ON q.oid = u.o,
  pg_catalog.unnest(ARRAY[q.oprcode, q.oprrest, q.oprjoin]::pg_catalog.oid[]) f(o) WHERE f.o >= 16384), ' ')"
        )
    };
}

/// Every query of a load, in order.
pub const QUERIES: [Query; at::COUNT] = [
    Query {
        name: "server",
        columns: 2,
        sql: "SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.current_database()",
    },
    Query {
        name: "schemas",
        columns: 1,
        sql: r"SELECT nspname FROM pg_catalog.pg_namespace
WHERE nspname !~ '^pg_(toast|temp_)'",
    },
    Query {
        name: "relations",
        columns: 4,
        sql: r"SELECT c.oid, n.nspname, c.relname, c.relkind
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_(toast|temp_)' AND c.relkind <> 'c'
  AND (c.oid >= 16384 OR c.relkind NOT IN ('i', 'I'))",
    },
    Query {
        name: "types of columns",
        columns: 2,
        sql: r"SELECT DISTINCT a.attrelid, a.atttypid
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE a.atttypid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')",
    },
    Query {
        name: "types",
        columns: 11,
        sql: r"SELECT t.oid, n.nspname, t.typname, t.typtype, t.typcategory, t.typispreferred,
  CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END,
  t.typbasetype, t.typrelid, coalesce(r.rngsubtype, 0),
  pg_catalog.array_to_string(ARRAY(SELECT DISTINCT f.o FROM pg_catalog.unnest(ARRAY[t.typinput, t.typoutput, t.typreceive, t.typsend,
    t.typmodin, t.typmodout, t.typanalyze, t.typsubscript, r.rngcanonical, r.rngsubdiff]::pg_catalog.oid[]) f(o) WHERE f.o >= 16384 ORDER BY f.o), ' ')
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid OR r.rngmultitypid = t.oid
WHERE t.oid >= 16384 AND n.nspname !~ '^pg_(toast|temp_)'",
    },
    Query {
        name: "functions",
        columns: 9,
        sql: r"SELECT p.oid, n.nspname, p.proname, p.prokind, p.pronargdefaults, p.provariadic <> 0,
  p.proargtypes, pg_catalog.oidvectortypes(p.proargtypes), p.prorettype
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid >= 16384 AND n.nspname !~ '^pg_temp_'",
    },
    Query {
        name: "built-in functions",
        columns: 7,
        sql: r"SELECT p.oid, n.nspname, p.proname, p.prokind, p.pronargdefaults, p.provariadic <> 0, p.proargtypes
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid < 16384",
    },
    Query {
        name: "operators",
        columns: 9,
        sql: r"SELECT o.oid, n.nspname, o.oprname, o.oprleft, o.oprright, o.oprresult, pn.nspname, p.proname,
  CASE WHEN r.rolsuper THEN pg_catalog.concat_ws(' ', o.oprcode::pg_catalog.oid, o.oprrest::pg_catalog.oid, o.oprjoin::pg_catalog.oid) ELSE '' END
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_roles r ON r.oid = o.oprowner
WHERE o.oid >= 16384",
    },
    Query {
        name: "built-in operators",
        columns: 3,
        sql: r"SELECT o.oprname, o.oprleft, o.oprright FROM pg_catalog.pg_operator o
WHERE o.oid < 16384 AND o.oprcode <> 0",
    },
    Query {
        name: "casts",
        columns: 6,
        sql: r"SELECT c.castsource, c.casttarget, c.castcontext, pn.nspname, p.proname, c.castfunc
FROM pg_catalog.pg_cast c
LEFT JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
WHERE c.oid >= 16384",
    },
    Query { name: "triggers, rules and the like", columns: 4, sql: HAZARDS },
    Query { name: "expressions", columns: 6, sql: EXPRESSIONS },
    Query {
        name: "inheritance and foreign keys",
        columns: 6,
        sql: r"SELECT 'child', i.inhparent, i.inhrelid, c.relkind::pg_catalog.text, '', false
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent WHERE c.relkind IN ('r', 'p', 'f')
UNION ALL
SELECT DISTINCT 'key', k.confrelid, k.conrelid, k.confdeltype::pg_catalog.text, k.confupdtype::pg_catalog.text, k.condeferrable
FROM pg_catalog.pg_constraint k WHERE k.contype = 'f'",
    },
    Query {
        name: "code that any statement reaches",
        columns: 4,
        sql: concat!(
            r"SELECT 'class', c.opcintype, pg_catalog.format('operator class %I.%I compares by functions outside the built-ins', n.nspname, c.opcname),
  ",
            behind_class!("c"),
            r"
FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_namespace n ON n.oid = c.opcnamespace
WHERE c.oid >= 16384 AND c.opcdefault
UNION ALL
SELECT 'any', 0, pg_catalog.format('conversion %I.%I stands in the way of every text', n.nspname, c.conname), ''
FROM pg_catalog.pg_conversion c JOIN pg_catalog.pg_namespace n ON n.oid = c.connamespace
WHERE c.oid >= 16384 AND c.condefault
UNION ALL
SELECT 'search', 0, pg_catalog.format('text search template %I.%I is code outside the built-ins', n.nspname, t.tmplname), ''
FROM pg_catalog.pg_ts_template t JOIN pg_catalog.pg_namespace n ON n.oid = t.tmplnamespace WHERE t.oid >= 16384
UNION ALL
SELECT 'search', 0, pg_catalog.format('text search parser %I.%I is code outside the built-ins', n.nspname, t.prsname), ''
FROM pg_catalog.pg_ts_parser t JOIN pg_catalog.pg_namespace n ON n.oid = t.prsnamespace WHERE t.oid >= 16384
UNION ALL
(SELECT 'defines', 0, pg_catalog.format('function %I.%I may define what others run', n.nspname, p.proname), ''
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') AND (l.lanname NOT IN ('sql', 'plpgsql')
  OR p.prosrc ~* '\m(create|alter|drop|execute|prepare|deallocate|discard|import)\M|\mdo\M(?!\s+(nothing|update|instead|also)\M)'
  OR l.lanname = 'sql' AND pg_catalog.regexp_replace(p.prosrc, '\m(insert|merge)\s+into\M', '', 'gi') ~* '\minto\M')
ORDER BY p.oid LIMIT 1)"
        ),
    },
    Query {
        name: "event triggers",
        columns: 3,
        sql: r"SELECT e.evtname, n.nspname, p.proname FROM pg_catalog.pg_event_trigger e
JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace",
    },
    Query { name: "columns", columns: 7, sql: COLUMNS },
    Query { name: "inputs of generated columns", columns: 3, sql: GENERATED },
    Query {
        name: "definitions of views",
        columns: 2,
        sql: r"SELECT r.ev_class, CASE WHEN pg_catalog.octet_length(r.ev_action::pg_catalog.text) <= 4194304 THEN r.ev_action::pg_catalog.text END
FROM pg_catalog.pg_rewrite r WHERE r.rulename = '_RETURN' AND r.ev_class >= 16384",
    },
    Query {
        name: "columns that views read",
        columns: 3,
        sql: r"SELECT DISTINCT r.ev_class, d.refobjid, d.refobjsubid
FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d
  ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
WHERE r.rulename = '_RETURN' AND r.ev_class >= 16384 AND d.refobjid <> r.ev_class
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass",
    },
    Query {
        name: "labels and comments of columns",
        columns: 4,
        sql: r"SELECT s.objoid, s.objsubid, 'label', s.label FROM pg_catalog.pg_seclabel s
WHERE s.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND s.objsubid > 0 AND s.provider = 'anon'
UNION ALL
SELECT d.objoid, d.objsubid, 'comment', pg_catalog.left(d.description, 4096) FROM pg_catalog.pg_description d
WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid > 0 AND d.objoid >= 16384
  AND pg_catalog.strpos(d.description, 'pgturnstile:') > 0",
    },
    Query { name: "stamps of relations", columns: 2, sql: STAMPS },
    Query { name: "keys and checks", columns: 7, sql: KEYS },
    Query { name: "expressions that writes compute", columns: 5, sql: COMPUTED },
    Query {
        name: "row security policies",
        columns: 4,
        sql: r"SELECT p.polrelid, p.polname, coalesce(p.polqual::pg_catalog.text, ''), coalesce(p.polwithcheck::pg_catalog.text, '')
FROM pg_catalog.pg_policy p",
    },
    Query {
        name: "functions in C",
        columns: 4,
        sql: r"SELECT p.oid, coalesce(p.probin, ''), p.prosrc, 0
FROM pg_catalog.pg_proc p
WHERE p.oid >= 16384 AND p.prolang = 13 AND p.proconfig IS NULL AND p.prosupport::pg_catalog.oid < 16384
UNION ALL
SELECT p.oid, '', p.prosrc, b.oid
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_proc b ON b.prosrc = p.prosrc AND b.prolang = 12 AND b.oid < 16384
WHERE p.oid >= 16384 AND p.prolang = 12 AND p.proconfig IS NULL AND p.prosupport::pg_catalog.oid < 16384",
    },
    Query {
        name: "aggregates",
        columns: 2,
        sql: r"SELECT p.oid, pg_catalog.concat_ws(' ', a.aggtransfn::pg_catalog.oid, a.aggfinalfn::pg_catalog.oid, a.aggcombinefn::pg_catalog.oid,
  a.aggserialfn::pg_catalog.oid, a.aggdeserialfn::pg_catalog.oid, a.aggmtransfn::pg_catalog.oid, a.aggminvtransfn::pg_catalog.oid,
  a.aggmfinalfn::pg_catalog.oid, q.oprcode::pg_catalog.oid)
FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc p ON p.oid = a.aggfnoid JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
LEFT JOIN pg_catalog.pg_operator q ON q.oid = a.aggsortop
WHERE p.oid >= 16384 AND r.rolsuper",
    },
];

/// (relation, hash over the rows that make it what it is): rows are known by oid and xmin, as in [`FINGERPRINT`], save that of
/// `pg_class`, which GRANT, TRUNCATE and the like write anew.
const STAMPS: &str = r"SELECT s.relation, pg_catalog.bit_xor(s.hash) FROM (
SELECT c.oid, pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', c.relnamespace, c.reltype, c.relkind, c.relrowsecurity, c.relispartition, c.relname), 1) FROM pg_catalog.pg_class c
UNION ALL SELECT a.attrelid, pg_catalog.hashint8extended(a.attrelid::pg_catalog.int8 << 32 | a.xmin::pg_catalog.text::pg_catalog.int8, a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attnum > 0
UNION ALL SELECT r.ev_class, pg_catalog.hashint8extended(r.oid::pg_catalog.int8 << 32 | r.xmin::pg_catalog.text::pg_catalog.int8, 2) FROM pg_catalog.pg_rewrite r
UNION ALL SELECT i.inhparent, pg_catalog.hashint8extended(i.inhrelid::pg_catalog.int8 << 32 | i.xmin::pg_catalog.text::pg_catalog.int8, 3) FROM pg_catalog.pg_inherits i
UNION ALL SELECT i.inhrelid, pg_catalog.hashint8extended(i.inhparent::pg_catalog.int8 << 32 | i.xmin::pg_catalog.text::pg_catalog.int8, 4) FROM pg_catalog.pg_inherits i
UNION ALL SELECT y.polrelid, pg_catalog.hashint8extended(y.oid::pg_catalog.int8 << 32 | y.xmin::pg_catalog.text::pg_catalog.int8, 5) FROM pg_catalog.pg_policy y
UNION ALL SELECT t.tgrelid, pg_catalog.hashint8extended(t.oid::pg_catalog.int8 << 32 | t.xmin::pg_catalog.text::pg_catalog.int8, 6) FROM pg_catalog.pg_trigger t
UNION ALL SELECT k.conrelid, pg_catalog.hashint8extended(k.oid::pg_catalog.int8 << 32 | k.xmin::pg_catalog.text::pg_catalog.int8, 7) FROM pg_catalog.pg_constraint k
) s(relation, hash) WHERE s.relation >= 16384 GROUP BY s.relation";

/// (relation, name, kind, its columns, the relation that a foreign key references, that one's columns, ON DELETE and ON UPDATE):
/// what answers a writer. Kinds are `u` unique, `x` exclusion, `c` check, `f` foreign key, `p` partition key. The columns of an index are those of
/// its key and those that its expressions and predicate read. Kinds `o` and, with a predicate, `q` demand nothing: rows may be read in the order
/// of such an index; its columns are those of its key (0 is an expression), and in the other's place those that it includes.
const KEYS: &str = r"SELECT i.indrelid, c.relname, CASE WHEN i.indisexclusion THEN 'x' ELSE 'u' END,
  pg_catalog.array_to_string(ARRAY(
    SELECT k.number::pg_catalog.int4 FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(number, at)
    WHERE k.number > 0 AND k.at <= i.indnkeyatts
    UNION
    SELECT d.refobjsubid FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid
      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0 AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
  ), ' '), 0, '', ''
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE (i.indisunique OR i.indisexclusion) AND i.indrelid >= 16384 AND c.relpersistence <> 't'
UNION ALL
SELECT i.indrelid, c.relname, CASE WHEN i.indpred IS NULL THEN 'o' ELSE 'q' END,
  pg_catalog.array_to_string(ARRAY(
    SELECT k.number FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(number, at) WHERE k.at <= i.indnkeyatts), ' '), 0,
  pg_catalog.array_to_string(ARRAY(
    SELECT k.number FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(number, at) WHERE k.at > i.indnkeyatts), ' '), ''
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam
WHERE i.indrelid >= 16384 AND c.relpersistence <> 't' AND NOT c.relispartition AND (i.indnatts > 1 OR i.indpred IS NOT NULL)
  AND m.amname NOT IN ('hash', 'gin', 'brin')
UNION ALL
SELECT k.conrelid, k.conname, k.contype::pg_catalog.text, pg_catalog.array_to_string(k.conkey, ' '), k.confrelid,
  coalesce(pg_catalog.array_to_string(k.confkey, ' '), ''), pg_catalog.concat(k.confdeltype, k.confupdtype)
FROM pg_catalog.pg_constraint k
WHERE k.contype IN ('c', 'f') AND k.conrelid >= 16384 AND k.conkey IS NOT NULL
UNION ALL
SELECT p.partrelid, c.relname, 'p', pg_catalog.array_to_string(ARRAY(
    SELECT DISTINCT d.refobjsubid FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = p.partrelid AND d.objsubid = 0 AND d.refobjid = p.partrelid
      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0
  ), ' '), 0, '', ''
FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_class c ON c.oid = p.partrelid WHERE p.partrelid >= 16384";

/// (relation, name, kind, expressions, predicate), the latter two as trees: what a write computes of its row. Kinds are `g` generated column,
/// `i` index, `u` unique or exclusion index, `p` partition key.
const COMPUTED: &str = r"SELECT d.adrelid, a.attname, 'g', d.adbin::pg_catalog.text, ''
FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
JOIN pg_catalog.pg_class c ON c.oid = d.adrelid
WHERE a.attgenerated <> '' AND d.adrelid >= 16384 AND c.relpersistence <> 't'
UNION ALL
SELECT i.indrelid, c.relname, CASE WHEN i.indisunique OR i.indisexclusion THEN 'u' ELSE 'i' END,
  coalesce(i.indexprs::pg_catalog.text, ''), coalesce(i.indpred::pg_catalog.text, '')
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND i.indrelid >= 16384 AND c.relpersistence <> 't'
UNION ALL
SELECT p.partrelid, c.relname, 'p', p.partexprs::pg_catalog.text, ''
FROM pg_catalog.pg_partitioned_table p JOIN pg_catalog.pg_class c ON c.oid = p.partrelid
WHERE p.partexprs IS NOT NULL AND p.partrelid >= 16384";

/// The moment that the session sees: two equal ones see the same commits, so that nothing has changed between them.
/// NULL on a standby, whose list of running transactions stands elsewhere (`GetSnapshotData`, src/backend/storage/ipc/procarray.c).
pub const MOMENT: &str = "SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_snapshot()::pg_catalog.text END";

/// (relation, number, name, type, the type's category, generated, whether its default varies). A default is the column's own, or else that of its
/// domain. It is fixed where it is made of constants by immutable built-ins alone, or of what the server draws and no session moves: the
/// clock as it is, random UUIDs. Dates of the clock depend on the time zone, `random()` on its seed.
const COLUMNS: &str = r"SELECT a.attrelid, a.attnum, a.attname, a.atttypid, t.typcategory, a.attgenerated <> '',
  a.attgenerated = '' AND (a.attidentity <> '' OR EXISTS (
    SELECT FROM pg_catalog.regexp_matches(coalesce(d.adbin::pg_catalog.text, t.typdefaultbin::pg_catalog.text), '\{([A-Z]+)|:(funcid|opno) ([0-9]+)', 'g') m(m)
    LEFT JOIN pg_catalog.pg_operator o ON m.m[2] = 'opno' AND o.oid = m.m[3]::pg_catalog.oid
    LEFT JOIN pg_catalog.pg_proc p ON p.oid = CASE m.m[2] WHEN 'funcid' THEN m.m[3]::pg_catalog.oid ELSE o.oprcode END
    WHERE CASE WHEN m.m[2] IS NULL THEN m.m[1] NOT IN ('CONST', 'FUNCEXPR', 'OPEXPR', 'RELABELTYPE', 'ARRAY', 'ARRAYEXPR',
        'COLLATE', 'COLLATEEXPR') AND m.m[1] NOT LIKE 'COERCE__DOMAIN'
      ELSE p.oid IS NULL OR p.oid >= 16384 OR p.provolatile <> 'i' AND p.proname NOT IN ('now', 'transaction_timestamp',
        'statement_timestamp', 'clock_timestamp', 'gen_random_uuid', 'uuidv4', 'uuidv7') END))
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname !~ '^pg_(toast|temp_)'
ORDER BY a.attrelid, a.attnum";

/// (relation, generated column, column that it is computed from). The dependency is the column's before version 15, and
/// its expression's from there on.
const GENERATED: &str = r"SELECT a.attrelid, a.attnum, d.refobjsubid
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_depend d ON d.objid = a.attrelid AND d.objsubid = a.attnum
WHERE a.attgenerated <> '' AND a.attrelid >= 16384 AND d.refobjid = a.attrelid AND d.refobjsubid > 0
  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
UNION
SELECT e.adrelid, e.adnum, d.refobjsubid
FROM pg_catalog.pg_attrdef e JOIN pg_catalog.pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum
JOIN pg_catalog.pg_depend d ON d.objid = e.oid
WHERE a.attgenerated <> '' AND a.attrelid >= 16384 AND d.refobjid = e.adrelid AND d.refobjsubid > 0
  AND d.refobjsubid <> e.adnum
  AND d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass";

/// (relation, mask, reason, the users' functions that it comes to where it is operators or their classes): what stands in the way of a
/// relation other than expressions. A disabled trigger counts: it takes one statement to enable it. Internal triggers of foreign keys and deferred uniqueness are built-ins and none.
const HAZARDS: &str = concat!(
    r"SELECT t.tgrelid,
  CASE WHEN t.tgtype::pg_catalog.int4 & 4 > 0 THEN 2 ELSE 0 END + CASE WHEN t.tgtype::pg_catalog.int4 & 16 > 0 THEN 4 ELSE 0 END
  + CASE WHEN t.tgtype::pg_catalog.int4 & 8 > 0 THEN 8 ELSE 0 END + CASE WHEN t.tgtype::pg_catalog.int4 & 32 > 0 THEN 16 ELSE 0 END
  + CASE WHEN t.tgdeferrable THEN 64 ELSE 0 END,
  pg_catalog.format('has trigger %I, which runs %I.%I()', t.tgname, n.nspname, p.proname), NULL
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE NOT (p.oid < 16384 AND (p.proname LIKE 'RI\_FKey\_%' OR p.proname = 'unique_key_recheck'))
UNION ALL
SELECT r.ev_class, CASE r.ev_type WHEN '1' THEN 1 WHEN '2' THEN 4 WHEN '3' THEN 2 WHEN '4' THEN 8 ELSE 31 END,
  pg_catalog.format('has rule %I', r.rulename), NULL
FROM pg_catalog.pg_rewrite r WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT DISTINCT i.indrelid, 1 + CASE WHEN i.indimmediate THEN 0 ELSE 64 END, pg_catalog.format('has index %I, which compares by operator class %I.%I', c.relname, n.nspname, o.opcname),
  ",
    behind_class!("o"),
    r"
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid,
  pg_catalog.unnest(i.indclass::pg_catalog.oid[]) k(o) JOIN pg_catalog.pg_opclass o ON o.oid = k.o
  JOIN pg_catalog.pg_namespace n ON n.oid = o.opcnamespace
WHERE k.o >= 16384
UNION ALL
SELECT i.indrelid, 1, pg_catalog.format('has index %I of access method %I', c.relname, a.amname), a.amhandler::pg_catalog.oid::pg_catalog.text
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE a.oid >= 16384
UNION ALL
SELECT c.oid, 1, pg_catalog.format('has access method %I', a.amname), NULL
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE a.oid >= 16384 AND c.relkind IN ('r', 'p', 'm')
UNION ALL
SELECT k.conrelid, 1 + CASE WHEN k.condeferrable THEN 64 ELSE 0 END, pg_catalog.format('has constraint %I, which compares by operators outside the built-ins', k.conname),
  ",
    behind_operators!("k.conexclop || k.conpfeqop || k.conppeqop || k.conffeqop"),
    r"
FROM pg_catalog.pg_constraint k
WHERE EXISTS (SELECT 1 FROM pg_catalog.unnest(k.conexclop || k.conpfeqop || k.conppeqop || k.conffeqop) o(o) WHERE o.o >= 16384)
UNION ALL
SELECT k.confrelid, 1 + CASE WHEN k.condeferrable THEN 64 ELSE 0 END, pg_catalog.format('has constraint %I, which compares by operators outside the built-ins', k.conname),
  ",
    behind_operators!("k.conpfeqop || k.conppeqop || k.conffeqop"),
    r"
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND EXISTS (SELECT 1 FROM pg_catalog.unnest(k.conpfeqop || k.conppeqop || k.conffeqop) o(o) WHERE o.o >= 16384)
UNION ALL
SELECT p.partrelid, 32, pg_catalog.format('has a partition key that compares by operator class %I, outside the built-ins', o.opcname),
  ",
    behind_class!("o"),
    r"
FROM pg_catalog.pg_partitioned_table p, pg_catalog.unnest(p.partclass::pg_catalog.oid[]) k(o) JOIN pg_catalog.pg_opclass o ON o.oid = k.o
WHERE k.o >= 16384
UNION ALL
SELECT c.oid, 128, 'has row security', NULL FROM pg_catalog.pg_class c WHERE c.relrowsecurity"
);

/// (`r` relation or `t` type, its oid, mask, what holds the expression, key, oid): every function, operator, type and
/// relation that an expression names, read off the server's own analysed tree. Built-in operators are left out: all are
/// reviewed, or found by `built-in operators`. A list of oids (`(o …)`: operators of a row comparison, collations) counts
/// where it holds one outside the built-ins.
const EXPRESSIONS: &str = r"WITH trees (owner, oid, mask, holder, tree) AS (
SELECT 'r', d.adrelid, CASE WHEN a.attgenerated = 'v' THEN 1 ELSE 6 END,
  pg_catalog.format(CASE WHEN a.attgenerated = '' THEN 'a default on column %I' ELSE 'generated column %I' END, a.attname), d.adbin::pg_catalog.text
FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
UNION ALL
SELECT CASE WHEN k.conrelid <> 0 THEN 'r' ELSE 't' END, CASE WHEN k.conrelid <> 0 THEN k.conrelid ELSE k.contypid END, 1,
  pg_catalog.format('check constraint %I', k.conname), k.conbin::pg_catalog.text
FROM pg_catalog.pg_constraint k WHERE k.contype = 'c'
UNION ALL
SELECT 'r', p.polrelid, 1, pg_catalog.format('row security policy %I', p.polname),
  pg_catalog.concat(p.polqual::pg_catalog.text, p.polwithcheck::pg_catalog.text)
FROM pg_catalog.pg_policy p
UNION ALL
SELECT 'r', i.indrelid, 1 + CASE WHEN i.indimmediate THEN 0 ELSE 64 END, pg_catalog.format('index %I', c.relname),
  pg_catalog.concat(i.indexprs::pg_catalog.text, i.indpred::pg_catalog.text)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
UNION ALL
SELECT 'r', s.stxrelid, 1, pg_catalog.format('extended statistics %I', s.stxname), s.stxexprs::pg_catalog.text
FROM pg_catalog.pg_statistic_ext s WHERE s.stxexprs IS NOT NULL
UNION ALL
SELECT 'r', p.partrelid, 32, 'a partition key', p.partexprs::pg_catalog.text
FROM pg_catalog.pg_partitioned_table p WHERE p.partexprs IS NOT NULL
UNION ALL
SELECT 't', t.oid, 1, 'a default', t.typdefaultbin::pg_catalog.text
FROM pg_catalog.pg_type t WHERE t.typdefaultbin IS NOT NULL AND t.typtype = 'd'
)
SELECT DISTINCT t.owner, t.oid, t.mask, t.holder, x.key, x.value
FROM trees t, LATERAL (
  SELECT k.key, pg_catalog.rtrim(pg_catalog.split_part(f.field, ' ', 2), '})') FROM pg_catalog.string_to_table(t.tree, ' :') f(field),
    LATERAL (SELECT pg_catalog.split_part(f.field, ' ', 1)) k(key)
  WHERE k.key IN ('funcid', 'opfuncid', 'opno', 'hashfuncid', 'negfuncid', 'aggfnoid', 'winfnoid', 'eqop', 'sortop', 'tsmhandler',
    'startInRangeFunc', 'endInRangeFunc', 'resulttype', 'relid')
  UNION ALL
  SELECT 'list', l.o FROM pg_catalog.string_to_table(t.tree, ' :') f(field),
    pg_catalog.regexp_matches(f.field, '\(o ([0-9 ]+)\)', 'g') r(r), pg_catalog.string_to_table(r.r[1], ' ') l(o)
  WHERE pg_catalog.strpos(f.field, '(o ') > 0
) x(key, value)
WHERE x.value ~ '^[1-9][0-9]*$'
  AND (x.value::pg_catalog.int8 >= 16384 OR x.key IN ('funcid', 'aggfnoid', 'winfnoid', 'tsmhandler', 'relid'))";

/// One row of two texts: the first differs once the catalog differs in anything that a snapshot holds. Rows are known by oid and
/// xmin (lineage.md 4.4): ANALYZE does not disturb it, and temporary
/// objects are left out, save temporary children of permanent tables: what they hold is reached through their parents. The second is the
/// [`MOMENT`] that it is of.
pub const FINGERPRINT: &str = r"SELECT pg_catalog.current_setting('server_version_num') OPERATOR(pg_catalog.||) ':' OPERATOR(pg_catalog.||)
  pg_catalog.string_agg(s.name OPERATOR(pg_catalog.||) s.rows OPERATOR(pg_catalog.||) '.' OPERATOR(pg_catalog.||) coalesce(s.hash, 0), ':' ORDER BY s.name),
  min(CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_snapshot()::pg_catalog.text END)
FROM (
SELECT 'n' AS name, count(*) AS rows, bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 0)) AS hash FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_(toast|temp_)'
UNION ALL SELECT 'c', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 1)) FROM pg_catalog.pg_class WHERE oid >= 16384 AND relpersistence <> 't' AND relkind <> 't'
UNION ALL SELECT 'a', count(*), bit_xor(pg_catalog.hashint8extended(a.attrelid::int8 << 32 | a.xmin::text::int8, a.attnum)) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE a.attrelid >= 16384 AND a.attnum > 0 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't'
UNION ALL SELECT 't', count(*), bit_xor(pg_catalog.hashint8extended(t.oid::int8 << 32 | t.xmin::text::int8, 2)) FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid >= 16384 AND n.nspname !~ '^pg_(toast|temp_)'
UNION ALL SELECT 'p', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 3)) FROM pg_catalog.pg_proc WHERE oid >= 16384
UNION ALL SELECT 'o', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 4)) FROM pg_catalog.pg_operator WHERE oid >= 16384
UNION ALL SELECT 'k', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 5)) FROM pg_catalog.pg_cast WHERE oid >= 16384
UNION ALL SELECT 'g', count(*), bit_xor(pg_catalog.hashint8extended(t.oid::int8 << 32 | t.xmin::text::int8, 6)) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid WHERE c.relpersistence <> 't'
UNION ALL SELECT 'r', count(*), bit_xor(pg_catalog.hashint8extended(r.oid::int8 << 32 | r.xmin::text::int8, 7)) FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class WHERE r.oid >= 16384 AND c.relpersistence <> 't'
UNION ALL SELECT 'y', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 8)) FROM pg_catalog.pg_policy
UNION ALL SELECT 'b', count(*), bit_xor(pg_catalog.hashint8extended(k.oid::int8 << 32 | k.xmin::text::int8, 9)) FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid WHERE k.oid >= 16384 AND c.relpersistence IS DISTINCT FROM 't'
UNION ALL SELECT 'd', count(*), bit_xor(pg_catalog.hashint8extended(d.oid::int8 << 32 | d.xmin::text::int8, 10)) FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_class c ON c.oid = d.adrelid WHERE c.relpersistence <> 't'
UNION ALL SELECT 'i', count(*), bit_xor(pg_catalog.hashint8extended(i.indexrelid::int8 << 32 | i.xmin::text::int8, 11)) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indexrelid >= 16384 AND c.relpersistence <> 't' AND c.relnamespace <> 99
UNION ALL SELECT 'h', count(*), bit_xor(pg_catalog.hashint8extended(i.inhrelid::int8 << 32 | i.xmin::text::int8, i.inhparent::int8)) FROM pg_catalog.pg_inherits i
UNION ALL SELECT 'q', count(*), bit_xor(pg_catalog.hashint8extended(partrelid::int8 << 32 | xmin::text::int8, 12)) FROM pg_catalog.pg_partitioned_table
UNION ALL SELECT 's', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 13)) FROM pg_catalog.pg_statistic_ext
UNION ALL SELECT 'e', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 14)) FROM pg_catalog.pg_event_trigger
UNION ALL SELECT 'l', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 15)) FROM pg_catalog.pg_opclass WHERE oid >= 16384
UNION ALL SELECT 'm', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 16)) FROM pg_catalog.pg_am WHERE oid >= 16384
UNION ALL SELECT 'A', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 20)) FROM pg_catalog.pg_amop WHERE oid >= 16384
UNION ALL SELECT 'B', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 21)) FROM pg_catalog.pg_amproc WHERE oid >= 16384
UNION ALL SELECT 'v', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 17)) FROM pg_catalog.pg_conversion WHERE oid >= 16384
UNION ALL SELECT 'w', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 18)) FROM pg_catalog.pg_ts_template WHERE oid >= 16384
UNION ALL SELECT 'x', count(*), bit_xor(pg_catalog.hashint8extended(oid::int8 << 32 | xmin::text::int8, 19)) FROM pg_catalog.pg_ts_parser WHERE oid >= 16384
UNION ALL SELECT 'z', count(*), bit_xor(pg_catalog.hashint8extended(s.objoid::int8 << 32 | s.xmin::text::int8, s.objsubid)) FROM pg_catalog.pg_seclabel s WHERE s.objsubid > 0 AND s.provider = 'anon'
UNION ALL SELECT 'Z', count(*), bit_xor(pg_catalog.hashint8extended(d.objoid::int8 << 32 | d.xmin::text::int8, d.objsubid)) FROM pg_catalog.pg_description d WHERE d.objoid >= 16384 AND d.objsubid > 0 AND pg_catalog.strpos(d.description, 'pgturnstile:') > 0
) s";

#[cfg(test)]
mod tests {
    /// A server whose database has another encoding than UTF-8 would refuse what it cannot spell.
    #[test]
    fn every_query_is_ascii() {
        let queries = super::QUERIES.iter().map(|query| query.sql);
        assert!(
            queries
                .chain([super::OPEN, super::GREET, super::CLOSE, super::FINGERPRINT, super::MOMENT])
                .all(str::is_ascii)
        );
    }
}
