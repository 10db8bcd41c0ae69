//! `pgturnstile replay --against`: a recorded session run again on a scratch database, its results held against the digests.
//!
//! Owns: what is comparable and why not, the refusal of a configured target, the report. May not: run anything before it is known that
//! the database is no target. Fails closed: what cannot be compared is counted as that, never as the same.
//!
//! ```text
//!   exact text? parameters whole? no COPY? ── no ─► not run, with its reason
//!        │ run, in order, on one connection
//!        ▼
//!   masked? volatile function? the moment? not proven, with rows? read in pieces? ── yes ─► not comparable, with its reason
//!        │
//!        ▼
//!   tag, SQLSTATE, number of rows, digest of the rows ── equal ─► same ── else ─► differs
//! ```

mod collect;
mod identity;
mod scratch;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::{Map, Value as Json, json};

use self::collect::{Collector, Ran, Sent};
use self::identity::{Kept, kept};
use self::scratch::{Answer, Scratch, same_place};
use super::reading::{Fault, Reading, judged, proof};
use super::source::{self, Source};
use super::{Exit, Out};
use crate::audit::event::{Returned, Target};
use crate::audit::json;
use crate::backend::settings::{Address, Guards, TargetSettings};
use crate::config::{Config, Files, load_digest_key};
use crate::evidence::describe::{escaped, hex};
use crate::evidence::keys::{MasterKey, SessionKeys};
use crate::evidence::record::v1::Outcome;
use crate::evidence::verify::Report;
use crate::serve::mapping;

/// The configuration that is looked for where none is named.
const CONFIG_DEFAULT: &str = "pgturnstile.toml";
/// Characters of a text that a line shows.
const TEXT_CHARS_MAX: usize = 80;
/// Functions that are not volatile and yet say something of the moment or the session (src/include/catalog/pg_proc.dat).
const OF_THE_MOMENT: [&str; 18] = [
    "now",
    "transaction_timestamp",
    "statement_timestamp",
    "age",
    "current_user",
    "session_user",
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "pg_backend_pid",
    "pg_postmaster_start_time",
    "pg_conf_load_time",
    "version",
];
/// The same that the grammar knows without parentheses (`func_expr_common_subexpr`, src/backend/parser/gram.y).
const WORDS_OF_THE_MOMENT: [&str; 11] = [
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_role",
    "current_user",
    "session_user",
    "system_user",
    "current_catalog",
    "current_schema",
];

/// Arguments of `replay` that are of `--against` alone.
#[derive(Debug, clap::Args)]
pub(super) struct Against {
    /// Run the session again on this scratch database and compare results: postgresql://user@host:port/database?sslmode=…;
    /// the password from PGPASSWORD. What was written then is written there.
    #[arg(long, value_name = "URL", requires = "digest_key", conflicts_with_all = ["speed", "cast"])]
    pub against: Option<String>,
    /// The file of `[evidence] digest_key`: digests are compared by it.
    #[arg(long, value_name = "FILE", requires = "against")]
    pub digest_key: Option<PathBuf>,
    /// The configuration whose targets are refused as --against; pgturnstile.toml, where it is there.
    #[arg(long, value_name = "FILE", env = "PGTURNSTILE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Run even on a database that is a target, or the one of the recorded session.
    #[arg(long, requires = "against")]
    pub even_a_target: bool,
    /// How long one statement may run, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "against")]
    pub statement_max_s: u64,
}

/// What became of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Differs(String),
    NotComparable(String),
    NotRun(String),
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self {
            Verdict::Same => "same",
            Verdict::Differs(_) => "differs",
            Verdict::NotComparable(_) => "not comparable",
            Verdict::NotRun(_) => "not run",
        }
    }

    fn why(&self) -> Option<&str> {
        match self {
            Verdict::Same => None,
            Verdict::Differs(why) | Verdict::NotComparable(why) | Verdict::NotRun(why) => Some(why),
        }
    }
}

