//! `pgturnstile top`: the live sessions of a running gateway.
//!
//! Owns: the question to the control socket, the order, and the table. May not: change anything, or show a text of a
//! statement: the gateway does not tell it one. Whatever a token said of its bearer is escaped before a terminal sees it.
//! Fails with a message where no gateway answers; once it runs, it waits for a gateway that is restarted.

use std::cmp::Reverse;
use std::io;
use std::path::Path;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::control_socket::{self, Gateway};
use super::out::{aligned, shortened};
use super::{Exit, Out};
use crate::evidence::describe::escaped;

/// Moves a terminal's cursor home and clears what is below it.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Show the live sessions of a running gateway: who, on which target, what each does and waits for, for how long, and how \
much it has moved.

It asks the gateway's control socket, which [control] socket names and which only the gateway's own user and root may \
reach. No text of a statement is told, and no value: a statement is shown by its class.",
    after_help = "\
Examples:
  pgturnstile top                                    again every two seconds, until interrupted
  pgturnstile top --sort rows --limit 10             who moves the most rows
  pgturnstile top --once --json | jq '.sessions[] | select(.waits_for == \"evidence\")'

WAITS FOR is the client, the target, a barrier (the client's next frame waits for the target's answer), the evidence (a \
record has to be on disk) or an approval (people have to decide: pgturnstile holds). AGE is that of the running statement, or else of the state. CLASS of an idle session is that of \
its last statement.

Exit codes:
  0  done
  2  the configuration names no control socket
  3  no gateway answers"
)]
pub struct Args {
    #[command(flatten)]
    gateway: Gateway,
    /// What stands first.
    #[arg(long, value_enum, default_value_t = Sort::Age)]
    sort: Sort,
    /// Turn the order round.
    #[arg(long)]
    reverse: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    interval: u64,
    /// Show so many sessions; 0: all.
    #[arg(long, value_name = "COUNT", default_value_t = 40)]
    limit: usize,
    /// Look once, and end.
    #[arg(long)]
    once: bool,
    /// JSON, one line a look, instead of the table.
    #[arg(long)]
    json: bool,
}

/// What orders the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Active before idle, the longest first.
    Age,
    /// The oldest session first.
    Session,
    /// The most rows first.
    Rows,
    /// The most bytes of both peers first.
    Bytes,
    /// The most statements first.
    Statements,
    /// The most refusals first.
    Refused,
    /// By issuer and subject.
    Principal,
    /// By target.
    Target,
}

