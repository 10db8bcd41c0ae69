//! Events: what the records say, put together again.
//!
//! Owns: the types. A statement is one event with its judged text, its results, its refusal and what was masked of it; every other
//! record is an event of its own. Strings are as the parties spelled them: not escaped.

use std::rc::Rc;

use crate::evidence::chain::Hash;
use crate::evidence::describe::Value;
use crate::evidence::record::Kind;
use crate::evidence::record::v1::{Action, Facts, MaskCount, Outcome, Protocol};

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Global sequence of its record; of a statement, of the record that asked.
    pub sequence: u64,
    /// Global sequence of the record with which it was known whole: a cursor behind it has seen it.
    pub told_at: u64,
    /// When, nanoseconds since 1970 UTC.
    pub time_ns: u64,
    /// Hash of its record.
    pub hash: Hash,
    /// Its session, or the gateway's run.
    pub stream: [u8; 16],
    /// Number in that stream.
    pub number: u64,
    /// Who and where, as far as it was known by then; `None` for what the gateway did itself.
    pub session: Option<Rc<Session>>,
    /// What.
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Body {
    /// A statement was asked for.
    Statement(Box<Statement>),
    /// Anything else: the record's kind and fields.
    Record(Kind, Vec<(&'static str, Value)>),
}

impl Event {
    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match &self.body {
            Body::Statement(_) => Kind::Statement.name(),
            Body::Record(kind, _) => kind.name(),
        }
    }

    /// The statement, where it is one.
    pub fn statement(&self) -> Option<&Statement> {
        match &self.body {
            Body::Statement(statement) => Some(statement),
            Body::Record(..) => None,
        }
    }
}

/// A session, as far as it had come.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Global sequence of its opening.
    pub opened_at: u64,
    /// When it was opened, nanoseconds since 1970 UTC.
    pub opened_ns: u64,
    /// Address and port of the peer.
    pub peer: String,
    /// The listener's address.
    pub listener: String,
    /// TLS of the client's connection.
    pub tls: String,
    /// Who it is, once proven.
    pub identity: Option<Identity>,
    /// Where it goes, once chosen.
    pub target: Option<Target>,
}

/// Who a session is: verified.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// How it was proven.
    pub method: String,
    /// The issuer's entry in the configuration.
    pub issuer: String,
    /// The issuer as its tokens spell it.
    pub issuer_url: String,
    /// The token's subject.
    pub subject: String,
    /// The person behind it, where a claim says so.
    pub person: Option<String>,
    /// Groups of the policy that it matched.
    pub groups: Vec<String>,
    /// The claims kept: path and JSON.
    pub claims: Vec<(String, String)>,
    /// Thumbprint of the token.
    pub token_thumbprint: String,
    /// The token's own id.
    pub token_id: Option<String>,
}

/// Where a session goes.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The target's entry in the configuration.
    pub target: String,
    /// Its address and port.
    pub endpoint: String,
    /// Database.
    pub database: String,
    /// The access entry.
    pub access: String,
    /// The credential's entry.
    pub login: String,
    /// The database's user.
    pub user: String,
    /// `read` or `write`.
    pub mode: String,
    /// `gated` or `queued`.
    pub durability: String,
    /// The server's version.
    pub server_version: String,
    /// application_name as sent to the server.
    pub application_name: String,
}

/// What statements of a session share.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Global sequence of its record.
    pub sequence: u64,
    /// The text with its literals lifted; or why it is withheld.
    pub text: Result<String, String>,
    /// What is known of each statement of the text.
    pub facts: Vec<Facts>,
    /// The rule that decided.
    pub rule: String,
    /// Hash of the policy that holds it.
    pub policy_hash: Hash,
    /// Epoch of the catalog snapshot that resolved the names.
    pub catalog_epoch: u64,
}

/// A statement, and what became of it.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its text, facts and rule.
    pub judged: Rc<Judged>,
    /// Which frame brought it.
    pub protocol: Protocol,
    /// The verdict.
    pub action: Action,
    /// Bound parameters.
    pub parameters: u64,
    /// The prepared statement's name.
    pub name: String,
    /// The portal's name.
    pub portal: String,
    /// Length of the exact text, bytes.
    pub text_bytes: u64,
    /// Keyed commitment to the exact text; of an execution, that of its Parse.
    pub text_commitment: Option<Hash>,
    /// Keyed digest of the parameters.
    pub parameter_digest: Option<Hash>,
    /// What came back, in order; empty where nothing is expected or nothing came.
    pub results: Vec<Returned>,
    /// What the client was told of its refusal.
    pub refusal: Option<Refusal>,
    /// What was masked of it.
    pub masked: Vec<MaskCount>,
    /// What is kept of text, parameters and rows.
    pub captured: Captured,
    /// Its waits for people: what each asked for, and how it ended, with who approved.
    pub holds: Vec<Value>,
    /// Nothing is expected for it: a permitted Parse runs nothing.
    pub runs_nothing: bool,
    /// Its last answer is there.
    pub settled: bool,
}