/// Why it stopped before its end.
enum Halt {
    /// The database is a target, or may be: nothing was run.
    Refused(String),
    /// The connection broke.
    Lost(String),
}

impl From<String> for Halt {
    fn from(what: String) -> Halt {
        Halt::Lost(what)
    }
}

/// Everything that is known before it runs.
struct Ready {
    source: Source,
    /// What the database must not be.
    kept: Vec<Kept>,
    ran: Vec<Ran>,
    search_path: Vec<String>,
    keys: SessionKeys,
    report: Report,
}

/// Runs `replay --against`.
///
/// # Errors
/// The output cannot be written, or there is no runtime.
pub(super) fn run(
    reading: &Reading,
    wanted: &str,
    args: &Against,
    as_json: bool,
    out: &mut Out<'_>,
) -> io::Result<Exit> {
    let ready = match prepare(reading, wanted, args, out) {
        Ok(ready) => ready,
        Err(fault) => return Ok(fault.said(out)),
    };
    if judged(&ready.report, out) != Exit::Yes {
        return Ok(Fault(Exit::No, "the evidence is not sound: nothing was run".to_owned()).said(out));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut shown = Vec::new();
    let limit = Duration::from_secs(args.statement_max_s);
    let outcome = match runtime.block_on(again(&ready, limit, &mut shown)) {
        Err(Halt::Refused(what)) => return Ok(Fault(Exit::Usage, what).said(out)),
        Err(Halt::Lost(what)) => Err(what),
        Ok(()) => Ok(()),
    };
    let mut counts: BTreeMap<&'static str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (ran, verdict, answers) in &shown {
        let why = verdict.why().unwrap_or_default();
        let counted = if matches!(verdict, Verdict::Differs(_)) { "" } else { why };
        *counts.entry(verdict.word()).or_default().entry(counted).or_default() += 1;
        if as_json {
            out.line(json::line(&told(ran, verdict, answers)))?;
        } else {
            let text = ran.text.as_deref().unwrap_or("(not recorded)");
            let (text, why) = (super::out::shortened(&escaped(text), TEXT_CHARS_MAX), escaped(why));
            let colon = if why.is_empty() { "" } else { ": " };
            out.line(format_args!("#{:<6} {:<14} {text}{colon}{why}", ran.number, verdict.word()))?;
        }
    }
    summary(&counts, as_json, out)?;
    out.flush()?;
    out.complain(proof(&ready.report));
    Ok(match outcome {
        Err(what) => {
            let what =
                format!("the scratch database was lost, and what follows did not run: {}", escaped(&what));
            Fault(Exit::Trouble, what).said(out)
        }
        Ok(()) if counts.contains_key("differs") => Exit::No,
        Ok(()) => Exit::Yes,
    })
}

fn summary(
    counts: &BTreeMap<&'static str, BTreeMap<&str, u64>>,
    as_json: bool,
    out: &mut Out<'_>,
) -> io::Result<()> {
    if as_json {
        let counts: Map<String, Json> = counts
            .iter()
            .map(|(word, reasons)| {
                let total: u64 = reasons.values().sum();
                let reasons: Map<String, Json> = reasons
                    .iter()
                    .filter(|(why, _)| !why.is_empty())
                    .map(|(why, count)| ((*why).to_owned(), json!(count)))
                    .collect();
                ((*word).to_owned(), json!({ "statements": total, "reasons": reasons }))
            })
            .collect();
        return out.line(json::line(&json!({ "summary": counts })));
    }
    for (word, reasons) in counts {
        out.line(format_args!("{} {word}", reasons.values().sum::<u64>()))?;
        for (why, count) in reasons.iter().filter(|(why, _)| !why.is_empty()) {
            out.line(format_args!("    {count} x {}", escaped(why)))?;
        }
    }
    Ok(())
}

