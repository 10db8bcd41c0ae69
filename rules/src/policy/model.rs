//! A policy as read: every rule with its place, nothing compiled yet.
//!
//! Owns: the plain types behind policy.toml (config.md). May not: evaluate. A value of these types has passed the checks
//! of the loader; names of groups are positions in [`Model::groups`].

use std::sync::Arc;

use crate::class::Class;
use crate::mask::detect::Detector;
use crate::mask::plan::{Canonical as Canonicalised, Style};
use crate::policy::condition::Condition;
use crate::policy::group::Group;
use crate::policy::object::Tier;
use crate::policy::packs::Pack;
use crate::policy::pattern::{Glob, On};
use crate::policy::place::Place;

/// A whole policy.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What holds where nothing else is said.
    pub defaults: Defaults,
    /// Groups, by position.
    pub groups: Vec<Group>,
    /// Which login a session gets.
    pub accesses: Vec<Arc<Access>>,
    /// What is sensitive.
    pub labels: Vec<Label>,
    /// What is recognised by pattern where no label stands.
    pub detections: Vec<Detection>,
    /// Functions whose body the operator stands for.
    pub vouches: Vec<Vouch>,
    /// What adds.
    pub permits: Vec<Permit>,
    /// What tightens.
    pub restricts: Vec<Restrict>,
    /// The policy's own tests.
    pub tests: Vec<Test>,
}

/// `[defaults]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// How much of a statement and its result the evidence keeps; `None`: rows where labels or detectors are active, digests
    /// elsewhere.
    pub record: Option<Record>,
    /// Bytes of rows, and of COPY data in each direction, kept of one result under `record = "rows"`.
    pub record_rows_bytes_max: u64,
    /// How changes of the catalog behind the gateway are met.
    pub catalog_drift: Drift,
}

/// How changes of the catalog behind the gateway are met, where something is labelled (lineage.md 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// The catalog is compared every two seconds: what was changed since is not known.
    Bounded,
    /// Nothing of an answer leaves before a look at the catalog, begun when the statement was planned, has confirmed it.
    Stamped,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { record: None, record_rows_bytes_max: 1_048_576, catalog_drift: Drift::Bounded }
    }
}

/// How much of a statement and its result the evidence keeps (README decision 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Digests of the result.
    Digest,
    /// And exact texts, parameters, texts of the server.
    Text,
    /// And rows and COPY data as they left, masked.
    Rows,
}

impl Record {
    /// The word that a policy writes.
    pub const fn name(self) -> &'static str {
        match self {
            Record::Digest => "digest",
            Record::Text => "text",
            Record::Rows => "rows",
        }
    }
}

/// A set of groups, or everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// `["*"]`.
    Everyone,
    /// Positions in [`Model::groups`].
    Listed(Vec<usize>),
}

/// A set of targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(pub Vec<Glob>);

impl Targets {
    /// Whether `target` is among them.
    pub fn contain(&self, target: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(target))
    }
}

/// A set of classes, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u64);

// One bit a class.
const _: () = assert!(Class::ALL.len() <= 64);

impl Classes {
    /// Every class that `pattern` covers (`*`, a parent, a leaf).
    pub fn covered_by(pattern: &str) -> Self {
        Class::ALL
            .iter()
            .filter(|class| class.covered_by(pattern))
            .fold(Self::default(), |all, class| all.with(*class))
    }

    /// With one more.
    #[must_use]
    pub fn with(self, class: Class) -> Self {
        Self(self.0 | Self::bit(class))
    }

    /// Both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `class` is in.
    pub fn contain(self, class: Class) -> bool {
        self.0 & Self::bit(class) != 0
    }

    /// Whether nothing is in.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in the order of the reference.
    pub fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.iter().copied().filter(move |class| self.contain(*class))
    }

    const fn bit(class: Class) -> u64 {
        1 << (class as u8)
    }
}

/// Id and place of a rule: what a decision names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its id; rules of a pack bear the pack's name in front (`drivers.chatter`).
    pub id: Arc<str>,
    /// Where it stands.
    pub place: Place,
}

/// `[[access]]`: the login and the guards of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Its id.
    pub id: Arc<str>,
    /// Where it stands.
    pub place: Place,
    /// Who gets it.
    pub groups: Groups,
    /// On which targets.
    pub targets: Targets,
    /// Name of the `[credential.*]` entry.
    pub login: String,
    /// Whether sessions may write.
    pub mode: Mode,
    /// What stands in the startup packet.
    pub guards: Guards,
    /// When a statement may be forwarded.
    pub durability: Durability,
    /// How much of a statement and its result the evidence keeps; `None`: as `[defaults]` says.
    pub record: Option<Record>,
    /// Bytes of rows kept of one result; `None`: as `[defaults]` says.
    pub record_rows_bytes_max: Option<u64>,
}

