//! What a shard counts, for metrics.
//!
//! Owns: the closed lists of what is counted (every label of a metric is one of a list that stands in code), and the
//! counters of one shard. May not: be written by two threads: a shard's sessions run on its one thread, so a count is a
//! load and a store, without a locked instruction and without a cache line that another shard writes. Never fails.

use std::sync::atomic::{AtomicU64, Ordering};

use pgturnstile_rules::class::Class;

use super::denial::Refusal;

/// Kinds of statements that are counted: every class, and what was refused before its class was known.
const CLASSES: usize = Class::ALL.len() + 1;
/// The name of the last of them.
pub const UNREAD: &str = "unread";

macro_rules! counted {
    ($(#[$meta:meta])* $name:ident { $( $(#[$doc:meta])* $variant:ident = $label:literal, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$doc])* $variant, )* }

        impl $name {
            /// All, in the order of their numbers.
            pub const ALL: &'static [$name] = &[ $( $name::$variant, )* ];

            /// As a label's value.
            pub const fn name(self) -> &'static str {
                match self { $( $name::$variant => $label, )* }
            }
        }
    };
}

counted! {
    /// What became of a connection that asked for a session.
    Login {
        /// A session began.
        Admitted = "admitted",
        /// Not PostgreSQL, no TLS, a handshake that failed, bytes that cannot be read.
        Greeting = "bad_greeting",
        /// A listener behind load balancers: a peer that is none of them, or no header that can be read.
        Proxy = "bad_proxy",
        /// A startup packet that is refused.
        Startup = "bad_startup",
        /// No token, or one that is not believed.
        Token = "bad_token",
        /// It asked where tokens come from (OAUTHBEARER's discovery), which is no failed login.
        Discovery = "discovery",
        /// No target of that name.
        Target = "no_target",
        /// The policy gives no access, or the catalog is not there to resolve by.
        Access = "no_access",
        /// The login could not be recorded.
        Evidence = "no_evidence",
        /// `sessions_max` of the target.
        Slots = "no_slot",
        /// The target could not be dialled or refused the login.
        Dial = "no_dial",
        /// The target's session could not be prepared.
        Priming = "no_priming",
        /// `login_deadline_ms`.
        Deadline = "deadline",
    }
}

counted! {
    /// What kind of rule refused.
    RefusalKind {
        /// No permit covers it.
        NoPermit = "no_permit",
        /// A restrict of the policy.
        Restrict = "restrict",
        /// A label that cannot be masked.
        Label = "label",
        /// A guard that is built in: settings, read-only sessions.
        Guard = "guard",
        /// A statement behind a barrier.
        Barrier = "barrier",
        /// A text that is too long, not UTF-8, or does not parse.
        Text = "text",
        /// Names of statements and portals.
        Names = "names",
        /// FunctionCall and other frames that hold nothing to judge.
        Frame = "frame",
        /// The catalog is not there to resolve by.
        Catalog = "catalog",
        /// Evidence cannot be written.
        Evidence = "evidence",
        /// A statement that people had to approve, and that went without.
        Hold = "hold",
        /// Anything else that is built in.
        Other = "other",
    }
}

impl RefusalKind {
    /// The kind of a refusal, by its rule.
    pub fn of(refusal: &Refusal) -> Self {
        let Some(built_in) = refusal.rule.strip_prefix("built-in: ") else {
            return Self::of_policy(&refusal.rule);
        };
        match built_in {
            "barrier" | "guards-unread" | "order" => Self::Barrier,
            "encoding" | "statement-length" => Self::Text,
            "empty-prepared" | "name-length" | "names" | "reserved-name" | "unknown-name" => Self::Names,
            "function-call" => Self::Frame,
            "catalog" => Self::Catalog,
            "evidence" => Self::Evidence,
            other if other.starts_with("unparsable") => Self::Text,
            other if other.starts_with("hold") => Self::Hold,
            _ => Self::Other,
        }
    }

