//! The door under texts that are long, deep or both: accepted where PostgreSQL's defaults accept and the cap allows,
//! refused by name else, and the process alive with stack to spare.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails so"
)]

use std::sync::mpsc;

use pgturnstile_rules::statement::facts::TextFacts;
use pgturnstile_rules::statement::{
    Limits, Parser, PoolSettings, Unparsable, facts_here, on_parser_stack, spawn_parser_thread,
};

const MIB: usize = 1024 * 1024;

/// Facts under the default cap, or a given one.
fn facts(sql: &str, text_bytes_max: usize) -> Result<TextFacts, Unparsable> {
    on_parser_stack(|| facts_here(sql.as_bytes(), &Limits { text_bytes_max }))
}

fn default_cap(sql: &str) -> Result<TextFacts, Unparsable> {
    facts(sql, Limits::default().text_bytes_max)
}

fn sum(terms: usize) -> String {
    format!("select {}", vec!["1"; terms].join("+"))
}

fn or_chain(bytes: usize) -> String {
    let mut sql = String::from("select 1 from t where a = 1");
    while sql.len() < bytes {
        sql.push_str(" or a = 1");
    }
    sql
}

/// `open` n times, a core, `close` n times.
fn nest(n: usize, open: &str, core: &str, close: &str) -> String {
    open.repeat(n) + core + &close.repeat(n)
}

#[test]
fn sums() {
    for terms in [1_000, 4_900] {
        assert_eq!(default_cap(&sum(terms)).unwrap().statements.len(), 1, "{terms} terms");
    }
    for terms in [10_000, 60_000] {
        assert_eq!(default_cap(&sum(terms)).unwrap_err(), Unparsable::TooDeep, "{terms} terms");
    }
    assert_eq!(facts(&sum(520_000), 2 * MIB).unwrap_err(), Unparsable::TooDeep);
}

#[test]
fn ordinary_nesting() {
    let selects = format!("select * from {}", nest(23, "(select * from ", "t", ") x"));
    assert_eq!(default_cap(&selects).unwrap().statements[0].relations.len(), 1);
    let joins: String = (0..46).map(|i| format!(" join t{i} on t{i}.a = t.a")).collect();
    let facts = default_cap(&format!("select * from t{joins}")).unwrap();
    assert_eq!(facts.statements[0].relations.len(), 47);
    let unions = vec!["select a from t"; 93].join(" union all ");
    assert!(default_cap(&unions).is_ok());
}

#[test]
fn nots() {
    assert!(default_cap(&format!("select {} true", "not ".repeat(4_990))).is_ok());
    assert_eq!(
        default_cap(&format!("select {} true", "not ".repeat(20_000))).unwrap_err(),
        Unparsable::TooDeep
    );
}

#[test]
fn long_and_flat() {
    let within = or_chain(256 * 1024 - 16);
    assert_eq!(default_cap(&within).unwrap().statements[0].relations.len(), 1);
    let megabyte = or_chain(MIB);
    assert!(matches!(default_cap(&megabyte), Err(Unparsable::TooLong { bytes_max: 262_144, .. })));
    assert!(facts(&megabyte, 2 * MIB).is_ok());
}

#[test]
fn five_megabytes() {
    for text in
        [or_chain(5 * MIB), sum(5 * MIB / 2), "x".repeat(5 * MIB), "(".repeat(5 * MIB), " ".repeat(5 * MIB)]
    {
        let refused = default_cap(&text).unwrap_err();
        assert_eq!(refused, Unparsable::TooLong { bytes: text.len(), bytes_max: 262_144 });
    }
}

/// Quarter of a megabyte of `/**/` takes the scanner minutes: refused before it sees it.
#[test]
fn runs_that_the_scanner_is_slow_on() {
    for unit in ["/**/", "/*", "+/**/", "+-", "+", "-/**/", "*/*"] {
        let text = format!("select 1 {}", unit.repeat(250_000 / unit.len()));
        let refused = default_cap(&text).unwrap_err();
        assert!(matches!(refused, Unparsable::OperatorRun { .. }), "{unit}: {refused:?}");
        let spaced = format!("select 1 {}", format!("{unit} ").repeat(1_000));
        assert!(!matches!(default_cap(&spaced), Err(Unparsable::OperatorRun { .. })), "{unit} with spaces");
    }
    let banner = format!("/{}/\n--{}\nselect '{}'", "*".repeat(500), "-".repeat(500), "=".repeat(5_000));
    assert!(default_cap(&banner).is_ok());
}

/// A condition of two equal trees.
fn twice(n: usize, open: &str, close: &str, between: &str) -> String {
    let one = nest(n / 2, open, "id", close);
    format!("delete from t where {one} {between} {one}")
}