/// Whether sessions may write (README decision 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Read-only in the startup packet; escapes are refused by facts.
    Read,
    /// Read and write.
    Write,
}

impl Mode {
    /// The word that a policy writes.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Read => "read",
            Mode::Write => "write",
        }
    }
}

/// When a statement may be forwarded (README decision 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Only once its record is durable, unless it is proven.
    Gated,
    /// Once its record is in the queue.
    Queued,
}

impl Durability {
    /// The word that a policy writes.
    pub const fn name(self) -> &'static str {
        match self {
            Durability::Gated => "gated",
            Durability::Queued => "queued",
        }
    }
}

/// What stands in the startup packet of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// `statement_timeout`, milliseconds.
    pub statement_timeout_ms: Option<u64>,
    /// `lock_timeout`, milliseconds.
    pub lock_timeout_ms: Option<u64>,
    /// `idle_in_transaction_session_timeout`, milliseconds.
    pub idle_in_transaction_ms: Option<u64>,
    /// Schemas of `search_path`, exact names, in order. Mandatory, may be empty.
    pub search_path: Vec<String>,
}

impl Access {
    /// The settings of the startup packet that carry this entry, name and value, in a fixed order.
    pub fn startup_settings(&self) -> Vec<(&'static str, String)> {
        let guards = &self.guards;
        let quoted: Vec<String> = guards.search_path.iter().map(|name| quote_identifier(name)).collect();
        let read_only = match self.mode {
            Mode::Read => "on",
            Mode::Write => "off",
        };
        // An empty path is written as one empty identifier, as `SET search_path = ''` does.
        let path = if quoted.is_empty() { "\"\"".to_owned() } else { quoted.join(", ") };
        let mut settings =
            vec![("search_path", path), ("default_transaction_read_only", read_only.to_owned())];
        let limits = [
            ("statement_timeout", guards.statement_timeout_ms),
            ("lock_timeout", guards.lock_timeout_ms),
            ("idle_in_transaction_session_timeout", guards.idle_in_transaction_ms),
        ];
        for (name, value) in limits {
            if let Some(milliseconds) = value {
                settings.push((name, milliseconds.to_string()));
            }
        }
        settings
    }
}

/// Always quoted: what needs no quotes is the same name with them.
fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `[[label]]`: what is sensitive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where it stands.
    pub place: Place,
    /// The column as written.
    pub column: String,
    /// Its schema, relation and column.
    pub parts: [Glob; 3],
    /// How sensitive.
    pub tier: Tier,
    /// The style of its mask.
    pub mask: Mask,
    /// Bits of entropy of the column's values, where the operator states them.
    pub entropy_bits: Option<u32>,
    /// How values are brought to one form before they are compared or tokenised.
    pub canonical: Option<Canonical>,
}

/// Styles of masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// SQL NULL.
    Null,
    /// All but the last four characters.
    Last4,
    /// The part before the `@`.
    Domain,
    /// A keyed token.
    Token,
}

impl Mask {
    /// The words that a policy may write.
    pub const NAMES: &'static [(&'static str, Mask)] =
        &[("null", Mask::Null), ("last4", Mask::Last4), ("domain", Mask::Domain), ("token", Mask::Token)];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Mask::Null => "null",
            Mask::Last4 => "last4",
            Mask::Domain => "domain",
            Mask::Token => "token",
        }
    }
}

/// Canonical forms of labelled values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonical {
    /// Lower case.
    Lower,
    /// Digits only.
    Digits,
}

impl Canonical {
    /// The words that a policy may write.
    pub const NAMES: &'static [(&'static str, Canonical)] =
        &[("lower", Canonical::Lower), ("digits", Canonical::Digits)];
}

/// `[[detector]]`: what is recognised by pattern in columns without a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// Id and place.
    pub rule: Rule,
    /// For whom.
    pub groups: Groups,
    /// On which targets.
    pub targets: Targets,
    /// Which detectors.
    pub detect: Vec<Detector>,
    /// How a match is masked.
    pub style: Style,
}

