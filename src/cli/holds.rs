//! `pgturnstile holds`, `approve`, `deny`, `hold wait`: statements that wait for people.
//!
//! Owns: the commands, the pictures of a hold, and the exit codes that a pipeline branches on. May not: decide: the gateway verifies
//! the token and every rule. Texts of clients are escaped before a terminal sees them. Fails with the gateway's own words.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::control_socket::{self, Gateway};
use super::out::{aligned, shortened};
use super::{Exit, Out};
use crate::evidence::describe::{escaped, is_deceptive};

/// Between two looks at a hold that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Arguments of `holds`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Show the statements that wait for people to decide: who asks for what, on which target, by which rule, and for how long \
still. Those that nobody waits with are tickets: `pgturnstile tickets`.

Without a token no value is shown: literals stand as $1, $2. With the token of an approver, `holds ID` shows the exact text \
and its parameters. Control, bidirectional and zero-width characters are shown as escapes.",
    after_help = "\
Examples:
  pgturnstile holds                                     all that wait, the oldest first
  pgturnstile holds 7K3M-9QX2-TB4R                      one, without values
  PGTURNSTILE_TOKEN=$(…) pgturnstile holds 7K3M-9QX2-TB4R   exactly as it would run
  pgturnstile holds --json | jq -r '.holds[].id'

Exit codes:
  0  done
  1  there is no such hold, or you may not see it
  2  the configuration names no control socket
  3  no gateway answers"
)]
pub struct ListArgs {
    #[command(flatten)]
    gateway: Gateway,
    /// One hold.
    #[arg(value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    proof: Proof,
    /// JSON.
    #[arg(long)]
    json: bool,
}

/// Who decides.
#[derive(Debug, clap::Args)]
pub struct Proof {
    /// A token of a configured issuer. A command line can be read by others on the machine: rather use the environment or a file.
    #[arg(long, value_name = "TOKEN", env = "PGTURNSTILE_TOKEN", hide_env_values = true)]
    token: Option<SecretString>,
    /// The file that holds it.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
}

impl Proof {
    pub(super) fn token(&self) -> Result<Option<SecretString>, String> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, None) => Ok(None),
            (None, Some(path)) => std::fs::read_to_string(path)
                .map(|token| Some(SecretString::from(token.trim())))
                .map_err(|error| format!("{}: {error}", path.display())),
        }
    }
}

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Approve a statement that waits, or a ticket. Where its rule asks for several people, each approves for himself. A statement that \
waits goes on; that of a ticket passes once, when its requester runs it again before the ticket's end.

You prove who you are by an OIDC token of an issuer that the gateway is configured with. Nobody approves what he asks for \
himself, nor what an agent of his asks for. What you approve is bound to its exact text, parameters, requester, target and policy; \
if any of them changes, it is held again under another id.",
    after_help = "\
Examples:
  PGTURNSTILE_TOKEN=$(…) pgturnstile approve 7K3M-9QX2-TB4R
  pgturnstile approve 7K3M-9QX2-TB4R --token-file ~/.token --reason 'ticket 4711'

Exit codes:
  0  your approval counts
  1  it does not: you may not, or it was too late
  2  no token was given, or the configuration names no control socket
  3  no gateway answers"
)]
pub struct ApproveArgs {
    #[command(flatten)]
    gateway: Gateway,
    /// Which.
    #[arg(value_name = "ID")]
    id: String,
    /// Why; stands in the evidence.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    proof: Proof,
    /// JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `deny`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Deny a statement that waits, or a ticket: one person of its approvers is enough. The reason reaches the requester, in the error that \
the statement ends with (that of a ticket: when it is run the next time), and stands in the evidence. An approved ticket that nobody \
has used is taken back by it.",
    after_help = "\
Examples:
  PGTURNSTILE_TOKEN=$(…) pgturnstile deny 7K3M-9QX2-TB4R --reason 'not without a WHERE clause'

Exit codes:
  0  it is denied
  1  it is not: you may not, or it was too late
  2  no token or no reason was given, or the configuration names no control socket
  3  no gateway answers"
)]
pub struct DenyArgs {
    #[command(flatten)]
    gateway: Gateway,
    /// Which.
    #[arg(value_name = "ID")]
    id: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    proof: Proof,
    /// JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `hold`.
#[derive(Debug, clap::Args)]
pub struct HoldArgs {
    #[command(subcommand)]
    command: HoldCommand,
}

#[derive(Debug, clap::Subcommand)]
enum HoldCommand {
    /// Wait until a hold has ended, and say how by the exit code.
    Wait(WaitArgs),
}

/// Arguments of `hold wait`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Wait until a hold has ended: for pipelines, beside the job whose statement is held. The id stands in the notice that the job got, \
and in `pgturnstile holds --json`. Or until a ticket is decided, whose id stands in the job's error: approved, the job is run again.",
    after_help = "\
Examples:
  pgturnstile hold wait 7K3M-9QX2-TB4R && ./migrate     a ticket's statement, as soon as it is approved

Exit codes:
  0   approved, and sent to the target; of a ticket: approved, or used already
  1   there is no such hold
  2   the configuration names no control socket
  3   no gateway answers
  10  denied
  11  expired: nobody decided in time
  12  withdrawn: cancelled, or its session ended
  13  superseded: policy or catalog changed, and it was judged anew
  14  --timeout is over, and it still waits"
)]
pub struct WaitArgs {
    #[command(flatten)]
    gateway: Gateway,
    /// Which.
    #[arg(value_name = "ID")]
    id: String,
    /// Wait so many seconds at most.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// JSON: the hold as it ended.
    #[arg(long)]
    json: bool,
}