/// What the control socket tells.
#[derive(Debug, Deserialize, Serialize)]
struct Page {
    version: String,
    now_ms: u64,
    sessions: Vec<Session>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
struct Session {
    session: String,
    issuer: String,
    subject: String,
    person: Option<String>,
    target: String,
    access: String,
    peer: String,
    listener: String,
    session_age_ms: u64,
    state: String,
    waits_for: String,
    class: Option<String>,
    age_ms: u64,
    statements: u64,
    refused: u64,
    rows: u64,
    client_bytes: u64,
    target_bytes: u64,
}

/// Runs `top`.
///
/// # Errors
/// Output cannot be written, or no runtime can be made.
pub fn run(args: &Args, out: &mut Out<'_>) -> io::Result<Exit> {
    let socket = match args.gateway.socket() {
        Ok(socket) => socket,
        Err(complaint) => {
            out.complain(complaint);
            return Ok(Exit::Usage);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut answered = false;
    loop {
        match runtime.block_on(ask(&socket)) {
            Ok(page) => {
                answered = true;
                show(args, page, out)?;
            }
            Err(fault) if args.once || !answered => {
                out.complain(format_args!("pgturnstile: {} does not answer: {fault}", socket.display()));
                return Ok(Exit::Trouble);
            }
            Err(fault) => {
                out.complain(format_args!("pgturnstile: {}: {fault}; asking again", socket.display()));
            }
        }
        if args.once {
            return Ok(Exit::Yes);
        }
        out.flush()?;
        std::thread::sleep(Duration::from_secs(args.interval));
    }
}

/// One look.
async fn ask(socket: &Path) -> Result<Page, String> {
    let (status, body) = control_socket::ask(socket, Method::GET, "/sessions", String::new()).await?;
    if status != StatusCode::OK {
        return Err(format!("it says {status}: is it the control socket of a gateway?"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"))
}

fn show(args: &Args, mut page: Page, out: &mut Out<'_>) -> io::Result<()> {
    order(&mut page.sessions, args.sort);
    if args.reverse {
        page.sessions.reverse();
    }
    let total = page.sessions.len();
    let states = states(&page.sessions);
    if args.limit > 0 {
        page.sessions.truncate(args.limit);
    }
    if args.json {
        return out.line(serde_json::to_string(&page)?);
    }
    if out.colour() && !args.once {
        out.write(CLEAR)?;
    }
    out.line(format_args!("pgturnstile {}, {total} sessions{states}", escaped(&page.version)))?;
    for line in table(&page.sessions) {
        out.line(line)?;
    }
    if page.sessions.len() < total {
        out.line(format_args!("… and {} more (--limit)", total - page.sessions.len()))?;
    }
    Ok(())
}

fn order(sessions: &mut [Session], by: Sort) {
    match by {
        Sort::Age => sessions.sort_by_key(|session| (session.state == "idle", Reverse(session.age_ms))),
        Sort::Session => sessions.sort_by_key(|session| Reverse(session.session_age_ms)),
        Sort::Rows => sessions.sort_by_key(|session| Reverse(session.rows)),
        Sort::Bytes => {
            sessions
                .sort_by_key(|session| Reverse(session.client_bytes.saturating_add(session.target_bytes)));
        }
        Sort::Statements => sessions.sort_by_key(|session| Reverse(session.statements)),
        Sort::Refused => sessions.sort_by_key(|session| Reverse(session.refused)),
        Sort::Principal => sessions.sort_by(|a, b| (&a.issuer, &a.subject).cmp(&(&b.issuer, &b.subject))),
        Sort::Target => sessions.sort_by(|a, b| a.target.cmp(&b.target)),
    }
}

/// How many are in each state: `: 3 idle, 1 active`.
fn states(sessions: &[Session]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for session in sessions {
        match counts.iter_mut().find(|(state, _)| *state == session.state) {
            Some((_, count)) => *count += 1,
            None => counts.push((&session.state, 1)),
        }
    }
    counts.sort_unstable();
    let counts: Vec<String> =
        counts.iter().map(|(state, count)| format!("{count} {}", escaped(state))).collect();
    if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) }
}

/// A column: its title, its least and most characters, whether it stands to the right, and what it shows.
struct Column {
    title: &'static str,
    most: usize,
    right: bool,
    shows: fn(&Session) -> String,
}

const fn left(title: &'static str, most: usize, shows: fn(&Session) -> String) -> Column {
    Column { title, most, right: false, shows }
}

const fn right(title: &'static str, shows: fn(&Session) -> String) -> Column {
    Column { title, most: 12, right: true, shows }
}

const COLUMNS: [Column; 13] = [
    left("SESSION", 8, |session| session.session.clone()),
    left("PRINCIPAL", 32, |session| {
        format!("{}/{}", session.issuer, session.person.as_ref().unwrap_or(&session.subject))
    }),
    left("TARGET", 16, |session| session.target.clone()),
    left("ACCESS", 16, |session| session.access.clone()),
    left("STATE", 26, |session| session.state.clone()),
    left("WAITS FOR", 9, |session| session.waits_for.clone()),
    left("CLASS", 20, |session| session.class.clone().unwrap_or_else(|| "-".to_owned())),
    right("AGE", |session| duration(session.age_ms)),
    right("STATEMENTS", |session| session.statements.to_string()),
    right("REFUSED", |session| session.refused.to_string()),
    right("ROWS", |session| session.rows.to_string()),
    right("IN", |session| bytes(session.client_bytes)),
    right("OUT", |session| bytes(session.target_bytes)),
];

/// The table, as wide as what stands in it.
fn table(sessions: &[Session]) -> Vec<String> {
    let titles = COLUMNS.iter().map(|column| (column.title, column.right)).collect::<Vec<_>>();
    let rows = sessions.iter().map(|session| {
        COLUMNS.iter().map(|column| shortened(&escaped(&(column.shows)(session)), column.most)).collect()
    });
    aligned(&titles, rows)
}

/// As people say it: two units at most.
fn duration(ms: u64) -> String {
    let (s, m, h) = (ms / 1_000, ms / 60_000, ms / 3_600_000);
    match (h, m, s) {
        (0, 0, 0) => format!("{ms} ms"),
        (0, 0, _) => format!("{s}.{} s", ms % 1_000 / 100),
        (0, _, _) => format!("{m} m {} s", s % 60),
        (..24, _, _) => format!("{h} h {} m", m % 60),
        (_, _, _) => format!("{} d {} h", h / 24, h % 24),
    }
}

/// With a binary unit, one digit behind the point.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut tenths = count.saturating_mul(10);
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1_024;
        unit = next;
    }
    if unit == "B" { format!("{count} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &str) -> Session {
        Session {
            session: format!("{name}0123456789"),
            issuer: "corp".to_owned(),
            subject: name.to_owned(),
            person: None,
            target: "crm".to_owned(),
            access: "analysts".to_owned(),
            peer: "192.0.2.7:4711".to_owned(),
            listener: "0.0.0.0:6432".to_owned(),
            session_age_ms: 0,
            state: "idle".to_owned(),
            waits_for: "client".to_owned(),
            class: None,
            age_ms: 0,
            statements: 0,
            refused: 0,
            rows: 0,
            client_bytes: 0,
            target_bytes: 0,
        }
    }

    fn sorted(sessions: &[Session], by: Sort) -> String {
        let mut sessions = sessions.to_vec();
        order(&mut sessions, by);
        sessions.iter().map(|session| session.subject.clone()).collect()
    }

    #[test]
    fn each_order_is_what_it_says() {
        let sessions = [
            Session {
                age_ms: 9,
                session_age_ms: 1,
                rows: 5,
                refused: 1,
                target: "c".to_owned(),
                ..session("a")
            },
            Session {
                age_ms: 3,
                session_age_ms: 3,
                statements: 7,
                state: "active".to_owned(),
                target: "b".to_owned(),
                ..session("b")
            },
            Session {
                age_ms: 5,
                session_age_ms: 2,
                client_bytes: 4,
                target_bytes: u64::MAX,
                issuer: "apex".to_owned(),
                state: "awaiting_evidence".to_owned(),
                target: "a".to_owned(),
                ..session("c")
            },
        ];
        for (by, wanted) in [
            (Sort::Age, "cba"),
            (Sort::Session, "bca"),
            (Sort::Rows, "abc"),
            (Sort::Bytes, "cab"),
            (Sort::Statements, "bac"),
            (Sort::Refused, "abc"),
            (Sort::Principal, "cab"),
            (Sort::Target, "cba"),
        ] {
            assert_eq!(sorted(&sessions, by), wanted, "{by:?}");
        }
        assert_eq!(states(&sessions), ": 1 active, 1 awaiting_evidence, 1 idle");
        assert_eq!(states(&[]), "");
    }

    #[test]
    fn a_table_is_aligned_and_no_token_can_move_the_terminal() {
        let wild = Session {
            subject: "\u{1b}[2Jkim\nlee".to_owned(),
            target: "a-target-with-a-name-that-is-long".to_owned(),
            rows: 12,
            class: Some("read.select".to_owned()),
            ..session("x")
        };
        let lines = table(&[session("kim"), wild]);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.chars().all(|character| !character.is_control())), "{lines:?}");
        assert!(
            lines[2].contains("corp/\\u{1b}[2Jkim\\u{a}lee") && lines[2].contains("a-target-with-a…"),
            "{lines:?}"
        );
        let at = |line: &str, word: &str| line.find(word).map(|at| line[..at].chars().count());
        assert_eq!(at(&lines[0], "CLASS"), at(&lines[2], "read.select"));
        let end = |line: &str, word: &str| at(line, word).map(|at| at + word.len());
        assert_eq!(end(&lines[0], "ROWS"), end(&lines[2], " 12"));
        assert_eq!(table(&[]).len(), 1);
    }

    #[test]
    fn times_and_sizes_are_short() {
        for (ms, wanted) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (61_000, "1 m 1 s"),
            (3_600_000, "1 h 0 m"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(ms), wanted);
        }
        for (count, wanted) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (u64::MAX, "1638.3 PiB"),
        ] {
            assert_eq!(bytes(count), wanted);
        }
    }
}
