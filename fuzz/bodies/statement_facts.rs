//! Body of `statement_facts`: any bytes as the text of a Query or Parse.
//!
//! Promises held: nothing panics, neither the parser nor the walker; facts are the same each time; statements lie in order
//! within the text; a statement's own class stands in its lists; the lifted text holds no literal; a statement put behind
//! the text changes nothing of those before it.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is a finding")]

use std::sync::{Mutex, OnceLock, PoisonError, mpsc};

use pgturnstile_rules::class::Class;
use pgturnstile_rules::statement::facts::{SettingAction, StatementFacts, TextFacts};
use pgturnstile_rules::statement::{Limits, Unparsable, facts_here, is_plain, spawn_parser_thread};

type Answer = Result<TextFacts, Unparsable>;
type Thread = (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Answer>);

/// Runs every promise against `data`.
pub fn run(data: &[u8]) {
    let answer = facts(data);
    assert_eq!(is_plain(data), !data.iter().any(|b| matches!(b, 0 | b'\\') || *b > 0x7F));
    let found = match answer {
        Ok(found) => found,
        Err(refusal) => return refused(data, &refusal),
    };
    assert_eq!(format!("{found:?}"), format!("{:?}", facts(data).expect("the same bytes")));
    assert_eq!(found.text_bytes, data.len());
    let mut end = 0;
    for statement in &found.statements {
        assert!(
            end <= statement.range.start && statement.range.start <= statement.range.end,
            "{statement:?}"
        );
        end = statement.range.end;
        whole(statement);
    }
    assert!(end <= data.len());
    assert!(!holds_a_string(&found.lifted), "{}", found.lifted);
    let longer = [data, b"\n; select 1"].concat();
    if longer.len() <= Limits::default().text_bytes_max {
        let more = facts(&longer).expect("a statement more is a text");
        assert_eq!(more.statements.len(), found.statements.len() + 1);
        for (before, after) in found.statements.iter().zip(&more.statements) {
            assert_eq!(described(before), described(after));
        }
    }
}

/// What a statement is, without where it ends.
fn described(statement: &StatementFacts) -> String {
    format!("{:?}", StatementFacts { range: 0..0, ..statement.clone() })
}

/// The statement's own class is among its atoms, and effects are owned up to.
fn whole(statement: &StatementFacts) {
    let class = statement.class;
    let acts = statement.acts.iter().map(|a| a.class);
    let classes: Vec<Class> = acts.chain(statement.relations.iter().map(|r| r.class)).collect();
    let set = class == Class::SessionSet && !statement.settings.is_empty();
    assert!(classes.contains(&class) || set, "{statement:?}");
    let writes = classes.iter().any(|c| c.covered_by("write") || c.covered_by("ddl") || c.covered_by("dcl"));
    assert!(statement.flags.effects || !writes, "{statement:?}");
    let sets = statement.settings.iter().any(|s| s.action != SettingAction::Show);
    assert!(statement.flags.sets_setting || !sets, "{statement:?}");
    assert!(!statement.tag.is_empty());
    if let Some(prepared) = &statement.prepared {
        whole(prepared);
    }
}

fn refused(data: &[u8], refusal: &Unparsable) {
    match refusal {
        Unparsable::TooLong { bytes, .. } => assert_eq!(*bytes, data.len()),
        Unparsable::Nul => assert!(data.contains(&0)),
        Unparsable::NotUtf8 { offset } => {
            assert!(std::str::from_utf8(data).is_err_and(|e| e.valid_up_to() == *offset))
        }
        Unparsable::Syntax { message } => assert!(!message.is_empty()),
        Unparsable::OperatorRun { offset } => assert!(*offset <= data.len()),
        Unparsable::TooDeep => {}
        Unparsable::Panicked | Unparsable::NotOnParserThread | Unparsable::Busy | Unparsable::Closed => {
            panic!("{refusal:?} of {}", data.escape_ascii())
        }
    }
}

/// Whether a quote stands outside a quoted name.
fn holds_a_string(lifted: &str) -> bool {
    let mut name = false;
    lifted.chars().any(|c| {
        name ^= c == '"';
        c == '\'' && !name
    })
}

/// Facts, on one thread of the door that lives as long as the process.
fn facts(data: &[u8]) -> Answer {
    static THREAD: OnceLock<Mutex<Thread>> = OnceLock::new();
    let thread = THREAD.get_or_init(|| {
        let (texts, take) = mpsc::channel::<Vec<u8>>();
        let (give, answers) = mpsc::channel();
        spawn_parser_thread("fuzz", move || {
            for text in take {
                give.send(facts_here(&text, &Limits::default())).expect("the fuzzer listens");
            }
        })
        .expect("a thread");
        Mutex::new((texts, answers))
    });
    let (texts, answers) = &*thread.lock().unwrap_or_else(PoisonError::into_inner);
    texts.send(data.to_vec()).expect("the parser listens");
    answers.recv().expect("the parser answers")
}