/// Every way to nest that is known to be cheap in bytes, from too little to too much: each is accepted or refused by
/// name, and at its deepest leaves more than half of the stack untouched.
#[test]
fn every_shape_stays_within_the_stack() {
    type Shape = (&'static str, fn(usize) -> String);
    let shapes: &[Shape] = &[
        ("not", |n| format!("select {} true", "not ".repeat(n))),
        ("sum", sum),
        ("parentheses", |n| format!("select {}", nest(n, "(", "1", ")"))),
        ("sub-selects", |n| format!("select {}", nest(n, "(select ", "1", ")"))),
        ("sub-selects in from", |n| format!("select * from {}", nest(n, "(select * from ", "t", ") x"))),
        ("sub-selects in where", |n| {
            format!("select 1 {}", nest(n, "where exists (select 1 from t ", "", ")"))
        }),
        ("with", |n| nest(n, "with x as (", "select 1", ") select * from x")),
        ("joins", |n| format!("select * from t{}", " join t on true".repeat(n))),
        ("nested joins", |n| format!("select * from {}", nest(n, "(t join ", "t", " on true)"))),
        ("functions", |n| format!("select {}", nest(n, "f(", "1", ")"))),
        ("case", |n| format!("select {}", nest(n, "case when ", "true", " then 1 end"))),
        ("case else", |n| format!("select {}", nest(n, "case when a then 1 else ", "true", " end"))),
        ("coalesce", |n| format!("select {}", nest(n, "coalesce(", "1", ")"))),
        ("arrays", |n| format!("select array{}", nest(n, "[", "1", "]"))),
        ("rows", |n| format!("select {}", nest(n, "row(", "1", ")"))),
        ("casts", |n| format!("select 1{}", "::int".repeat(n))),
        ("is null", |n| format!("select 1{}", " is null".repeat(n))),
        ("collate", |n| format!("select 'a'{}", " collate \"C\"".repeat(n))),
        ("at time zone", |n| format!("select a{}", " at time zone 'UTC'".repeat(n))),
        ("indirection", |n| format!("select {}", nest(n, "(", "a", ").b"))),
        ("subscripts", |n| format!("select {}", nest(n, "a[", "1", "]"))),
        ("unions", |n| vec!["select 1"; n + 1].join(" union ")),
        ("nested unions", |n| nest(n, "(select 1 union ", "select 1", ")")),
        ("in", |n| format!("select {}", nest(n, "1 in (", "1", ")"))),
        ("between", |n| format!("select {}", nest(n, "1 between 1 and (", "1", ")"))),
        ("delete", |n| format!("delete from t where {} a = 1", "not ".repeat(n))),
        ("delete or", |n| format!("delete from t where {}", nest(n, "(a = 1 or not ", "a = 2", ")"))),
        ("delete case", |n| format!("delete from t where {}", nest(n, "case when ", "a", " then a end"))),
        ("view", |n| format!("create view v as select {}", nest(n, "(select ", "1", ")"))),
        ("rule", |n| {
            format!("create rule r as on insert to t do also select {}", nest(n, "(select ", "1", ")"))
        }),
        ("json", |n| format!("select {}", nest(n, "json_object('a': ", "1", ")"))),
        ("xml", |n| format!("select {}", nest(n, "xmlelement(name a, ", "1", ")"))),
        ("filter", |n| format!("select {}", nest(n, "count(*) filter (where ", "true", ")"))),
        ("over", |n| format!("select {}", nest(n, "sum(1) over (order by ", "1", ")"))),
        ("compared", |n| twice(n, "array[", "]", "=")),
        ("compared queries", |n| twice(n, "(select x from s where ", ")", "=")),
        ("compared denials", |n| twice(n, "case when ", " then x end", "or not")),
        ("merge", |n| {
            format!(
                "merge into t using {} on true when matched then delete",
                nest(n, "(select * from ", "t", ") s")
            )
        }),
    ];
    for (name, shape) in shapes {
        let mut deepest = 0;
        for n in [100, 1_000, 1_600, 2_400, 3_300, 4_990, 9_000] {
            let sql = shape(n);
            let (result, touched) = on_parser_stack(|| {
                let result = facts_here(sql.as_bytes(), &Limits::default()).map(|f| f.statements.len());
                (result, stack_touched_bytes())
            });
            deepest = deepest.max(touched);
            match result {
                Ok(_) | Err(Unparsable::TooDeep | Unparsable::Syntax { .. } | Unparsable::TooLong { .. }) => {
                }
                Err(other) => panic!("{name} × {n}: {other:?}"),
            }
        }
        println!("{name}: {} KiB", deepest / 1024);
        assert!(deepest < 28 * MIB, "{name} touches {deepest} bytes of stack");
    }
}

/// Resident bytes of the mapping that holds this thread's stack (Linux keeps touched pages of a live thread).
fn stack_touched_bytes() -> usize {
    let here = 0u8;
    let address = std::ptr::from_ref(&here).addr();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let range = line.split_whitespace().next().and_then(|r| r.split_once('-'));
        if let Some((from, to)) = range
            && let (Ok(from), Ok(to)) = (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
        {
            inside = (from..to).contains(&address);
        } else if inside && let Some(rss) = line.strip_prefix("Rss:") {
            return rss.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024;
        }
    }
    panic!("this thread's stack is not in smaps");
}

#[test]
fn only_the_doors_threads_parse() {
    assert_eq!(facts_here(b"select 1", &Limits::default()).unwrap_err(), Unparsable::NotOnParserThread);
    let elsewhere = std::thread::spawn(|| facts_here(b"select 1", &Limits::default()));
    assert_eq!(elsewhere.join().unwrap().unwrap_err(), Unparsable::NotOnParserThread);
    let own = spawn_parser_thread("shard", || facts_here(b"select 1", &Limits::default())).unwrap();
    assert!(own.join().unwrap().is_ok());
}

/// Uses up about `bytes` of stack, then calls.
#[inline(never)]
fn deep_in_the_stack(bytes: usize) -> Result<TextFacts, Unparsable> {
    let filler = std::hint::black_box([0u8; 64 * 1024]);
    let result = match bytes.checked_sub(filler.len()) {
        Some(rest) => deep_in_the_stack(rest),
        None => facts_here(b"select 1", &Limits::default()),
    };
    std::hint::black_box(&filler);
    result
}

#[test]
fn too_little_stack_left_is_refused() {
    assert!(on_parser_stack(|| deep_in_the_stack(MIB)).is_ok());
    assert_eq!(on_parser_stack(|| deep_in_the_stack(16 * MIB)).unwrap_err(), Unparsable::NotOnParserThread);
}

#[test]
fn what_is_no_text_is_refused() {
    let facts = |bytes: &[u8]| on_parser_stack(|| facts_here(bytes, &Limits::default()));
    assert_eq!(facts(b"select '\0'").unwrap_err(), Unparsable::Nul);
    assert_eq!(facts(b"select '\xe9'").unwrap_err(), Unparsable::NotUtf8 { offset: 8 });
    assert!(matches!(facts(b"selec 1").unwrap_err(), Unparsable::Syntax { .. }));
    for empty in ["", " ", ";", ";;", "-- x", "/* x */"] {
        assert_eq!(facts(empty.as_bytes()).unwrap().statements.len(), 0, "{empty:?}");
    }
}

#[test]
fn refusals_say_what_and_what_next_without_the_text() {
    for refusal in [
        Unparsable::TooLong { bytes: 5, bytes_max: 4 },
        Unparsable::Nul,
        Unparsable::NotUtf8 { offset: 3 },
        Unparsable::TooDeep,
        Unparsable::OperatorRun { offset: 9 },
        Unparsable::Panicked,
        Unparsable::NotOnParserThread,
        Unparsable::Busy,
        Unparsable::Closed,
    ] {
        assert_eq!(refusal.sqlstate().len(), 5);
        assert!(refusal.to_string().len() > 40 && !refusal.reason().is_empty(), "{refusal}");
    }
    let syntax = on_parser_stack(|| facts_here(b"select 'secret' 'x'", &Limits::default())).unwrap_err();
    assert!(!syntax.reason().contains("secret"));
}

/// The worst accepted texts of one principal do not keep another waiting for more than the parses in flight.
#[test]
fn others_are_served_while_one_floods() {
    let parser = Parser::start(PoolSettings::default()).unwrap();
    let worst: std::sync::Arc<[u8]> = or_chain(256 * 1024 - 16).into_bytes().into();
    let (send, flood) = mpsc::channel();
    let mut queued = 0;
    for _ in 0..50 {
        let send = send.clone();
        queued += usize::from(
            parser.submit(worst.clone(), 1, Box::new(move |r| send.send(r.is_ok()).unwrap())).is_ok(),
        );
    }
    let (send, other) = mpsc::channel();
    parser.submit(&b"select 1"[..], 2, Box::new(move |r| send.send(r.is_ok()).unwrap())).unwrap();
    assert!(other.recv().unwrap());
    let answered_before = flood.try_iter().count();
    assert!(answered_before < queued - 10, "{answered_before} of {queued} came first");
    drop(parser);
}