    /// A rule of the policy, as `id (place)` names it.
    fn of_policy(rule: &str) -> Self {
        if rule == "no permit" || rule == "default-deny (built in)" {
            Self::NoPermit
        } else if rule.starts_with("label ") {
            Self::Label
        } else if rule.ends_with("(built in)") {
            Self::Guard
        } else {
            Self::Restrict
        }
    }
}

/// A number that one thread moves and any may read.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one shard; see the module. Aligned so that no two shards share a cache line (128: the adjacent line
/// is fetched along).
#[derive(Debug)]
#[repr(align(128))]
pub struct Tally {
    client_bytes: Count,
    target_bytes: Count,
    facts_hits: Count,
    facts_misses: Count,
    decision_hits: Count,
    decision_misses: Count,
    beats: Count,
    logins: [Count; Login::ALL.len()],
    refusals: [Count; RefusalKind::ALL.len()],
    allowed: [Count; CLASSES],
    refused: [Count; CLASSES],
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// Everything at zero.
    pub fn new() -> Self {
        Self {
            client_bytes: Count::default(),
            target_bytes: Count::default(),
            facts_hits: Count::default(),
            facts_misses: Count::default(),
            decision_hits: Count::default(),
            decision_misses: Count::default(),
            beats: Count::default(),
            logins: std::array::from_fn(|_| Count::default()),
            refusals: std::array::from_fn(|_| Count::default()),
            allowed: std::array::from_fn(|_| Count::default()),
            refused: std::array::from_fn(|_| Count::default()),
        }
    }

    /// What became of a connection.
    pub fn login(&self, outcome: Login) {
        add(&self.logins, outcome as usize, 1);
    }

    /// Bytes read from the two peers of a session.
    pub(super) fn read(&self, client_bytes: u64, target_bytes: u64) {
        self.client_bytes.add(client_bytes);
        self.target_bytes.add(target_bytes);
    }

    /// Statements that may run.
    pub(super) fn allowed(&self, classes: impl Iterator<Item = Class>) {
        classes.for_each(|class| add(&self.allowed, class as usize, 1));
    }

    /// Statements that are refused together; none of them read: what was refused counts as one that was not.
    pub(super) fn refused(&self, refusal: &Refusal, classes: impl Iterator<Item = Class>) {
        add(&self.refusals, RefusalKind::of(refusal) as usize, 1);
        let read = classes.map(|class| add(&self.refused, class as usize, 1)).count();
        if read == 0 {
            add(&self.refused, CLASSES - 1, 1);
        }
    }

    /// A text's facts were remembered, or had to be made.
    pub(super) fn facts(&self, hit: bool) {
        if hit { &self.facts_hits } else { &self.facts_misses }.add(1);
    }

    /// A text's decision was remembered, or not.
    pub(super) fn decision(&self, hit: bool) {
        if hit { &self.decision_hits } else { &self.decision_misses }.add(1);
    }

    /// The shard's thread came round.
    pub fn beat(&self) {
        self.beats.add(1);
    }

    /// How often it did.
    pub fn beats(&self) -> u64 {
        self.beats.get()
    }
}

fn add(counts: &[Count], index: usize, more: u64) {
    if let Some(count) = counts.get(index) {
        count.add(more);
    }
}

/// Sums over shards. Each number is right for itself; two of them may be of slightly different moments.
#[derive(Clone, Debug)]
pub struct Sums {
    /// Bytes read from clients.
    pub client_bytes: u64,
    /// Bytes read from targets.
    pub target_bytes: u64,
    /// Texts whose facts were remembered.
    pub facts_hits: u64,
    /// Texts that were parsed.
    pub facts_misses: u64,
    /// Texts whose decision was remembered.
    pub decision_hits: u64,
    /// Texts that were judged.
    pub decision_misses: u64,
    /// By outcome, in the order of [`Login::ALL`].
    pub logins: [u64; Login::ALL.len()],
    /// By kind, in the order of [`RefusalKind::ALL`].
    pub refusals: [u64; RefusalKind::ALL.len()],
    /// By class, in the order of [`Class::ALL`], then [`UNREAD`].
    pub allowed: [u64; CLASSES],
    /// By class, likewise.
    pub refused: [u64; CLASSES],
}