fn prepare(reading: &Reading, wanted: &str, args: &Against, out: &mut Out<'_>) -> Result<Ready, Fault> {
    let usage = |what: String| Fault(Exit::Usage, what);
    let url = args.against.as_deref().unwrap_or_default();
    let (settings, _) = source::settings(url).map_err(|what| usage(what.replace("--dsn", "--against")))?;
    let source = source::of_dsn(url).map_err(usage)?;
    let path = args.digest_key.as_deref().unwrap_or(Path::new(""));
    let key = load_digest_key(path).map_err(|error| usage(error.to_string()))?;
    let master = MasterKey::new(key.expose_secret());
    let mut collector = Collector::new(wanted.to_owned());
    let report = reading.walk(&mut |_, record| collector.take(record))?;
    let [session] = collector.sessions[..] else {
        let what = format!("{} session(s) begin so: name exactly one", collector.sessions.len());
        return Err(Fault(Exit::No, what));
    };
    let id = hex(&master.id());
    if !collector.digest_keys.contains(&id) {
        return Err(usage(format!(
            "{} is not the digest key of this evidence (its id is {id})",
            path.display()
        )));
    }
    let (target, search_path) = (collector.target.clone(), collector.search_path.clone());
    let ran = collector.finish(report.records);
    if let Some(name) = target_at(&settings, args, target.as_ref(), out)? {
        let what = format!(
            "--against leads to {name}: what the session wrote would be written there again; name a scratch database \
             (createdb, restored to before the session), or --even-a-target if that is one"
        );
        return Err(usage(what));
    }
    let keys = master.session(&session);
    let kept = kept(args, target.as_ref());
    Ok(Ready { source, kept, ran, search_path, keys, report })
}

/// Which target the place is, where it is one.
fn target_at(
    place: &TargetSettings,
    args: &Against,
    recorded: Option<&Target>,
    out: &mut Out<'_>,
) -> Result<Option<String>, Fault> {
    if args.even_a_target {
        return Ok(None);
    }
    let here = (&place.address, place.database.as_str());
    if let Some(target) = recorded
        && let Ok(address) = target.endpoint.parse::<Address>()
        && same_place(here, (&address, &target.database))
    {
        return Ok(Some(format!("the recorded session's own target, {}", target.target)));
    }
    let path = args.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG_DEFAULT));
    if args.config.is_none() && !path.exists() {
        out.complain(
            "no configuration is here (--config FILE): only the recorded session's own target is refused as --against, by its address and \
             the name of its database",
        );
        return Ok(None);
    }
    let config = Config::load_with(&path, Files::Skip).map_err(|findings| {
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        Fault(Exit::Usage, format!("whose targets are refused cannot be read:\n{}", said.join("\n")))
    })?;
    let found = config.targets.iter().find(|target| {
        let settings = mapping::settings(target);
        same_place(here, (&settings.address, &settings.database))
    });
    Ok(found.map(|target| format!("target {} of {}", target.name, path.display())))
}

/// Runs everything that can be, in order.
async fn again(
    ready: &Ready,
    limit: Duration,
    shown: &mut Vec<(Ran, Verdict, Vec<Answer>)>,
) -> Result<(), Halt> {
    let guards = Guards { search_path: ready.search_path.clone(), ..Guards::default() };
    let mut scratch = Scratch::connect(&ready.source, guards, limit).await?;
    if let Some(why) = identity::refusal(&mut scratch, &ready.kept).await? {
        return Err(Halt::Refused(why));
    }
    let mut names: Vec<String> =
        ready.ran.iter().filter_map(|ran| ran.functions.as_ref().ok()).flatten().cloned().collect();
    names.sort_unstable();
    names.dedup();
    let volatile = scratch.volatile(&names).await?;
    for ran in &ready.ran {
        let runnable = runnable(ran);
        let (verdict, answers) = match &runnable {
            Err(why) => (Verdict::NotRun(why.clone()), Vec::new()),
            Ok((text, sent)) => {
                let answers = scratch.run(text, sent, &ready.keys).await?;
                (verdict(ran, &answers, &volatile), answers)
            }
        };
        shown.push((ran.clone(), verdict, answers));
    }
    scratch.close().await;
    Ok(())
}

