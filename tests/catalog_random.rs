//! Random statements against a server whose user functions leave a trace: what is resolved as code-free moves none.
//!
//! The traces are a sequence (see fixtures/hostile.sql). The generator is a fixed walk, so a failure repeats.

use pgturnstile_rules::resolve::{Code, SessionView};
use pgturnstile_tests::Postgres;
use pgturnstile_tests::catalog::{resolution, snapshot};

/// A type of an extension in the manner of citext: strings of its own, with built-in functions that leave no trace, and
/// objects over several types that compete with built-ins for their names.
const COMPETING: &str = r#"
CREATE TYPE public.ci;
CREATE FUNCTION public.ciin(cstring) RETURNS public.ci IMMUTABLE STRICT LANGUAGE internal AS 'textin';
CREATE FUNCTION public.ciout(public.ci) RETURNS cstring IMMUTABLE STRICT LANGUAGE internal AS 'textout';
CREATE TYPE public.ci (INPUT = public.ciin, OUTPUT = public.ciout, LIKE = text, CATEGORY = 'S');
CREATE CAST (public.ci AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (text AS public.ci) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (varchar AS public.ci) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE FUNCTION lab.ci_is(public.ci, public.ci) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM nextval('lab.hits'); RETURN true; END$$;
CREATE FUNCTION lab.ci_text(public.ci, text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM nextval('lab.hits'); RETURN true; END$$;
CREATE OPERATOR public.= (LEFTARG = public.ci, RIGHTARG = public.ci, FUNCTION = lab.ci_is);
CREATE OPERATOR public.~~ (LEFTARG = public.ci, RIGHTARG = text, FUNCTION = lab.ci_text);
CREATE OPERATOR public.<-> (LEFTARG = public.ci, RIGHTARG = public.ci, FUNCTION = lab.ci_is);
CREATE FUNCTION public.strpos(public.ci, public.ci) RETURNS int LANGUAGE sql AS $$SELECT lab.number(1)$$;
CREATE FUNCTION public.replace(public.ci, text, text) RETURNS text LANGUAGE sql AS $$SELECT lab.word('r')$$;
CREATE FUNCTION public.lower(crm.email) RETURNS text LANGUAGE sql AS $$SELECT lab.word('l')$$;
CREATE FUNCTION public.length(varchar, varchar) RETURNS int LANGUAGE sql AS $$SELECT lab.number(1)$$;
CREATE FUNCTION public.round(double precision, int) RETURNS int LANGUAGE sql AS $$SELECT lab.number(1)$$;
CREATE FUNCTION public.bits(anyelement) RETURNS int LANGUAGE sql AS $$SELECT lab.number(1)$$;
CREATE TABLE crm.mixed (id int, small smallint, big bigint, n numeric, f double precision, t text, v varchar, c char(3), b bool,
    d date, j jsonb, a int[], mood crm.mood, e crm.email, i public.ci, p crm.plain);
INSERT INTO crm.mixed SELECT 1, 2, 3, 4, 5, 'abc', 'abc', 'abc', true, '2026-01-01', '{"a": 1}', '{1,2}', 'sad', 'x@y', 'abc', p FROM crm.plain p;
CREATE TABLE crm.tame AS SELECT id, small, big, n, f, t, v, c, b, d, j, a FROM crm.mixed;
GRANT ALL ON ALL TABLES IN SCHEMA crm TO agent; GRANT ALL ON ALL SEQUENCES IN SCHEMA lab TO agent;
"#;

const PATH: [&str; 2] = ["crm", "public"];

/// The minimal standard generator of Park and Miller: all that is asked of it is to repeat.
struct Dice(u64);

impl Dice {
    fn pick<'p>(&mut self, of: &[&'p str]) -> &'p str {
        self.0 = self.0 * 48_271 % 2_147_483_647;
        of[usize::try_from(self.0).unwrap_or(usize::MAX) % of.len()]
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.0 = self.0 * 48_271 % 2_147_483_647;
        self.0.is_multiple_of(one_in)
    }

    fn value(&mut self, table: &str, depth: u8) -> String {
        if depth == 0 || self.chance(3) {
            return if self.chance(3) { self.literal() } else { self.column(table) };
        }
        match self.pick(&["call", "call", "operator", "operator", "cast", "case", "in", "field", "row"]) {
            "call" => self.call(table, depth - 1),
            "cast" => {
                let to = self.pick(&[
                    "text",
                    "varchar",
                    "int",
                    "numeric",
                    "crm.mood",
                    "crm.email",
                    "ci",
                    "date",
                    "jsonb",
                ]);
                format!("({})::{to}", self.value(table, depth - 1))
            }
            "case" => format!(
                "(CASE {} WHEN {} THEN 1 ELSE 2 END)",
                self.value(table, depth - 1),
                self.value(table, depth - 1)
            ),
            "in" => format!(
                "({} IN ({}, {}))",
                self.value(table, depth - 1),
                self.literal(),
                self.value(table, depth - 1)
            ),
            "field" => format!("x.{}", self.pick(&["id", "t", "v", "fullname", "bits", "upper", "b"])),
            "row" => {
                format!("(ROW({}) = ROW({}))", self.value(table, depth - 1), self.value(table, depth - 1))
            }
            _ => {
                let operator = self.pick(&["=", "<>", "||", "+", "-", "<", "~~", "<->", "->>", "@>", "*"]);
                format!("({} {operator} {})", self.value(table, depth - 1), self.value(table, depth - 1))
            }
        }
    }

    fn call(&mut self, table: &str, depth: u8) -> String {
        let name = self.pick(&[
            "upper",
            "lower",
            "initcap",
            "abs",
            "ltrim",
            "length",
            "round",
            "replace",
            "strpos",
            "concat",
            "coalesce",
            "nullif",
            "max",
            "min",
            "count",
            "best",
            "to_jsonb",
            "format",
            "greatest",
            "left",
            "ci",
            "bits",
            "to_char",
            "array_agg",
        ]);
        let count = match name {
            "replace" => 3,
            "round" | "strpos" | "nullif" | "left" | "to_char" => 2,
            "length" | "ltrim" => 1 + u8::from(self.chance(2)) * if name == "ltrim" { 2 } else { 1 },
            _ => 1,
        };
        let arguments: Vec<String> = (0..count).map(|_| self.value(table, depth)).collect();
        format!("{name}({})", arguments.join(", "))
    }

    fn literal(&mut self) -> String {
        self.pick(&["1", "2.5", "'abc'", "'1'", "NULL", "true", "'sad'", "'{1}'", "current_date", "-1"])
            .to_owned()
    }

    fn column(&mut self, table: &str) -> String {
        let tame = ["id", "small", "big", "n", "f", "t", "v", "c", "b", "d", "j", "a"];
        if table == "crm.tame" || self.chance(2) {
            return self.pick(&tame).to_owned();
        }
        self.pick(&["mood", "e", "i", "p", "x"]).to_owned()
    }

    fn statement(&mut self) -> String {
        let table = self.pick(&["crm.tame", "crm.tame", "crm.mixed"]);
        let value = self.value(table, 2);
        match self.pick(&["select", "select", "where", "order", "update"]) {
            "where" => format!("SELECT id FROM {table} x WHERE {} = {value}", self.value(table, 1)),
            "order" => format!("SELECT DISTINCT {value} FROM {table} x ORDER BY 1"),
            "update" => format!("UPDATE {table} x SET {} = {value}", self.column(table)),
            _ => format!("SELECT {value} FROM {table} x"),
        }
    }
}