impl Sums {
    /// The sums of these shards.
    pub fn of<'t>(tallies: impl Iterator<Item = &'t Tally>) -> Self {
        let mut sums = Self {
            client_bytes: 0,
            target_bytes: 0,
            facts_hits: 0,
            facts_misses: 0,
            decision_hits: 0,
            decision_misses: 0,
            logins: [0; Login::ALL.len()],
            refusals: [0; RefusalKind::ALL.len()],
            allowed: [0; CLASSES],
            refused: [0; CLASSES],
        };
        for tally in tallies {
            sums.client_bytes += tally.client_bytes.get();
            sums.target_bytes += tally.target_bytes.get();
            sums.facts_hits += tally.facts_hits.get();
            sums.facts_misses += tally.facts_misses.get();
            sums.decision_hits += tally.decision_hits.get();
            sums.decision_misses += tally.decision_misses.get();
            sum(&mut sums.logins, &tally.logins);
            sum(&mut sums.refusals, &tally.refusals);
            sum(&mut sums.allowed, &tally.allowed);
            sum(&mut sums.refused, &tally.refused);
        }
        sums
    }

    /// Every verdict and class with its count: `allow` or `refuse`, and the class's name.
    pub fn statements(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let names = || Class::ALL.iter().map(|class| class.name()).chain([UNREAD]);
        let allowed = names().zip(self.allowed).map(|(class, count)| ("allow", class, count));
        let refused = names().zip(self.refused).map(|(class, count)| ("refuse", class, count));
        allowed.chain(refused)
    }
}

fn sum(sums: &mut [u64], counts: &[Count]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_classes_are_their_places() {
        for (place, class) in Class::ALL.iter().enumerate() {
            assert_eq!(*class as usize, place, "{class}");
        }
    }

    #[test]
    fn shards_are_summed_by_class_outcome_and_kind() {
        let (a, b) = (Tally::new(), Tally::new());
        a.allowed([Class::ReadSelect, Class::ReadSelect, Class::WriteInsert].into_iter());
        b.allowed([Class::ReadSelect].into_iter());
        b.login(Login::Admitted);
        b.login(Login::Token);
        a.refused(&Refusal::built_in("42501", "built-in: function-call", "x"), [].into_iter());
        let label = Refusal {
            rule: "label crm.customers.ssn (policy.toml:8)".to_owned(),
            ..Refusal::built_in("", "", "")
        };
        b.refused(&label, [Class::ReadSelect].into_iter());
        let sums = Sums::of([&a, &b].into_iter());
        let seen: Vec<_> = sums.statements().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(
            seen,
            [
                ("allow", "read.select", 3),
                ("allow", "write.insert", 1),
                ("refuse", "read.select", 1),
                ("refuse", UNREAD, 1)
            ]
        );
        assert_eq!(sums.logins[Login::Admitted as usize] + sums.logins[Login::Token as usize], 2);
        assert_eq!(sums.refusals[RefusalKind::Frame as usize], 1);
        assert_eq!(sums.refusals[RefusalKind::Label as usize], 1);
    }

    #[test]
    fn rules_have_their_kinds() {
        for (rule, kind) in [
            ("default-deny (built in)", RefusalKind::NoPermit),
            ("any.blind-write (policy.toml:48)", RefusalKind::Restrict),
            ("read-only (built in)", RefusalKind::Guard),
            ("built-in: barrier", RefusalKind::Barrier),
            ("built-in: unparsable (syntax)", RefusalKind::Text),
            ("built-in: hold-denied", RefusalKind::Hold),
            ("built-in: holds-full", RefusalKind::Hold),
            ("built-in: something-new", RefusalKind::Other),
        ] {
            let refusal = Refusal { rule: rule.to_owned(), ..Refusal::built_in("", "", "") };
            assert_eq!(RefusalKind::of(&refusal), kind, "{rule}");
        }
    }
}