/// Text and way of a statement that can be run.
fn runnable(ran: &Ran) -> Result<(&str, &Sent), String> {
    if ran.facts.iter().any(|facts| facts.tag.starts_with("COPY")) {
        return Err("it copies: its data is not sent again".to_owned());
    }
    Ok((ran.text.as_deref().map_err(Clone::clone)?, ran.sent.as_ref().map_err(Clone::clone)?))
}

/// Why the results of a statement say nothing.
fn incomparable(ran: &Ran, volatile: &HashMap<String, bool>) -> Option<String> {
    if ran.masked {
        return Some("values of it were masked: its digest is over what stood in for them".to_owned());
    }
    if !ran.settled
        || ran.results.iter().any(|result| matches!(result.outcome, Outcome::Unknown | Outcome::Skipped))
    {
        return Some("its end is not known".to_owned());
    }
    if ran.results.iter().any(|result| matches!(result.outcome, Outcome::Suspended))
        || ran.results.len() > ran.facts.len().max(1)
    {
        return Some("its rows were read in pieces".to_owned());
    }
    let functions = match &ran.functions {
        Ok(functions) => functions,
        Err(why) => return Some(why.clone()),
    };
    for name in functions {
        match volatile.get(name) {
            Some(true) => return Some(format!("it calls {name}, which is volatile")),
            None => return Some(format!("it calls {name}, which the scratch database does not know")),
            Some(false) => {}
        }
        if OF_THE_MOMENT.contains(&name.as_str()) {
            return Some(format!("it calls {name}, which tells of the moment or the session"));
        }
    }
    let text = ran.text.as_deref().unwrap_or_default().to_ascii_lowercase();
    let mut words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    if let Some(word) = words.find(|word| WORDS_OF_THE_MOMENT.contains(word)) {
        return Some(format!("it says {word}, which tells of the moment or the session"));
    }
    let rows = ran.results.iter().any(|result| result.rows > 0);
    match ran.facts.iter().find_map(|facts| facts.unproven.as_deref()) {
        Some(_) if rows => {
            Some("it gives rows and is not proven: code that no text names may have made them".to_owned())
        }
        Some(_) | None => None,
    }
}

fn verdict(ran: &Ran, answers: &[Answer], volatile: &HashMap<String, bool>) -> Verdict {
    if let Some(why) = incomparable(ran, volatile) {
        return Verdict::NotComparable(why);
    }
    if ran.results.len() != answers.len() {
        return Verdict::Differs(format!("{} result(s) then, {} now", ran.results.len(), answers.len()));
    }
    let differs = ran.results.iter().zip(answers).find_map(|(then, now)| difference(then, now));
    let unknown_forms = matches!(&ran.sent, Ok(Sent::Extended { binary: None, .. }));
    match differs {
        None => Verdict::Same,
        Some((_, true)) if unknown_forms => Verdict::NotComparable(
            "whether its values were sent in binary was not recorded (record = \"rows\" does)".to_owned(),
        ),
        Some((why, _)) => Verdict::Differs(why),
    }
}

/// What is another; whether it is the digest alone.
fn difference(then: &Returned, now: &Answer) -> Option<(String, bool)> {
    let state = |state: &Option<String>| state.clone().unwrap_or_else(|| "no error".to_owned());
    if then.sqlstate != now.sqlstate {
        return Some((format!("{} then, {} now", state(&then.sqlstate), state(&now.sqlstate)), false));
    }
    if then.sqlstate.is_none() && then.tag != now.tag {
        return Some((format!("{} then, {} now", then.tag, now.tag), false));
    }
    if then.rows != now.rows {
        return Some((format!("{} row(s) then, {} now", then.rows, now.rows), false));
    }
    let same = then.digest.is_none() && now.rows == 0 || then.digest == now.digest;
    let ordered = if now.rows > 1 { "; without ORDER BY they may come in another order" } else { "" };
    (!same).then(|| (format!("{} row(s) with another digest{ordered}", now.rows), true))
}