/// What is kept of a statement's exact text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exact {
    /// All of it.
    Whole(String),
    /// With constants in place of what detectors found.
    Masked(String),
    /// Nothing, for this reason.
    Withheld(String),
}

/// What is kept of a statement and its results beyond their digests (`record = "text"` or `"rows"`).
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// Its exact text; of an execution, that of its Parse.
    pub text: Option<Rc<Exact>>,
    /// Its parameters, spelled in words where their type is known.
    pub parameters: Vec<Value>,
    /// Rows, or frames of a COPY, that are kept.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Where and why capture ended before the result did.
    pub ended: Vec<Value>,
    /// Errors and notices, as they left.
    pub reports: Vec<Value>,
    /// What the client says of itself in the text: nobody verified it.
    pub stated: Vec<Value>,
}

/// What came back for a statement.
#[derive(Clone, Debug)]
pub struct Returned {
    /// How it ended.
    pub outcome: Outcome,
    /// The command tag.
    pub tag: String,
    /// SQLSTATE of the error.
    pub sqlstate: Option<String>,
    /// Rows sent.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of COPY that came from the client.
    pub bytes_in: u64,
    /// Keyed digest of the rows as sent.
    pub digest: Option<Hash>,
    /// When it was forwarded, nanoseconds since 1970 UTC; 0 where it was not.
    pub started_ns: u64,
    /// When its last byte came.
    pub ended_ns: u64,
}

/// A refusal.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Number of its record in the session: what the client's reference names.
    pub number: u64,
    /// SQLSTATE.
    pub sqlstate: String,
    /// The rule, or the limit.
    pub rule: String,
    /// The primary message.
    pub message: String,
    /// How it was carried out.
    pub how: String,
}

impl Statement {
    /// How it ended: of several results, the last one's; `unknown` where its end is missing.
    pub fn outcome(&self) -> &'static str {
        if self.runs_nothing {
            return "parsed";
        }
        if !self.settled {
            return "unknown";
        }
        if self.refusal.is_some() {
            return "refused";
        }
        match self.results.last().map(|result| result.outcome) {
            Some(Outcome::Completed) => "completed",
            Some(Outcome::Failed) => "failed",
            Some(Outcome::Suspended) => "suspended",
            Some(Outcome::Skipped) => "skipped",
            Some(Outcome::Unknown) | None => "unknown",
        }
    }

    /// Rows sent, over all its results.
    pub fn rows(&self) -> u64 {
        self.results.iter().fold(0, |sum, result| sum.saturating_add(result.rows))
    }

    /// Values masked, over all places.
    pub fn masked_values(&self) -> u64 {
        self.masked.iter().fold(0, |sum, mask| sum.saturating_add(mask.count))
    }

    /// The verdict's word.
    pub fn verdict(&self) -> &'static str {
        match self.action {
            Action::Allow => "allow",
            Action::Hold => "hold",
            Action::Refuse => "refuse",
        }
    }

    /// The word of the frame that brought it.
    pub fn protocol(&self) -> &'static str {
        match self.protocol {
            Protocol::Simple => "simple",
            Protocol::Parse => "parse",
            Protocol::Execute => "execute",
            Protocol::Injected => "injected",
        }
    }

    /// Its classes: of each statement, of what each reaches, and of its further acts; each once, in order.
    pub fn classes(&self) -> Vec<&str> {
        let mut classes: Vec<&str> = Vec::new();
        for facts in &self.judged.facts {
            let accesses = facts.relations.iter().map(|relation| relation.access.as_str());
            let acts = facts.acts.iter().filter_map(|act| act.split(' ').next());
            for class in std::iter::once(facts.class.as_str()).chain(accesses).chain(acts) {
                if !classes.contains(&class) {
                    classes.push(class);
                }
            }
        }
        classes
    }

    /// The relations that it reaches, each once, in order.
    pub fn relations(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for relation in self.judged.facts.iter().flat_map(|facts| &facts.relations) {
            if !names.contains(&relation.name.as_str()) {
                names.push(&relation.name);
            }
        }
        names
    }
}
