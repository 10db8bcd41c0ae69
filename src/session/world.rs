//! What a session stands on: the policy in force, its target's catalog, the parser for long texts.
//!
//! Owns: taking the newest of them as one [`Ground`], so that a statement is judged under one policy and one catalog. May
//! not: judge, or read the catalog itself. Fails closed: no catalog, or no access under a new policy, ends the session.

use std::sync::Arc;

use pgturnstile_rules::catalog::Snapshot;
use pgturnstile_rules::policy::condition::Condition;
use pgturnstile_rules::policy::principal::Principal;
use pgturnstile_rules::policy::{Policy, Subject};
use pgturnstile_rules::resolve::SearchPath;
use pgturnstile_rules::statement::facts::TextFacts;
use pgturnstile_rules::statement::{Done, Unparsable};

use super::end::End;

/// One policy and one catalog, seen by one principal on one target.
#[derive(Debug)]
pub struct Ground {
    /// Names it: equal numbers give equal verdicts for equal texts. Never 0.
    pub number: u128,
    /// The policy.
    pub policy: Arc<Policy>,
    /// The principal's part of it.
    pub subject: Subject,
    /// The catalog.
    pub snapshot: Arc<Snapshot>,
    /// Which reading of the catalog it is; counts up.
    pub reading: u64,
    /// Which policy it is; counts up.
    pub generation: u64,
    /// The search path of the session.
    pub path: SearchPath,
    /// Some rule asks whether a transaction is open.
    pub depends_on_transaction: bool,
}

/// Where grounds come from. One for each target; the gateway implements it.
pub trait Source: Send + Sync {
    /// The policy in force.
    fn policy(&self) -> Arc<Policy>;
    /// Counts up with each policy that comes into force: cheap to read.
    fn policy_generation(&self) -> u64;
    /// The newest catalog and which reading it is; `None` while there is none that is fresh enough.
    fn catalog(&self) -> Option<(Arc<Snapshot>, u64)>;
    /// The number of the newest catalog, 0 without one: cheap to read.
    fn catalog_reading(&self) -> u64;
    /// Asks for a new reading; the number of the first reading that begins after this call.
    fn read_catalog_again(&self) -> u64;
    /// The database role of a `[credential.NAME]`: what `$user` in a search path means.
    fn login_user(&self, credential: &str) -> String;
    /// Parses a long text on a thread of its own; `done` hears of it.
    ///
    /// # Errors
    /// It was not taken: too long, too many wait.
    fn parse(&self, text: Arc<[u8]>, principal: u64, done: Done) -> Result<(), Unparsable>;
}

/// See the module.
pub struct World {
    source: Arc<dyn Source>,
    principal: Principal,
    target: String,
    access: Option<String>,
}

impl World {
    /// What `principal` stands on at `target`; `access` is the user name of its startup packet.
    pub fn new(
        source: Arc<dyn Source>,
        principal: Principal,
        target: String,
        access: Option<String>,
    ) -> Self {
        Self { source, principal, target, access }
    }

    /// One number for the principal: parses of one principal wait for each other.
    pub fn principal_number(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(self.principal.issuer.as_bytes())
            .update(&[0])
            .update(self.principal.subject.as_bytes());
        let mut low = [0; 8];
        low.copy_from_slice(hasher.finalize().as_bytes().get(..8).unwrap_or(&[0; 8]));
        u64::from_le_bytes(low)
    }

    /// The principal.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The ground of a session that begins now.
    ///
    /// # Errors
    /// Why there is none, safe to show to the client.
    pub fn ground(&self) -> Result<Ground, End> {
        let generation = self.source.policy_generation();
        let policy = self.source.policy();
        let subject = policy
            .subject(&self.principal, &self.target, self.access.as_deref())
            .map_err(|none| End::operator("28000", format!("pgturnstile refused the session: {none}")))?;
        let Some((snapshot, reading)) = self.source.catalog() else {
            return Err(End::Fatal {
                fault: super::end::Fault::Gateway,
                sqlstate: "57P03",
                message: format!(
                    "pgturnstile refused the session: the catalog of target {} has not been read, or not lately \
                     enough, and without it no name can be resolved. Next: retry; if it stays so, the operator finds \
                     the reason in the gateway's log",
                    self.target
                )
                .into(),
            });
        };
        let path = SearchPath::new(
            &subject.access().guards.search_path,
            &self.source.login_user(&subject.access().login),
        );
        let number = number(&policy, &subject, reading);
        let depends_on_transaction = asks_for_transaction(&policy);
        Ok(Ground { number, policy, subject, snapshot, reading, generation, path, depends_on_transaction })
    }

    /// Whether `ground` is still the newest.
    pub fn current(&self, ground: &Ground) -> bool {
        self.source.catalog_reading() == ground.reading
            && self.source.policy_generation() == ground.generation
    }

    /// The newest ground in place of `ground`.
    ///
    /// # Errors
    /// As [`Self::ground`]; also where the access entry changed, since login and guards stand in the startup packet.
    pub fn renew(&self, ground: &Ground) -> Result<Arc<Ground>, End> {
        let next = self.ground()?;
        if next.subject.access() != ground.subject.access() {
            return Err(End::operator(
                "57P01",
                "pgturnstile ended the session: its access entry was changed by a new policy. Next: reconnect",
            ));
        }
        Ok(Arc::new(next))
    }

    /// See [`Source::read_catalog_again`].
    pub fn read_catalog_again(&self) -> u64 {
        self.source.read_catalog_again()
    }

    /// Parses a long text elsewhere.
    ///
    /// # Errors
    /// As the parser's; a parser that went away counts as one that could not read the text.
    pub async fn parse_elsewhere(&self, text: &str, principal: u64) -> Result<TextFacts, Unparsable> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let done = Box::new(move |facts| {
            // A session that went away meanwhile does not listen any more.
            drop(tell.send(facts));
        });
        self.source.parse(Arc::from(text.as_bytes()), principal, done)?;
        told.await.unwrap_or(Err(Unparsable::Closed))
    }
}

/// Everything that a verdict depends on beside the text and the transaction: equal numbers, equal verdicts.
fn number(policy: &Policy, subject: &Subject, reading: u64) -> u128 {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(&policy.hash());
    part(subject.target().as_bytes());
    part(subject.access().id.as_bytes());
    for group in subject.groups() {
        part(group.as_bytes());
    }
    part(b"unknown");
    for (group, _) in subject.unknown_groups() {
        part(group.as_bytes());
    }
    part(&reading.to_le_bytes());
    let hash = hasher.finalize();
    let mut low = [0; 16];
    low.copy_from_slice(hash.as_bytes().get(..16).unwrap_or(&[0; 16]));
    u128::from_le_bytes(low).max(1)
}

fn asks_for_transaction(policy: &Policy) -> bool {
    let asks = |conditions: &[Condition]| conditions.iter().any(|c| matches!(c, Condition::InTransaction(_)));
    policy.model().restricts.iter().any(|restrict| asks(&restrict.when) || asks(&restrict.unless))
}