fn told(ran: &Ran, verdict: &Verdict, answers: &[Answer]) -> Json {
    let side = |tag: &str, sqlstate: &Option<String>, rows: u64, digest: &Option<[u8; 32]>| {
        let digest = digest.as_ref().map(|digest| hex(digest));
        json!({ "tag": tag, "sqlstate": sqlstate, "rows": rows, "digest": digest })
    };
    let then = ran.results.iter().map(|then| side(&then.tag, &then.sqlstate, then.rows, &then.digest));
    let now = answers.iter().map(|now| side(&now.tag, &now.sqlstate, now.rows, &now.digest));
    let (then, now): (Vec<Json>, Vec<Json>) = (then.collect(), now.collect());
    json!({
        "number": ran.number, "text": ran.text.as_deref().ok(), "verdict": verdict.word(), "why": verdict.why(),
        "then": then, "now": now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::record::v1::Facts;

    fn returned(tag: &str, rows: u64, digest: Option<[u8; 32]>) -> Returned {
        Returned {
            outcome: Outcome::Completed,
            tag: tag.to_owned(),
            sqlstate: None,
            rows,
            bytes: 0,
            bytes_in: 0,
            digest,
            started_ns: 1,
            ended_ns: 2,
        }
    }

    fn answer(tag: &str, rows: u64, digest: Option<[u8; 32]>) -> Answer {
        Answer { tag: tag.to_owned(), sqlstate: None, rows, digest }
    }

    fn ran(text: &str, result: Returned) -> Ran {
        Ran::of_test(text, vec![Facts::default()], vec![result])
    }

    fn words(ran: &Ran, answers: &[Answer]) -> (&'static str, String) {
        let volatile = HashMap::from([
            ("count".to_owned(), false),
            ("now".to_owned(), false),
            ("random".to_owned(), true),
        ]);
        let verdict = verdict(ran, answers, &volatile);
        (verdict.word(), verdict.why().unwrap_or_default().to_owned())
    }

    #[test]
    fn what_is_the_same_what_differs_and_what_cannot_be_told() {
        let digest = Some([7; 32]);
        let result = || returned("SELECT 1", 1, digest);
        let same = [answer("SELECT 1", 1, digest)];
        let plain = ran("select count(*) from t", result());
        assert_eq!(words(&plain, &same).0, "same");
        for (now, says) in [
            (answer("SELECT 1", 1, Some([8; 32])), "another digest"),
            (answer("SELECT 2", 2, digest), "SELECT 1 then"),
            (
                Answer { sqlstate: Some("42P01".to_owned()), ..answer("", 0, None) },
                "no error then, 42P01 now",
            ),
        ] {
            let (word, why) = words(&plain, &[now]);
            assert!(word == "differs" && why.contains(says), "{word} {why}");
        }
        assert_eq!(words(&plain, &[]).0, "differs");
        let hidden = ran("select f()", result());
        for (one, says) in [
            (ran("select random()", result()), "volatile"),
            (ran("select now()", result()), "the moment"),
            (ran("select CURRENT_DATE", result()), "current_date"),
            (hidden, "does not know"),
            (Ran { masked: true, ..plain.clone() }, "masked"),
            (Ran { settled: false, ..plain.clone() }, "end is not known"),
            (Ran { results: vec![result(), result()], ..plain.clone() }, "in pieces"),
        ] {
            let (word, why) = words(&one, &same);
            assert!(word == "not comparable" && why.contains(says), "{word} {why}");
        }
        // Only the digest is uncertain where forms are not known.
        let bound = Ran { sent: Ok(Sent::Extended { parameters: Vec::new(), binary: None }), ..plain };
        assert_eq!(words(&bound, &same).0, "same");
        assert_eq!(words(&bound, &[answer("SELECT 1", 1, Some([8; 32]))]).0, "not comparable");
        assert_eq!(words(&bound, &[answer("SELECT 2", 2, digest)]).0, "differs");
    }
}