/// Why a command ends early: what to say, and how.
pub(super) type Early = (String, Exit);

/// One exchange with the gateway.
pub(super) struct Line {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Line {
    pub(super) fn open(gateway: &Gateway) -> Result<Line, Early> {
        let socket = gateway.socket().map_err(|complaint| (complaint, Exit::Usage))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| (format!("pgturnstile: {error}"), Exit::Trouble))?;
        Ok(Line { socket, runtime })
    }

    /// The gateway's answer, or what it objects.
    pub(super) fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, Early> {
        let trouble = |what: String| {
            (format!("pgturnstile: {} does not answer: {what}", self.socket.display()), Exit::Trouble)
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let asked = control_socket::ask(Path::new(&self.socket), method, path, body);
        let (status, answer) = self.runtime.block_on(asked).map_err(trouble)?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| trouble(error.to_string()))?;
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let said = format!("pgturnstile: {}", escaped(answer["error"].as_str().unwrap_or("it refuses")));
        Err((said, if status == StatusCode::BAD_REQUEST { Exit::Usage } else { Exit::No }))
    }

    /// A wish with a token.
    pub(super) fn wish(
        &self,
        id: &str,
        act: &str,
        token: &SecretString,
        reason: &str,
    ) -> Result<Value, Early> {
        let body = json!({ "token": token.expose_secret(), "reason": reason });
        self.ask(Method::POST, &format!("/holds/{}/{act}", path_part(id)), &body)
    }
}

/// An id as a part of a path: what is none is told so by the gateway.
pub(super) fn path_part(id: &str) -> String {
    id.chars().filter(|character| character.is_ascii_alphanumeric() || *character == '-').collect()
}

pub(super) fn ended(outcome: Result<Exit, Early>, out: &mut Out<'_>) -> io::Result<Exit> {
    match outcome {
        Ok(exit) => Ok(exit),
        Err((complaint, exit)) => {
            out.complain(complaint);
            Ok(exit)
        }
    }
}

/// Runs `holds`.
///
/// # Errors
/// Output cannot be written.
pub fn list(args: &ListArgs, out: &mut Out<'_>) -> io::Result<Exit> {
    let asked = || {
        let line = Line::open(&args.gateway)?;
        match (&args.id, args.proof.token().map_err(|fault| (fault, Exit::Usage))?) {
            (None, _) => line.ask(Method::GET, "/holds", &Value::Null),
            (Some(id), None) => line.ask(Method::GET, &format!("/holds/{}", path_part(id)), &Value::Null),
            (Some(id), Some(token)) => line.wish(id, "show", &token, ""),
        }
    };
    let page = match asked() {
        Ok(page) => page,
        Err(early) => return ended(Err(early), out),
    };
    if args.json {
        out.line(&page)?;
    } else if args.id.is_some() {
        out.write(&picture(&page))?;
    } else {
        for row in table(page["holds"].as_array().map(Vec::as_slice).unwrap_or_default()) {
            out.line(row)?;
        }
    }
    Ok(Exit::Yes)
}

/// Runs `approve`.
///
/// # Errors
/// As [`list`].
pub fn approve(args: &ApproveArgs, out: &mut Out<'_>) -> io::Result<Exit> {
    decide(&args.gateway, (&args.id, "approve", &args.reason), &args.proof, args.json, out)
}

/// Runs `deny`.
///
/// # Errors
/// As [`list`].
pub fn deny(args: &DenyArgs, out: &mut Out<'_>) -> io::Result<Exit> {
    decide(&args.gateway, (&args.id, "deny", &args.reason), &args.proof, args.json, out)
}