#[test]
fn what_is_code_free_leaves_no_trace() {
    let server = Postgres::builder(21200..21260).start();
    server.create_database("hostile");
    server.execute("hostile", include_str!("fixtures/hostile.sql"));
    server.execute("hostile", COMPETING);
    let snapshot = snapshot(&server, "hostile");
    let session = server.session("hostile");
    session.run("SET search_path TO crm, public; SET ROLE agent");
    let hits = || session.query("SELECT last_value, is_called FROM lab.hits");
    let mut dice = Dice(20_261_120);
    let (mut free, mut ran_free, mut traced) = (0, 0, 0);
    for _ in 0..3_000 {
        let sql = dice.statement();
        let resolution = resolution(&snapshot, &PATH, &SessionView::default(), &sql);
        let before = hits();
        let ran = session.try_query(&format!("BEGIN; {sql}; ROLLBACK")).is_ok();
        session.run("ROLLBACK");
        let trace = hits() != before;
        if resolution.code == Code::Free {
            free += 1;
            ran_free += i32::from(ran);
            assert!(!trace, "code of a user ran in a statement that is code-free: {sql}");
        }
        traced += i32::from(trace);
    }
    // Blunt dice would prove nothing: many must be free and run, and many leave a trace.
    assert!(ran_free > 200 && traced > 50, "{free} free, {ran_free} of them ran, {traced} left a trace");
}

#[test]
fn an_extensions_strings_do_not_slow_the_rest() {
    let server = Postgres::builder(21200..21260).start();
    server.create_database("hostile");
    server.execute("hostile", include_str!("fixtures/hostile.sql"));
    server.execute("hostile", COMPETING);
    let snapshot = snapshot(&server, "hostile");
    let code = |sql: &str| resolution(&snapshot, &PATH, &SessionView::default(), sql).code;
    for sql in [
        "SELECT id FROM crm.tame WHERE t = 'abc' AND id = 1",
        "SELECT strpos(t, 'b'), replace(t, 'a', 'b') FROM crm.tame WHERE t LIKE 'a%'",
        "SELECT 'a' = 'b'",
        "SELECT strpos('a', 'b')",
    ] {
        assert_eq!(code(sql), Code::Free, "{sql}");
    }
    for sql in [
        "SELECT id FROM crm.mixed WHERE i = 'abc'",
        "SELECT 'a'::ci = 'b'",
        "SELECT ci('a') = 'b'",
        "SELECT strpos(i, 'b') FROM crm.mixed",
        "SELECT 'a' <-> 'b'",
    ] {
        assert!(matches!(code(sql), Code::Named(_)), "{sql}: {:?}", code(sql));
    }
    assert!(matches!(code("SELECT id FROM crm.mixed"), Code::ThroughRelations(_)));
}