/// Words for the styles of detectors, the strictest first.
pub const DETECTOR_STYLES: &[(&str, Style)] = &[
    ("fixed", Style::Fixed),
    ("token", Style::Token(Canonicalised::AsIs)),
    ("domain", Style::Domain),
    ("last4", Style::Last(4)),
];

/// `[[vouch]]`: a function whose body the operator stands for, by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouch {
    /// Where it stands.
    pub place: Place,
    /// The function as written.
    pub function: String,
    /// Digest of the body, `blake3:` and 64 hexadecimal digits.
    pub body: String,
    /// Relations it reads.
    pub reads: Vec<String>,
}

/// How much of a labelled column a permit discloses: `clear < token < masked < withheld`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disclose {
    /// In clear, up to and including a tier.
    ClearUpTo(Tier),
    /// As a keyed token.
    Token,
    /// By the label's mask.
    #[default]
    Masked,
    /// Not at all.
    Withheld,
}

/// `[[permit]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Id and place.
    pub rule: Rule,
    /// For whom.
    pub groups: Groups,
    /// On which targets.
    pub targets: Targets,
    /// Which classes.
    pub classes: Classes,
    /// On which objects.
    pub on: On,
    /// What of labelled columns.
    pub disclose: Disclose,
}

/// `[[restrict]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restrict {
    /// Id and place.
    pub rule: Rule,
    /// For whom.
    pub groups: Groups,
    /// On which targets.
    pub targets: Targets,
    /// Which classes.
    pub classes: Classes,
    /// On which objects.
    pub on: On,
    /// It applies when all of these are met.
    pub when: Vec<Condition>,
    /// It does not apply when all of these are met; empty exempts nothing.
    pub unless: Vec<Condition>,
    /// What it does.
    pub then: Then,
    /// The operator's own words for the client.
    pub message: Option<String>,
    /// It only records what it would have done, up to the end of a day.
    pub observe: Option<Observe>,
}

/// What a restrict does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Hold for approval.
    Hold(Hold),
    /// Stop a running statement.
    Cut,
    /// Refuse.
    Refuse,
}

impl Then {
    /// The word that a policy writes.
    pub const fn name(&self) -> &'static str {
        match self {
            Then::Hold(_) => "hold",
            Then::Cut => "cut",
            Then::Refuse => "refuse",
        }
    }
}

/// Who may approve a hold, and for how long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Groups of approvers, positions in [`Model::groups`].
    pub approvers: Vec<usize>,
    /// How many distinct humans.
    pub quorum: u32,
    /// How long a hold waits, seconds.
    pub ttl_s: u64,
    /// How long it waits inside a transaction, seconds.
    pub in_transaction_ttl_s: u64,
    /// How long a ticket lives, seconds; `None`: there are none.
    pub ticket_ttl_s: Option<u64>,
    /// What the client does meanwhile.
    pub mode: HoldMode,
}

/// What a client does while people decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldMode {
    /// It waits; unanswered, the hold becomes a ticket where one may be had.
    Wait,
    /// It is refused at once, with a ticket.
    Ticket,
}

impl HoldMode {
    /// The word that a policy writes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            HoldMode::Wait => "wait",
            HoldMode::Ticket => "ticket",
        }
    }
}

/// A restrict that is only measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observe {
    /// The last day (UTC) on which it does not act, in days since 1970-01-01.
    pub until_day: i64,
    /// That day as written.
    pub until: String,
    /// Why.
    pub reason: String,
}

/// `[[test]]`.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its name; tests of a pack bear the pack's name in front.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// The shipped pack in which it stands: it is run against that pack alone.
    pub pack: Option<&'static Pack>,
    /// Who asks.
    pub who: TestPrincipal,
    /// On which target.
    pub target: String,
    /// A SQL file that makes the catalog, relative to the policy; `None` is an empty database.
    pub catalog: Option<String>,
    /// Texts that the session has sent before, each by itself; all of them have to pass.
    pub before: Vec<String>,
    /// The text.
    pub sql: String,
    /// Whether a transaction is open.
    pub in_transaction: bool,
    /// What must come out.
    pub expect: Expect,
}

/// Who asks in a test.
#[derive(Clone, Debug)]
pub enum TestPrincipal {
    /// A JSON file with claims, relative to the policy.
    File(String),
    /// Claims written in the test.
    Inline(serde_json::Map<String, serde_json::Value>),
}

/// What must come out of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The action that the policy asks for.
    pub action: String,
    /// How each field is disclosed.
    pub fields: Option<Vec<String>>,
    /// Rules that must have spoken.
    pub rules: Vec<String>,
}