fn decide(
    gateway: &Gateway,
    (id, act, reason): (&str, &str, &str),
    proof: &Proof,
    as_json: bool,
    out: &mut Out<'_>,
) -> io::Result<Exit> {
    let asked = || {
        let token = proof.token().map_err(|fault| (fault, Exit::Usage))?.ok_or_else(|| {
            let what = "no token: give one by PGTURNSTILE_TOKEN, --token-file or --token, from an issuer of the gateway";
            (what.to_owned(), Exit::Usage)
        })?;
        Line::open(gateway)?.wish(id, act, &token, reason)
    };
    let done = match asked() {
        Ok(done) => done,
        Err(early) => return ended(Err(early), out),
    };
    if as_json {
        out.line(&done)?;
        return Ok(Exit::Yes);
    }
    let (id, by) = (text(&done, "id"), text(&done, "by"));
    let ticket = done["ticket"] == Value::Bool(true);
    out.line(match (act, done["missing"].as_u64()) {
        ("deny", _) if ticket => {
            format!("denied: {id}, by {by}; its requester is told when the statement is run again")
        }
        ("deny", _) => format!("denied: {id}, by {by}"),
        (_, Some(0)) if ticket => {
            format!("approved: {id}, by {by}; its statement passes once, when it is run again")
        }
        (_, Some(0)) => format!("approved: {id}, by {by}; it goes on"),
        (_, missing) => {
            format!("counted: {id}, by {by}; {} more must approve", missing.unwrap_or_default())
        }
    })?;
    Ok(Exit::Yes)
}

/// Runs `hold`.
///
/// # Errors
/// As [`list`].
pub fn hold(args: &HoldArgs, out: &mut Out<'_>) -> io::Result<Exit> {
    let HoldCommand::Wait(args) = &args.command;
    let began = Instant::now();
    let is_over = || args.timeout.is_some_and(|limit| began.elapsed() >= Duration::from_secs(limit));
    let line = match Line::open(&args.gateway) {
        Ok(line) => line,
        Err(early) => return ended(Err(early), out),
    };
    let path = format!("/holds/{}", path_part(&args.id));
    loop {
        let page = match line.ask(Method::GET, &path, &Value::Null) {
            Ok(page) => page,
            Err(early) => return ended(Err(early), out),
        };
        let exit = match text(&page, "state").as_str() {
            "released" | "used" => Exit::Yes,
            "approved" if page["ticket"] == Value::Bool(true) => Exit::Yes,
            "denied" => Exit::Denied,
            "expired" => Exit::Expired,
            "withdrawn" => Exit::Withdrawn,
            "superseded" => Exit::Superseded,
            _ if is_over() => Exit::TimedOut,
            _ => {
                std::thread::sleep(LOOK_AGAIN);
                continue;
            }
        };
        if args.json {
            out.line(&page)?;
        } else {
            out.line(format_args!(
                "{}: {} {}",
                text(&page, "id"),
                text(&page, "state"),
                text(&page, "reason")
            ))?;
        }
        return Ok(exit);
    }
}

/// A field as a terminal may show it.
pub(super) fn text(page: &Value, name: &str) -> String {
    match &page[name] {
        Value::String(text) => escaped(text),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            escaped(&other.to_string())
        }
    }
}

/// Several of them.
fn texts(list: &Value) -> String {
    let texts = list.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    texts.filter_map(Value::as_str).map(escaped).collect::<Vec<_>>().join(", ")
}

pub(super) fn requester(page: &Value) -> String {
    let who = &page["requester"];
    let name = if who["person"].is_string() { text(who, "person") } else { text(who, "subject") };
    format!("{}/{name}", text(who, "issuer"))
}

fn table(holds: &[Value]) -> Vec<String> {
    let titles = [
        ("ID", false),
        ("REQUESTER", false),
        ("TARGET", false),
        ("LEFT", true),
        ("MISSING", true),
        ("WHAT", false),
    ];
    let rows = holds.iter().map(|page| {
        let needs = page["needs"].as_array().map(Vec::as_slice).unwrap_or_default();
        let missing: u64 = needs.iter().filter_map(|need| need["missing"].as_u64()).sum();
        vec![
            text(page, "id"),
            shortened(&requester(page), 32),
            shortened(&text(page, "target"), 16),
            format!("{} s", text(page, "left_s")),
            missing.to_string(),
            shortened(&text(page, "message"), 90),
        ]
    });
    aligned(&titles, rows)
}

/// Everything of one hold, each line safe to print.
pub(super) fn picture(page: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _written: std::fmt::Result = writeln!(out, "{name:<12}{value}");
        }
    };
    let is_ticket = page["ticket"] == Value::Bool(true);
    line(if is_ticket { "ticket" } else { "hold" }, format!("{}  {}", text(page, "id"), text(page, "state")));
    line("what", text(page, "message"));
    line("requester", format!("{} (subject {})", requester(page), text(&page["requester"], "subject")));
    line("groups", texts(&page["requester"]["groups"]));
    if let Some(claims) = page["requester"]["claims"].as_object() {
        for (path, value) in claims {
            line("claim", format!("{} = {}", escaped(path), escaped(&value.to_string())));
        }
    }
    line("target", format!("{} by access {}", text(page, "target"), text(page, "access")));
    for need in page["needs"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let (quorum, missing) = (text(need, "quorum"), text(need, "missing"));
        line(
            "needs",
            format!(
                "{quorum} of {} by rule {}; missing {missing}",
                texts(&need["groups"]),
                text(need, "rule")
            ),
        );
    }
    line("approved by", texts(&page["approved_by"]));
    line("reaches", texts(&page["reaches"]));
    if page["in_transaction"] == Value::Bool(true) {
        let open = if is_ticket {
            "open, as it must be again"
        } else {
            "open: what it has locked stays locked while this waits"
        };
        line("transaction", open.to_owned());
    }
    match text(page, "state").as_str() {
        "open" => line("left", format!("{} s", text(page, "left_s"))),
        "approved" if is_ticket => line("left", format!("{} s, to be run again", text(page, "left_s"))),
        _ => line("reason", text(page, "reason")),
    }
    line("binding", text(page, "binding"));
    let exact = page["text"].as_str();
    for (number, row) in
        (1..).zip(shown_lines(exact.unwrap_or_else(|| page["lifted"].as_str().unwrap_or_default())))
    {
        line(
            if number == 1 { if exact.is_some() { "text" } else { "lifted" } } else { "" },
            format!("{number:>4} | {row}"),
        );
    }
    for text in page["runs"].as_array().map(Vec::as_slice).unwrap_or_default() {
        for (number, row) in (1..).zip(shown_lines(text.as_str().unwrap_or_default())) {
            line(if number == 1 { "which runs" } else { "" }, format!("{number:>4} | {row}"));
        }
    }
    for (at, value) in (1..).zip(page["parameters"].as_array().map(Vec::as_slice).unwrap_or_default()) {
        line(&format!("${at}"), escaped(value.as_str().unwrap_or_default()));
    }
    out
}

/// A text line by line as it stands: only what could deceive a reader is escaped, backslashes of SQL stay.
fn shown_lines(text: &str) -> Vec<String> {
    let shown = |line: &str| {
        let mut safe = String::with_capacity(line.len());
        for character in line.chars() {
            if character != '\t' && is_deceptive(character) {
                safe.extend(character.escape_unicode());
            } else {
                safe.push(character);
            }
        }
        safe
    };
    text.split('\n').map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_deceive_an_approver_is_shown_as_what_it_is() {
        let page = json!({
            "id": "7K3M-9QX2-TB4R", "state": "open", "message": "DELETE on crm.orders", "target": "crm", "access": "a",
            "requester": { "issuer": "corp", "subject": "agent\u{1b}[2J", "groups": ["g"], "claims": { "run": "1\u{202e}" } },
            "needs": [{ "rule": "r (policy.toml:1)", "groups": ["dba"], "quorum": 1, "missing": 1 }],
            "text": "DELETE FROM t\r -- \u{202e}\n\tWHERE a = E'\\n'", "parameters": ["a\nb", "NULL"],
            "in_transaction": true, "expires_ms": 0, "binding": "00",
        });
        let shown = picture(&page);
        for line in shown.lines() {
            assert!(!line.chars().any(|character| character != '\t' && is_deceptive(character)), "{line:?}");
        }
        for needle in [
            "   1 | DELETE FROM t\\u{d} -- \\u{202e}",
            "   2 | \tWHERE a = E'\\n'",
            "$1          a\\u{a}b",
            "corp/agent\\u{1b}[2J",
            "1 of dba by rule r (policy.toml:1); missing 1",
            "transaction open",
        ] {
            assert!(shown.contains(needle), "{needle} in\n{shown}");
        }
    }

    #[test]
    fn an_id_cannot_name_another_page() {
        assert_eq!(path_part("7K3M/../../sessions?x#y"), "7K3Msessionsxy");
    }
}
